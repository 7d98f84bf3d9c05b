"""Answers that continue a part of a program (LiveBench's task coding_completion)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..records import ResponseRow
from ..verify.code.blocks import fenced_blocks, without_thoughts


def completed(beginnings: Mapping[str, str], responses: Sequence[ResponseRow]) -> list[ResponseRow]:
    """The responses with whole programs, as they are verified.

    Args:
        beginnings: prompt id -> the part of the program that the prompt gives.
    """
    return [
        {**r, "text": whole(beginnings[r["prompt_id"]], r["text"])} if r["prompt_id"] in beginnings else r
        for r in responses
    ]


def whole(beginning: str, response: str) -> str:
    """The beginning and the response's last fenced block (all of it without a fence); the response if it repeats it."""
    answer = without_thoughts(response)
    fenced = fenced_blocks(answer)
    code = fenced[-1][1] if fenced else answer
    if not code.strip() or code.strip().startswith(beginning.strip()):
        return response
    return f"```python\n{beginning}\n{code}\n```"
