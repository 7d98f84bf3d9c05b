"""Prompt files: reading, normalization, and removal of duplicates and contamination."""
