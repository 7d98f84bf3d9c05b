"""Sampling: which responses are missing, and how sources are asked for them."""
