"""Responses of a table's row, and their scores, from the columns that the recipe names. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..recipe import PromptTable, ResponseColumn
from .columns import Values
from .rows import RawRow, score
from .unusable import UnusableError

LookUp = Callable[[RawRow, str, str], Values]
"""What a row has at a column, given with the key of the recipe that names it."""
Rated = tuple[object, dict[str, object]]
"""A response, and its score by reward."""


class KeyedColumns(NamedTuple):
    """Columns of responses and of their scores, with the recipe's keys."""

    key: str
    response_key: str
    response: str
    scores: list[tuple[str, str, str]]
    """Reward, key and column of each score."""


class RowResponses:
    """Reads the responses of one table's rows (`responses` and `response_rows`)."""

    def __init__(self, entry: PromptTable, look_up: LookUp) -> None:
        self._look_up, self._table = look_up, entry.response_rows
        self._by_source = {
            name: _keyed(f"responses.{name}", columns, is_short=isinstance(entry.responses[name], str))
            for name, columns in entry.response_columns.items()
        }
        if self._table is not None:
            columns = ResponseColumn(response=self._table.response, scores=self._table.scores)
            self._of_table = _keyed("response_rows", columns, is_short=False)

    def of(self, row: RawRow) -> tuple[dict[str, list[str]], dict[str, dict[str, list[float | None]]]]:
        """The row's responses by source, and their scores by reward and source.

        Raises:
            UnusableError: a response is no text, a score no number, or their numbers differ.
        """
        responses: dict[str, list[str]] = {}
        scores: dict[str, dict[str, list[float | None]]] = {}

        def add(source: object, response: object, rated: dict[str, object], key: str) -> None:
            if response is None or source is None:
                return
            if not isinstance(response, str):
                raise UnusableError("wrong_type", f"{key}.response must be text, got {type(response).__name__}")
            responses.setdefault(str(source), []).append(response)
            for reward, value in rated.items():
                scores.setdefault(reward, {}).setdefault(str(source), []).append(score(value, f"{key}.scores.{reward}"))

        for name, columns in self._by_source.items():
            for response, rated in self._rated(row, columns):
                add(name, response, rated, columns.key)
        if (table := self._table) is not None:
            sources = _flat(self._look_up(row, "response_rows.source", table.source))
            rated_responses = list(self._rated(row, self._of_table))
            if len(sources) == 1:
                sources *= len(rated_responses)
            if len(sources) != len(rated_responses):
                raise UnusableError("wrong_type", f"{len(sources)} sources, but {len(rated_responses)} responses")
            for source, (response, rated) in zip(sources, rated_responses, strict=True):
                name = table.names.get(str(source), str(source).rpartition("/")[2].lower())
                add(None if source is None else name, response, rated, self._of_table.key)
        return responses, scores

    def _rated(self, row: RawRow, columns: KeyedColumns) -> Iterator[Rated]:
        """The responses of a column, each with its scores."""
        texts = _flat(self._look_up(row, columns.response_key, columns.response))
        rated = {reward: _flat(self._look_up(row, key, column)) for reward, key, column in columns.scores}
        if all(response is None for response in texts):
            yield from ((response, {}) for response in texts)
            return
        for reward, values in rated.items():
            if len(values) != len(texts):
                problem = f"{columns.key}.scores.{reward}: {len(values)} scores, {len(texts)} responses"
                raise UnusableError("wrong_type", problem)
        for i, response in enumerate(texts):
            yield response, {reward: values[i] for reward, values in rated.items()}


def _keyed(key: str, columns: ResponseColumn, *, is_short: bool) -> KeyedColumns:
    """Columns with their keys.

    Args:
        is_short: the recipe gives the column of the response alone.
    """
    scores = [(reward, f"{key}.scores.{reward}", column) for reward, column in columns.scores.items()]
    return KeyedColumns(key, key if is_short else f"{key}.response", columns.response, scores)


def _flat(found: Values) -> list[object]:
    """The values, with the items of a list in place of the list."""
    return [item for value in found.aligned for item in (value if isinstance(value, list) else [value])]
