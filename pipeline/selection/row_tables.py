"""Builds the tables of selected rows from row numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import polars as pl
import pyarrow as pa

from ..identities import row_id
from ..records import CANDIDATE_PAIR, OUTCOME, PAIR, SFT_ROW
from .rule_columns import Decisions

Column: TypeAlias = "pa.Array | pa.ChunkedArray"


def column_series(table: pa.Table, column: str) -> pl.Series:
    """A column of an Arrow table as a polars series."""
    return series_of(table.column(column))


def series_of(column: pa.ChunkedArray) -> pl.Series:
    """An Arrow column as a polars series."""
    series = pl.from_arrow(column)
    assert isinstance(series, pl.Series)
    return series


class RowTables:
    """Builds tables from row numbers, so that only selected rows are copied.

    Args:
        prompts: PROMPT.
        responses: RESPONSE.
        scores: reward, correct and verdict of each response, in the same order.
        provenance: column -> value that is the same in every row.
    """

    def __init__(
        self, prompts: pa.Table, responses: pa.Table, scores: pl.DataFrame, provenance: Mapping[str, str]
    ) -> None:
        self._prompts, self._responses, self._scores, self._provenance = prompts, responses, scores, provenance

    def sft(self, sfts: pl.DataFrame) -> pa.Table:
        """SFT_ROW, from `Decisions.sfts`."""
        chosen = sfts["response"]
        columns = self._common("sft", sfts["prompt"], chosen, [self._take(chosen, "response_id")])
        columns |= {
            "completion": self._as_messages(chosen),
            "response_id": self._take(chosen, "response_id"),
            "seed": self._take(chosen, "seed"),
            "reward": self._score(chosen, "reward"),
            "correct": self._score(chosen, "correct"),
            "verdict": self._score(chosen, "verdict"),
        }
        return _table(columns, SFT_ROW)

    def pairs(self, pairs: pl.DataFrame) -> pa.Table:
        """PAIR, from `Decisions.pairs`."""
        sides = {"chosen": pairs["chosen"], "rejected": pairs["rejected"]}
        ids = {side: self._take(responses, "response_id") for side, responses in sides.items()}
        columns = self._common("pair", pairs["prompt"], pairs["chosen"], list(ids.values()))
        columns["margin"] = pairs["margin"].to_arrow()
        for side, responses in sides.items():
            columns |= {
                side: self._as_messages(responses),
                f"{side}_id": ids[side],
                f"{side}_seed": self._take(responses, "seed"),
                f"{side}_reward": self._score(responses, "reward"),
                f"{side}_correct": self._score(responses, "correct"),
                f"{side}_verdict": self._score(responses, "verdict"),
            }
        return _table(columns, PAIR)

    def outcomes(self, prompts: pl.DataFrame, decisions: Decisions) -> pa.Table:
        """OUTCOME.

        Args:
            prompts: `rule_columns.PROMPTS`.
        """
        used = pl.concat([decisions.sfts, decisions.pairs.select("prompt", response="chosen")])
        first = used.unique("prompt", keep="first", maintain_order=True)
        first = first.with_columns(source=column_series(self._responses, "source").gather(first["response"]))
        table = prompts.join(decisions.outcomes, on="prompt", how="left", maintain_order="left").join(
            first.select("prompt", "source"), on="prompt", how="left", maintain_order="left"
        )
        columns = {name: table[name].to_arrow() for name in ("domain", "reason", "source")}
        return _table(columns | {"prompt_id": self._prompts.column("prompt_id")}, OUTCOME)

    def candidates(self, prompts: pl.DataFrame, pairs: pl.DataFrame) -> pa.Table:
        """CANDIDATE_PAIR.

        Args:
            prompts: `rule_columns.PROMPTS`.
            pairs: `Decisions.all_pairs`.
        """
        table = pairs.join(prompts, on="prompt", how="left", maintain_order="left")
        columns = {name: table[name].to_arrow() for name in ("domain", "sft_share", "margin")}
        columns["prompt_id"] = self._prompts.column("prompt_id").take(table["prompt"].to_arrow())
        columns["source"] = self._take(table["chosen"], "source")
        columns["chosen_reward"] = self._score(table["chosen"], "reward")
        return _table(columns, CANDIDATE_PAIR)

    def _common(
        self, kind: Literal["sft", "pair"], prompts: pl.Series, responses: pl.Series, ids: list[Column]
    ) -> dict[str, Column]:
        """The columns that SFT_ROW and PAIR share.

        Args:
            ids: response ids, one column per response of a row; the row's identity depends on them.
        """
        taken = self._prompts.take(prompts.to_arrow())
        prompt_ids = taken.column("prompt_id").to_pylist()
        row_ids = [row_id(kind, *parts) for parts in zip(prompt_ids, *(i.to_pylist() for i in ids), strict=True)]
        return {
            "prompt": taken.column("messages"),
            "row_id": pa.array(row_ids, pa.string()),
            "prompt_id": taken.column("prompt_id"),
            "domain": taken.column("domain"),
            **{name: self._take(responses, name) for name in ("source", "revision", "template", "params")},
            **{name: pa.array([value] * len(row_ids), pa.string()) for name, value in self._provenance.items()},
        }

    def _take(self, responses: pl.Series, column: str) -> pa.ChunkedArray:
        return self._responses.column(column).take(responses.to_arrow())

    def _score(self, responses: pl.Series, column: str) -> pa.Array:
        return self._scores[column].gather(responses).to_arrow()

    def _as_messages(self, responses: pl.Series) -> pa.Array:
        """Each response as a list with one message of the assistant."""
        texts = self._take(responses, "text")
        texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
        roles = pa.array(["assistant"] * len(texts), pa.string())
        messages = pa.StructArray.from_arrays([roles, texts], names=["role", "content"])
        return pa.ListArray.from_arrays(pa.array(range(len(texts) + 1), pa.int32()), messages)


def _table(columns: dict[str, Column], schema: pa.Schema) -> pa.Table:
    return pa.table([columns[name] for name in schema.names], names=schema.names).cast(schema)
