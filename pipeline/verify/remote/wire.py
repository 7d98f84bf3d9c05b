"""The encoded form of values, which JSON holds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Wire = None | bool | int | float | str | list["Wire"]
"""None, booleans, numbers and strings are themselves; everything else is a list that begins with a tag."""
Encode = Callable[[Any], Wire]
Decode = Callable[[Any], Any]
