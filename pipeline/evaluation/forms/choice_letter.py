"""The letter that answers a multiple-choice question."""

from __future__ import annotations

import re

from .marked import boxed, last_line

_FORMATTING = re.compile(r"\\(?:text|math)(?:bf|rm|it)?\s*\{|\\boxed\s*\{|[*_$`{}]")
_LETTER = r"(?:\(\s*([A-J])\s*\)|([B-HJ])(?![\w'])|([AI])(?=\s*(?:[.,:;)!?]|$|\n|because\b|since\b)))"
"""A letter. A and I are also words, so without brackets they need punctuation, an end or a reason behind them."""
_COLON = r"(?:\s*+:)?\s*+"
"""A colon, or none. What follows is no white space, so that no white space is given back: it may be long."""
_ANSWER = re.compile(
    rf"(?i:\b(?:answer|choice|option)\b(?:\s+(?:is|would\s+be|must\s+be){_COLON}|\s*:\s*+)(?:(?:option|choice){_COLON})?)"
    rf"{_LETTER}"
    rf"|(?i:\banswer\s+){_LETTER}"
    rf"|{_LETTER}(?i:\s+is\s+(?:the\s+)?(?:correct|right)\b)"
)
_WHOLE = re.compile(r"\(?\s*([A-J])\s*\)?(?:[.):]\s.*|\.)?", re.DOTALL)
_ANOTHER = re.compile(r"\s*(?:or|and|,|/|&)\s*(?:\([A-J]\)|[A-J](?![\w'])(?!\s+[a-z]))")


def chosen(answer: str) -> str | None:
    """The letter in the last box, else behind the last "answer is" or the like, else in the last line.

    None if there is none, or if another letter follows it. "Option B fails" names a choice, and is no answer.
    """
    found = boxed(answer)
    if found is not None and (match := _WHOLE.fullmatch(found.strip())):
        return match[1]
    plain = _FORMATTING.sub("", answer)
    matches = list(_ANSWER.finditer(plain))
    if matches:
        last = matches[-1]
        return None if _ANOTHER.match(plain, last.end()) else next(group for group in last.groups() if group)
    match = _WHOLE.fullmatch(last_line(plain))
    return match[1] if match else None
