"""What the format of a public set consists of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

SetRow = dict[str, Any]
"""A row of a file as JSON; each public set has its own keys."""

FOLLOW_UP = "follow_up"
"""Key of the second turn's question."""
CATEGORY = "category"
"""Key of the category of a judged suite's row."""
SUBCATEGORY = "subcategory"
"""Key of its second, finer category."""


class Form(NamedTuple):
    """The format of a public set."""

    keys: tuple[str, ...]
    """Keys that every row must have."""
    convert: Callable[[SetRow], SetRow]
    """Makes a prompt row of a row of the set."""
    ask: str = "{prompt}"
    """Template of the request."""
