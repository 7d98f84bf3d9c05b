"""Rows of a table under the field names of a prompt row: function, new columns, filters, columns and responses."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from math import isnan
from pathlib import Path

from ..errors import InputError, one_line
from ..identities import digest
from ..recipe import PromptTable
from . import text, topics, turns
from .columns import NoPathError, Values, lookup, top_level
from .conditions import fulfils
from .extracted_columns import extracted
from .row_responses import RowResponses
from .rows import RawRow, conversation
from .unusable import UnusableError

Function = Callable[[RawRow], object]
TEXTS = ("id", "gold")
"""Fields whose numbers are converted to text."""


class TableRows:
    """Maps the rows of one table, and knows which columns the recipe names and which rows it leaves out.

    Args:
        place: name of the table in error messages.
        base: folder that relative paths are relative to.

    Raises:
        InputError: the function can't be loaded, or a key names no column.
    """

    def __init__(self, entry: PromptTable, place: str, base: Path) -> None:
        self._entry, self._place = entry, place
        self._function = None if entry.function is None else load_function(base, entry.function)
        self.left_out: Counter[str] = Counter()
        """Rows that the recipe's keys leave out, by key."""
        self._named = named_columns(entry)
        self._where = [(where_key(column), column, condition) for column, condition in entry.where.items()]
        self._columns = [(f"columns.{field}", field, column) for field, column in entry.columns.items()]
        has_responses = bool(entry.responses) or entry.response_rows is not None
        self._responses = RowResponses(entry, self._lookup) if has_responses else None
        self._looked_up: set[str] = set()
        self._never_there = set(self._named)
        self._first_columns: list[str] | None = None
        for key, column in self._named.items():
            try:
                top_level(column, set())
            except NoPathError as error:
                raise InputError(place, 0, f"{key}: {error}") from None

    def columns_to_read(self, known: list[str], place: str) -> list[str] | None:
        """The table's columns that are needed; None means all.

        Args:
            known: the columns of the table, or of one of its files.
            place: its name in error messages.

        Raises:
            InputError: a column that the recipe names is not among them.
        """
        if self._function is not None or not self._named:
            return None
        needed: dict[str, None] = {}
        new = set(self._entry.extract)
        for key, column in self._named.items():
            for name in top_level(column, {*known, *new}):
                if name not in known and name not in new:
                    raise InputError(place, 0, f"no column {name!r} ({key}); there are {', '.join(known)}")
                if name in known:
                    needed[name] = None
        return list(needed) if self._entry.columns else None

    def mapped(self, raw: RawRow) -> Iterator[RawRow | UnusableError]:
        """The rows of the table's row that are taken: none, one, or several if a function returns several."""
        try:
            called = self._called(raw)
        except UnusableError as unusable:
            yield unusable
            return
        for row in called:
            if self._first_columns is None:
                self._first_columns = sorted(map(str, row))
            try:
                found = self._taken(row)
            except UnusableError as unusable:
                yield unusable
                continue
            if found is not None:
                yield found

    def check_columns(self) -> None:
        """Call this after the last row.

        Raises:
            InputError: the recipe names a column or a path that no row has.
        """
        if self._first_columns is None:
            return
        for key, column in self._named.items():
            if key in self._never_there & self._looked_up:
                there = ", ".join(self._first_columns)
                raise InputError(self._place, 0, f"no row has {column!r} ({key}); the first row has {there}")

    def _called(self, raw: RawRow) -> list[RawRow]:
        """What the recipe's function makes of a row."""
        if self._function is None:
            return [raw]
        name = self._entry.function
        try:
            returned = self._function(dict(raw))
        except (Exception, SystemExit) as error:
            raise UnusableError(
                "function_failed", f"{name} raised {type(error).__name__}: {one_line(str(error))}"
            ) from error
        found = [] if returned is None else returned if isinstance(returned, list) else [returned]
        rows = [row for row in found if isinstance(row, dict)]
        if len(rows) < len(found):
            raise UnusableError("function_failed", f"{name} must return a dict, a list of dicts, or None")
        if not rows:
            self.left_out["function"] += 1
        return rows

    def _taken(self, row: RawRow) -> RawRow | None:
        """A row under the field names; None if a filter leaves it out."""
        entry = self._entry
        if entry.extract:
            row = self._with_extracted(row)
        for key, column, condition in self._where:
            if not fulfils(self._lookup(row, key, column).values, condition):
                self.left_out[key] += 1
                return None
        found = self._fields(row) if entry.columns else row
        _convert(found)
        if entry.turns and isinstance(found.get("prompt"), str):
            found["messages"] = turns.split(found.pop("prompt"), entry.turns)
        if (key_of_text := self._left_out_by(found)) is not None:
            self.left_out[key_of_text] += 1
            return None
        return found

    def _with_extracted(self, row: RawRow) -> RawRow:
        """The row with its new columns. A column for which nothing was found is null."""
        new = dict(row)
        for name, rule in self._entry.extract.items():
            values = self._lookup(new, f"extract.{name}.column", rule.column).values
            functions: list[object] = []
            if rule.function is not None:
                functions = self._lookup(new, f"extract.{name}.function", rule.function).values
            new[name] = extracted(rule, values, functions)
        return new

    def _left_out_by(self, row: RawRow) -> str | None:
        """The key that leaves a row out because of its prompt's text. None if the row is taken, or if it has no
        conversation that can be used: then it is rejected later."""
        entry = self._entry
        if not entry.languages and not entry.exclude_topics:
            return None
        try:
            content = text.content(conversation(row, entry))
        except UnusableError:
            return None
        if entry.languages and text.language(content) not in entry.languages:
            return "languages"
        return next((f"exclude_topics.{t}" for t in entry.exclude_topics if topics.is_about(content, t)), None)

    def _lookup(self, row: RawRow, key: str, column: str) -> Values:
        found = lookup(row, column)
        self._looked_up.add(key)
        if found.is_there:
            self._never_there.discard(key)
        return found

    def _fields(self, row: RawRow) -> RawRow:
        """The row's fields, from the recipe's columns."""
        fields: RawRow = {}
        for key, field, column in self._columns:
            found = self._lookup(row, key, column)
            if not found.is_there and field in ("prompt", "messages"):
                there = ", ".join(sorted(map(str, row)))
                raise UnusableError("missing_column", f"no column {column!r} ({key}); there are {there}")
            values = found.values
            if len(values) > 1 and field != "tests":
                raise UnusableError("wrong_type", f"{column!r} ({key}) gives {len(values)} values, not one")
            fields[field] = values if len(values) > 1 else values[0] if values else None
        if self._responses is not None:
            fields["responses"], fields["scores"] = self._responses.of(row)
        return fields


def named_columns(entry: PromptTable) -> dict[str, str]:
    """Key of the recipe -> the column, path or template that it names."""
    named = {f"columns.{field}": column for field, column in entry.columns.items()}
    for name, response in entry.responses.items():
        if isinstance(response, str):
            named[f"responses.{name}"] = response
        else:
            named[f"responses.{name}.response"] = response.response
            named |= {f"responses.{name}.scores.{reward}": column for reward, column in response.scores.items()}
    if (rows := entry.response_rows) is not None:
        named |= {"response_rows.source": rows.source, "response_rows.response": rows.response}
        named |= {f"response_rows.scores.{reward}": column for reward, column in rows.scores.items()}
    named |= {where_key(column): column for column in entry.where}
    for name, rule in entry.extract.items():
        named[f"extract.{name}.column"] = rule.column
        if rule.function is not None:
            named[f"extract.{name}.function"] = rule.function
    return named


def where_key(column: str) -> str:
    """Key of a condition, in one line."""
    return "where." + column.replace("\n", "\\n")


def load_function(base: Path, name: str) -> Function:
    """The recipe's function, given as `FILE.py:NAME`.

    Raises:
        InputError: the file can't be run, or has no such function.
    """
    file, _, function = name.rpartition(":")
    path = base / file
    module_name = f"fusechat_recipe_{digest(str(path))[:16]}"
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InputError(str(path), 0, "file of a prompt table's function not found")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(str(path), 0, f"can't be run: {type(error).__name__}: {one_line(str(error))}") from error
    found = getattr(module, function, None)
    if not callable(found):
        raise InputError(str(path), 0, f"has no function {function!r}")
    return found  # type: ignore[no-any-return]


def _convert(row: RawRow) -> None:
    """Converts numbers to text, and a list of tests to lines, where a field is text."""
    for field in TEXTS:
        value = row.get(field)
        if isinstance(value, int) and not isinstance(value, bool):
            row[field] = str(value)
        elif isinstance(value, float | Decimal) and field == "gold":
            row[field] = None if isnan(value) else str(value)  # not a number: how pandas writes a missing one
    tests = row.get("tests")
    if isinstance(tests, list) and all(isinstance(test, str | None) for test in tests):
        row["tests"] = "\n".join(test for test in tests if test is not None)
