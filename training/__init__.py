"""SFT and DPO of the target with TRL on Ray Train."""
