"""What the format of a public set consists of."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from typing import Any, NamedTuple

SetRow = dict[str, Any]
"""A row of a file as JSON; each public set has its own keys."""

FOLLOW_UP = "follow_up"
"""Key of the second turn's question."""
CATEGORY = "category"
"""Key of the category of a judged suite's row."""
SUBCATEGORY = "subcategory"
"""Key of its second, finer category."""
RULE = "rule"
"""Key of the rule (`rules.RULES`) that scores the answer, if neither the math nor the code verifier does."""
BEGINNING = "beginning"
"""Key of the part of a program that the answer continues."""
NO_GOLD = " "
"""Gold of a row whose answer can't be found, so that the row is refused for it."""


class Dates(NamedTuple):
    """The dates of the rows to take (`since` and `until` of the suite)."""

    since: date | None = None
    until: date | None = None


def _none_left_out(_raw: SetRow, _dates: Dates) -> str | None:
    return None


class Form(NamedTuple):
    """The format of a public set."""

    keys: tuple[str, ...]
    """Keys that every row must have."""
    convert: Callable[[SetRow], SetRow]
    """Makes a prompt row of a row of the set. It raises ValueError or the like for a row of another format."""
    ask: str = "{prompt}"
    """Template of the request."""
    left_out: Callable[[SetRow, Dates], str | None] = _none_left_out
    """Why a row is no part of the suite; None for one that is."""


def day(value: object) -> date:
    """A date of a row: ISO text, or the datetime that a Parquet file holds.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    return datetime.fromisoformat(str(value)).date()
