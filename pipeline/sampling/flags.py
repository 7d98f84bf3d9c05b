"""Flags of a sample, derived from its text: truncated, empty, refused, duplicate."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..records import ResponseRow

REFUSAL = re.compile(
    r"\s*(i'?m (very |so )?sorry,? but|i apologi[sz]e,? but|sorry,? (but )?i (can'?t|cannot)"
    r"|as an ai( language model)?\b"
    r"|i('m| am) (not able|unable) to|i (can'?t|cannot|won'?t) (help|assist|provide|fulfil|comply|answer|do that)"
    r"|(很|非常)?抱歉|对不起|作为(一个|一名)?(人工智能|ai)|我(无法|不能)(提供|回答|协助|帮助|满足))",
    re.IGNORECASE,
)
"""The beginnings of refusals, in the two languages of the product."""


def flags(text: str, finish_reason: str, reject: str) -> list[str]:
    """Flags of one sample: `truncated`, `empty`, `refused`. A flag does not drop the sample."""
    if reject:
        return []
    found = ["truncated"] if finish_reason == "length" else []
    if not text.strip():
        found.append("empty")
    elif REFUSAL.match(text.replace("\u2019", "'")):
        found.append("refused")
    return found


def flag_duplicates(rows: Sequence[ResponseRow]) -> None:
    """Sets `duplicate` on each sample whose text equals that of an earlier sample of the same prompt, source and
    parameters."""
    seen = set()
    for row in sorted(rows, key=lambda r: r["sample_index"]):
        row["flags"] = [f for f in row["flags"] if f != "duplicate"]
        if row["reject"] or not row["text"].strip():
            continue
        key = (row["prompt_id"], row["source"], row["revision"], row["template"], row["params"], row["text"])
        if key in seen:
            row["flags"].append("duplicate")
        seen.add(key)
