"""Formats of public benchmark sets: each turns a row of the set into a prompt row."""
