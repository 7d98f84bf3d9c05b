"""Sampling: finds the missing responses and requests them from the sources."""
