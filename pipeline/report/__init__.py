"""The report: the page, its plots, the benchmark tables and the model card."""
