"""What is marked in an answer: tags, boxes, bold text, the last line."""

from __future__ import annotations

import re


def tagged(text: str, tag: str) -> str | None:
    """The text in the last pair of tags."""
    end = text.rfind(f"</{tag}>")
    start = text.rfind(f"<{tag}>", 0, max(end, 0))
    return text[start + len(tag) + 2 : end] if end > start >= 0 else None


def boxed(text: str) -> str | None:
    """The text in the last complete box, without LaTeX's commands for text."""
    start = max(text.rfind("\\boxed{"), text.rfind("\\fbox{"))
    if start < 0:
        return None
    begin = text.index("{", start)
    depth = 0
    for i in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return re.sub(r"\\[a-z]+\{|[{}$\\]", "", text[begin + 1 : i]).strip()
    return None


def bold(text: str) -> list[str]:
    """The texts between pairs of two or three asterisks, in their order."""
    return [part.strip(" *\n") for part in re.split(r"\*{2,3}", text)[1::2]]


def last_line(text: str) -> str:
    """The last line that is not empty, without space around it."""
    return text.strip().rpartition("\n")[2].strip()
