"""Titles of the held-out accuracy table's rows, shared by the report and the terminal summary."""

from __future__ import annotations

DOMAIN_TITLES = {
    "verified": "math + code",
    "math": "math",
    "code": "code",
    "verified_seen": "seen templates",
    "verified_unseen": "unseen templates",
}
"""Key in evaluate/metrics.json -> title, in the order of the table."""
