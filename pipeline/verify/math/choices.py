"""Answers to multiple-choice questions: "(B)", "option B", "B. 5 meters"."""

from __future__ import annotations

import re

from .typography import plain

_CHOICE = re.compile(
    r"(?:(?:option|choice|answer|选项?)\s*)?(?:\(\s*([A-J])\s*\)|([A-J]))[.)]?(?:选?项)?", re.IGNORECASE
)
_CHOICE_WITH_TEXT = re.compile(
    r"(?:(?:option|choice|answer|选项?)\s*)?(?:\(\s*([A-J])\s*\)(?=[\s.:,\d$\\])\s*[.:,]?\s*|([A-J])\s*(?:[.:)]\s*|\s[-–—]\s))(\S.*)",
    re.DOTALL,
)
_LETTER = re.compile(r"\(([A-J])\)|(?<![a-z])([A-J])(?![a-z])")
_SEVERAL = re.compile(r"(?:\([A-J]\)|[A-J])(?:(?:\s*(?:,|;|、|&|\band\b|和|与)\s*)+(?:\([A-J]\)|[A-J]))+")
_ANOTHER_CHOICE = re.compile(r"(?:and\b|or\b|[&/,+])|\(?[A-J]\)?\s*(?:[,.]|$)", re.IGNORECASE)


def parse_choice(text: str) -> str | None:
    """The letter of a text that is only a choice; None for others."""
    match = _CHOICE.fullmatch(plain(text))
    if match is None or (match[2] and not match[2].isupper()):
        return None
    return (match[1] or match[2]).upper()


def parse_choices(text: str) -> list[str]:
    """The letters, in alphabetical order, of a list of choices: "A, C", "(A) and (C)"; empty for others."""
    letters = [m[1] or m[2] for m in _LETTER.finditer(plain(text))]
    return sorted(letters) if len(set(letters)) == len(letters) > 1 and _SEVERAL.fullmatch(plain(text)) else []


def parse_labeled(text: str) -> tuple[str, str]:
    """The letter and the text of "(B) 5 meters"; both empty for others."""
    match = _CHOICE_WITH_TEXT.fullmatch(text)
    letter = match and (match[1] or match[2])
    if not match or not letter or not letter.isupper() or _ANOTHER_CHOICE.match(match[3]):
        return "", ""
    return letter, match[3].strip()
