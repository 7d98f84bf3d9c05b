"""The tables of selected rows, made from row numbers."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow as pa

from ..identities import digest
from ..records import CANDIDATE_PAIR, OUTCOME, PAIR, SFT_ROW
from .rule_columns import Decisions


def column_series(table: pa.Table, column: str) -> pl.Series:
    return series_of(table.column(column))


def series_of(column: pa.ChunkedArray) -> pl.Series:
    series = pl.from_arrow(column)
    assert isinstance(series, pl.Series)
    return series


class RowTables:
    """Makes rows of numbers: only what was selected is ever looked up."""

    def __init__(self, prompts: pa.Table, responses: pa.Table, table: pl.DataFrame, made: dict[str, str]) -> None:
        self._prompts, self._responses, self._table, self._made = prompts, responses, table, made

    def sft(self, found: pl.DataFrame) -> pa.Table:
        """SFT_ROW."""
        chosen = found["response"]
        columns = self._common("sft", found["prompt"], chosen, [self._of(chosen, "response_id")])
        columns |= {
            "completion": self._said(chosen),
            "response_id": self._of(chosen, "response_id"),
            "seed": self._of(chosen, "seed"),
            "reward": self._score(chosen, "reward"),
            "correct": self._score(chosen, "correct"),
            "verdict": self._score(chosen, "verdict"),
        }
        return _table(columns, SFT_ROW)

    def pairs(self, found: pl.DataFrame) -> pa.Table:
        """PAIR."""
        sides = {"chosen": found["chosen"], "rejected": found["rejected"]}
        ids = {side: self._of(responses, "response_id") for side, responses in sides.items()}
        columns = self._common("pair", found["prompt"], found["chosen"], list(ids.values()))
        columns["margin"] = found["margin"].to_arrow()
        for side, responses in sides.items():
            columns |= {
                side: self._said(responses),
                f"{side}_id": ids[side],
                f"{side}_seed": self._of(responses, "seed"),
                f"{side}_reward": self._score(responses, "reward"),
                f"{side}_correct": self._score(responses, "correct"),
                f"{side}_verdict": self._score(responses, "verdict"),
            }
        return _table(columns, PAIR)

    def outcomes(self, asked: pl.DataFrame, found: Decisions) -> pa.Table:
        """OUTCOME."""
        used = pl.concat([found.sfts, found.pairs.select("prompt", response="chosen")])
        first = used.unique("prompt", keep="first", maintain_order=True)
        first = first.with_columns(source=column_series(self._responses, "source").gather(first["response"]))
        table = asked.join(found.outcomes, on="prompt", how="left", maintain_order="left").join(
            first.select("prompt", "source"), on="prompt", how="left", maintain_order="left"
        )
        columns = {name: table[name].to_arrow() for name in ("domain", "reason", "source")}
        return _table(columns | {"prompt_id": self._prompts.column("prompt_id")}, OUTCOME)

    def candidates(self, asked: pl.DataFrame, found: pl.DataFrame) -> pa.Table:
        """CANDIDATE_PAIR."""
        table = found.join(asked, on="prompt", how="left", maintain_order="left")
        columns = {name: table[name].to_arrow() for name in ("domain", "sft_share", "margin")}
        columns["prompt_id"] = self._prompts.column("prompt_id").take(table["prompt"].to_arrow())
        columns["source"] = self._of(table["chosen"], "source")
        columns["chosen_reward"] = self._score(table["chosen"], "reward")
        return _table(columns, CANDIDATE_PAIR)

    def _common(self, kind: str, prompts: pl.Series, responses: pl.Series, ids: list[Any]) -> dict[str, Any]:
        asked = self._prompts.take(prompts.to_arrow())
        names = asked.column("prompt_id").to_pylist()
        rows = [digest(kind, *parts) for parts in zip(names, *(i.to_pylist() for i in ids), strict=True)]
        return {
            "prompt": asked.column("messages"),
            "row_id": pa.array(rows, pa.string()),
            "prompt_id": asked.column("prompt_id"),
            "domain": asked.column("domain"),
            **{name: self._of(responses, name) for name in ("source", "revision", "template", "params")},
            **{name: pa.array([value] * len(rows), pa.string()) for name, value in self._made.items()},
        }

    def _of(self, responses: pl.Series, column: str) -> Any:
        return self._responses.column(column).take(responses.to_arrow())

    def _score(self, responses: pl.Series, column: str) -> Any:
        return self._table[column].gather(responses).to_arrow()

    def _said(self, responses: pl.Series) -> pa.Array:
        """The response as one message of the assistant."""
        texts = self._of(responses, "text")
        texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        roles = pa.array(["assistant"] * len(texts), pa.string())
        messages = pa.StructArray.from_arrays([roles, texts], names=["role", "content"])
        return pa.ListArray.from_arrays(pa.array(range(len(texts) + 1), pa.int32()), messages)


def _table(columns: dict[str, Any], schema: pa.Schema) -> pa.Table:
    return pa.table([columns[name] for name in schema.names], names=schema.names).cast(schema)
