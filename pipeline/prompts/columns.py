"""Columns of a table as the recipe names them: plain names, paths into nested values, and templates. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

_STEP = re.compile(r"(?:^|(?<=.)\.)(?P<key>[^.\[\]]+)|\[(?P<index>(?:-?\d+)?)\]")
_PLACE = re.compile(r"\{\{|\}\}|\{(?P<path>[^{}]*)\}")

Step = str | int | None
"""A key, an index, or None for all items."""


class Values(NamedTuple):
    """What a row has at a path."""

    aligned: list[object]
    """One value per item, null where an item has none; one value for a path without `[]`."""
    is_there: bool
    """Whether the row has this column. A null on the way counts as there."""

    @property
    def values(self) -> list[object]:
        """The values that are not null."""
        return [value for value in self.aligned if value is not None]


class NoPathError(ValueError):
    """A text is neither a path nor a template."""


@lru_cache(maxsize=1024)
def path_steps(path: str) -> tuple[Step, ...]:
    """The steps of a path: `a.b[0].c[]` -> ("a", "b", 0, "c", None).

    Raises:
        NoPathError: it is not a path.
    """
    steps: list[Step] = []
    end = 0
    for match in _STEP.finditer(path):
        if match.start() != end:
            break
        end = match.end()
        index = match["index"]
        steps.append(match["key"] if index is None else int(index) if index else None)
    if end != len(path) or not steps or not isinstance(steps[0], str):
        raise NoPathError(f"{path!r} is not a path; a path has the form a.b[0].c[]")
    return tuple(steps)


@lru_cache(maxsize=1024)
def is_template(column: str) -> bool:
    """Whether a column is a template, such as `{instruction}\\n\\n{input}`."""
    return any(match["path"] for match in _PLACE.finditer(column))


def placeholders(template: str) -> list[str]:
    """The paths in a template."""
    return [match["path"] for match in _PLACE.finditer(template) if match["path"] is not None]


def top_level(column: str, known: Mapping[str, object] | set[str]) -> list[str]:
    """The columns of the table that a column of the recipe needs.

    Args:
        known: the table's columns. One with exactly this name is taken first.

    Raises:
        NoPathError: it is not a path.
    """
    if column in known:
        return [column]
    if is_template(column):
        return [name for path in placeholders(column) for name in top_level(path, known)]
    first = path_steps(column)[0]
    assert isinstance(first, str)
    return [first]


def lookup(row: Mapping[str, object], column: str) -> Values:
    """What a row has at a name, path or template.

    Raises:
        NoPathError: the column is not a path.
    """
    if column in row:
        return Values([row[column]], True)
    if is_template(column):
        return _filled(row, column)
    found: list[object] = [row]
    complete = True
    for step in path_steps(column):
        following: list[object] = []
        for value in found:
            if value is None:
                following += [] if step is None else [None]
            elif isinstance(step, str):
                complete = complete and isinstance(value, Mapping) and step in value
                following.append(value.get(step) if isinstance(value, Mapping) else None)
            elif not isinstance(value, list):
                complete = False
                following.append(None)
            elif step is None:
                following.extend(value)
            else:
                following.append(value[step] if -len(value) <= step < len(value) else None)
        found = following
    return Values(found, complete or any(value is not None for value in found))


def _filled(row: Mapping[str, object], template: str) -> Values:
    """The template with the row's values; those of a list are lines.

    Space around the result is removed. Without any value there is no text.
    """
    missing, filled = False, False

    def fill(match: re.Match[str]) -> str:
        nonlocal missing, filled
        if match["path"] is None:
            return match[0][0]
        found = lookup(row, match["path"])
        missing = missing or not found.is_there
        texts = [str(item) for value in found.values for item in (value if isinstance(value, list) else [value])]
        filled = filled or bool(texts)
        return "\n".join(texts)

    text = _PLACE.sub(fill, template).strip()
    return Values([text if filled and not missing else None], not missing)
