"""Evaluation: models answer held-out prompts and suites, and statistics say which is better."""
