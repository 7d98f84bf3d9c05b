"""Math verification: the final answer of a response, and whether it equals the gold answer."""

from __future__ import annotations

from .verdict import check, gold_answer

__all__ = ["check", "gold_answer"]
