"""Prompt files: read, normalised, and cleared of duplicates and contamination."""
