"""Scoring: verdicts, rewards, and how well the two agree."""
