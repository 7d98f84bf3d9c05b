"""Ray Train: SFT and DPO with TRL, evaluation and the report."""
