"""Rows of a table under the field names of a prompt row: function, new columns, filters, columns and responses."""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from math import isnan
from pathlib import Path

from ..errors import InputError, one_line
from ..identities import digest
from ..recipe import PromptTable, ResponseColumn
from . import text, topics, turns
from .columns import NoPathError, Values, lookup, top_level
from .conditions import fulfils
from .extract import extracted
from .rows import RawRow, score
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
        return list(needed)

    def mapped(self, raw: RawRow) -> Iterator[RawRow | UnusableError]:
        """The rows of the table's row that are taken: none, one, or several if a function returns several."""
        try:
            for row in self._called(raw):
                if self._first_columns is None:
                    self._first_columns = sorted(map(str, row))
                found = self._taken(row)
                if found is not None:
                    yield found
        except UnusableError as unusable:
            yield unusable

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
            row = extracted(row, entry.extract)
            for name, rule in entry.extract.items():
                self._lookup(row, f"extract.{name}.column", rule.column)
                if rule.function is not None:
                    self._lookup(row, f"extract.{name}.function", rule.function)
        for column, condition in entry.where.items():
            if not fulfils(self._lookup(row, where_key(column), column).values, condition):
                self.left_out[where_key(column)] += 1
                return None
        found = self._fields(row) if entry.columns else row
        _convert(found)
        if entry.turns and isinstance(found.get("prompt"), str):
            found["messages"] = turns.split(found.pop("prompt"), entry.turns)
        if entry.languages or entry.exclude_topics:
            content = _content(found)
            if entry.languages and text.language(content) not in entry.languages:
                self.left_out["languages"] += 1
                return None
            for topic in entry.exclude_topics:
                if topics.is_about(content, topic):
                    self.left_out[f"exclude_topics.{topic}"] += 1
                    return None
        return found

    def _lookup(self, row: RawRow, key: str, column: str) -> Values:
        found = lookup(row, column)
        self._looked_up.add(key)
        if found.is_there:
            self._never_there.discard(key)
        return found

    def _fields(self, row: RawRow) -> RawRow:
        """The row's fields, from the recipe's columns."""
        fields: RawRow = {}
        for field, column in self._entry.columns.items():
            found = self._lookup(row, f"columns.{field}", column)
            if not found.is_there and field in ("prompt", "messages"):
                there = ", ".join(sorted(map(str, row)))
                raise UnusableError("missing_column", f"no column {column!r} (columns.{field}); there are {there}")
            values = found.values
            if len(values) > 1 and field != "tests":
                raise UnusableError("wrong_type", f"{column!r} (columns.{field}) gives {len(values)} values, not one")
            fields[field] = values if len(values) > 1 else values[0] if values else None
        if self._entry.responses or self._entry.response_rows is not None:
            fields["responses"], fields["scores"] = self._responses(row)
        return fields

    def _responses(self, row: RawRow) -> tuple[dict[str, list[str]], dict[str, dict[str, list[float | None]]]]:
        """The row's responses by source, and their scores by reward and source."""
        responses: dict[str, list[str]] = {}
        scores: dict[str, dict[str, list[float | None]]] = {}

        def add(source: object, response: object, rated: Mapping[str, object], key: str) -> None:
            if response is None or source is None:
                return
            if not isinstance(response, str):
                raise UnusableError("wrong_type", f"{key}.response must be text, got {type(response).__name__}")
            responses.setdefault(str(source), []).append(response)
            for reward, value in rated.items():
                scores.setdefault(reward, {}).setdefault(str(source), []).append(score(value, f"{key}.scores.{reward}"))

        for name, columns in self._entry.response_columns.items():
            key = f"responses.{name}"
            for response, rated in self._rated(row, key, columns):
                add(name, response, rated, key)
        if (table := self._entry.response_rows) is not None:
            key = "response_rows"
            sources = _flat(self._lookup(row, f"{key}.source", table.source))
            rated_responses = list(self._rated(row, key, ResponseColumn(response=table.response, scores=table.scores)))
            if len(sources) == 1:
                sources *= len(rated_responses)
            if len(sources) != len(rated_responses):
                raise UnusableError("wrong_type", f"{len(sources)} sources, but {len(rated_responses)} responses")
            for source, (response, rated) in zip(sources, rated_responses, strict=True):
                name = table.names.get(str(source), str(source).rpartition("/")[2].lower())
                add(None if source is None else name, response, rated, key)
        return responses, scores

    def _rated(self, row: RawRow, key: str, columns: ResponseColumn) -> Iterator[tuple[object, dict[str, object]]]:
        """The responses of a column, each with its scores."""
        response_key = (
            key if isinstance(self._entry.responses.get(key.removeprefix("responses.")), str) else f"{key}.response"
        )
        texts = _flat(self._lookup(row, response_key, columns.response))
        rated = {
            reward: _flat(self._lookup(row, f"{key}.scores.{reward}", column))
            for reward, column in columns.scores.items()
        }
        if all(response is None for response in texts):
            yield from ((response, {}) for response in texts)
            return
        for reward, values in rated.items():
            if len(values) != len(texts):
                raise UnusableError(
                    "wrong_type", f"{key}.scores.{reward}: {len(values)} scores, {len(texts)} responses"
                )
        for i, response in enumerate(texts):
            yield response, {reward: values[i] for reward, values in rated.items()}


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


def _content(row: RawRow) -> str:
    """The row's prompt, for filters that look at its text; a row that can't be used is rejected later."""
    if isinstance(row.get("prompt"), str):
        return str(row["prompt"])
    try:
        return text.content(turns.messages_of(row.get("messages"), extra_keys=True))
    except UnusableError:
        return ""


def _flat(found: Values) -> list[object]:
    """The values, with the items of a list in place of the list."""
    return [item for value in found.aligned for item in (value if isinstance(value, list) else [value])]
