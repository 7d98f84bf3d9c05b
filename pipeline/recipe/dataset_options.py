"""Recipe section for an SFT set and preference pairs that are ready to train on."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from .fields import Domain, Name, Section

DatasetForm = Literal["trl", "messages", "sharegpt", "alpaca"]
DatasetKind = Literal["sft", "pairs"]
DatasetField = Literal[
    "prompt", "completion", "messages", "conversations", "instruction", "input", "output", "history", "system",
    "chosen", "rejected", "score_chosen", "score_rejected", "score", "source", "revision", "domain",
]  # fmt: skip


class DatasetTable(Section):
    """A file or hub data set of SFT rows or pairs, with settings of its own."""

    path: str | None = None
    """A file (JSON lines or one JSON array; Parquet or CSV by its ending), a folder of files, a glob pattern, or the
    `https://` address of a file, which is fetched once. Relative paths start at the recipe's folder. Give exactly one
    of `path` and `hub`."""
    hub: str | None = None
    """Id of a data set on the hub, or a folder with the same structure. It is read with the datasets library."""
    revision: str | None = None
    """Commit, tag or branch of `hub`. Required with `hub`. A run looks up a branch once and keeps its commit."""
    config: str | None = None
    """Configuration of the hub data set."""
    split: str = "train"
    """Split of the hub data set."""
    form: DatasetForm | None = None
    """Form of the rows. `trl`: `prompt` with `completion`, or with `chosen` and `rejected`, each a text or messages;
    `chosen` and `rejected` may be whole conversations, with or without `prompt`. `messages`: conversations that end
    with the response. `sharegpt`: `conversations` of `from` and `value`, and `system`. `alpaca`: `instruction`,
    `input`, `history`, `system` and `output`. Pairs have `chosen` and `rejected` in every form. Default: the one form
    that has its columns in the table. A column `system` becomes the first turn, unless there is a system turn."""
    columns: dict[DatasetField, str] = Field(default={})
    """Field of the form -> column, where its name is another. `source` (default: `source`, then `source_model`) is the
    model that wrote the response, `score_chosen` and `score_rejected` (default: also `chosen_score` and
    `chosen_reward`) are rewards of a pair, `score` (default: also `reward`) is that of an SFT row."""
    source: Name | None = None
    """Name of the source of rows that name none. Default: `imported`."""
    domain: Domain | None = None
    """Domain of rows that name none. Default: chinese if at least half of the letters are Chinese, else instruction."""
    limit: int | None = Field(default=None, ge=1)
    """Number of rows to read from the start. Default: all rows."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of path and hub")
        # Compared with the defaults, not by the fields that were given: run.json gives all.
        if self.path is not None and (self.revision, self.config, self.split) != (None, None, "train"):
            raise ValueError("revision, config and split go with hub")
        if self.hub is not None and self.revision is None:
            raise ValueError("hub needs a revision")
        return self

    @property
    def name(self) -> str:
        """Name for messages and records."""
        return self.path or f"{self.hub}{f'/{self.config}' if self.config else ''}/{self.split}"


DatasetFile = Annotated[
    Annotated[str, Tag("file")] | Annotated[DatasetTable, Tag("table")],
    Discriminator(lambda entry: "file" if isinstance(entry, str) else "table"),
]


class ReadyDataset(Section):
    """SFT rows and pairs that are ready: the stage `select` imports them, and every row is used."""

    sft: tuple[DatasetFile, ...] = ()
    """SFT rows: files (JSONL or JSON; Parquet, CSV or TSV by their ending) or tables."""
    pairs: tuple[DatasetFile, ...] = ()
    """Preference pairs, in the same way."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.sft and not self.pairs:
            raise ValueError("give sft, pairs or both")
        return self

    @property
    def tables(self) -> tuple[tuple[DatasetKind, DatasetTable], ...]:
        """Every table with its kind: those of SFT rows, then those of pairs. A file is a table with nothing but a
        path."""
        given: tuple[tuple[DatasetKind, tuple[str | DatasetTable, ...]], ...] = (
            ("sft", self.sft),
            ("pairs", self.pairs),
        )
        return tuple((kind, DatasetTable(path=t) if isinstance(t, str) else t) for kind, ts in given for t in ts)
