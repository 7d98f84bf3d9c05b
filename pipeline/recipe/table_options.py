"""Recipe section for one table of prompts: where it is, how it is read, and which of its rows are taken."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from .fields import Domain, Name, Section

PromptField = Literal["id", "domain", "prompt", "messages", "gold", "tests", "entry_point", "template"]
FileFormat = Literal["jsonl", "json", "parquet", "csv"]
Topic = Literal["code", "math"]
Role = Literal["system", "user", "assistant"]
Scalar = bool | int | float | str


def _is_none(value: object) -> bool:
    return value is None


def _is_empty(value: object) -> bool:
    return not value


class Condition(Section):
    """A condition on a column's value. All keys that are given must hold. A row without a value fulfils only
    `none_of`."""

    one_of: tuple[Scalar, ...] = ()
    """Allowed values."""
    none_of: tuple[Scalar, ...] = ()
    """Values that are not allowed."""
    min: float | None = None
    """Minimum of a number."""
    max: float | None = None
    """Maximum of a number."""
    min_chars: int | None = Field(default=None, ge=0)
    """Minimum number of characters."""
    max_chars: int | None = Field(default=None, ge=0)
    """Maximum number of characters."""
    matches: str | None = None
    """Regular expression that must match somewhere in the value."""

    @field_validator("matches")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return _regular_expression(pattern)

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("the condition is empty; give one_of, none_of, min, max, min_chars, max_chars or matches")
        return self


def _condition_kind(value: object) -> str:
    if isinstance(value, dict | Condition):
        return "condition"
    return "values" if isinstance(value, list | tuple) else "value"


Where = Annotated[
    Annotated[Scalar, Tag("value")]
    | Annotated[tuple[Scalar, ...], Tag("values")]
    | Annotated[Condition, Tag("condition")],
    Discriminator(_condition_kind),
]
"""A value, a list of allowed values, or a condition."""


class Extract(Section):
    """A new column that is found in the text or code of another one."""

    column: str
    """Column, path or template of the text."""
    kind: Literal["code", "entry_point", "signature", "assertions", "examples"] | None = None
    """What is found. `code`: the fenced Python blocks, or the whole text if it has no fences. `entry_point`: the name
    of the function that the code defines (of several, the first that no other one calls; of a class `Solution`, its
    method), or that its assertions call. `signature`: the first line of that function. `assertions`: the `assert`
    statements. `examples`: LeetCode's `Input:` and `Output:` lines as assertions; none if the task allows several
    answers, changes its input in place, or is on trees or linked lists."""
    function: str | None = None
    """Column with the function's name, for `examples`. Extracted columns can be named."""
    pattern: str | None = None
    """Regular expression instead of `kind`: its first group, or the whole match without a group."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        return _regular_expression(pattern)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.kind is None) == (self.pattern is None):
            raise ValueError("give exactly one of kind and pattern")
        if (self.kind == "examples") != (self.function is not None):
            raise ValueError("kind: examples needs function, the column with the function's name; other kinds do not")
        return self


class ResponseColumn(Section):
    """The column of a source's responses, with the columns of their scores."""

    response: str
    """Column or path of the response, or of a list of responses."""
    scores: dict[Name, str] = Field(default={})
    """Name of an imported reward -> column or path of the score, or of a list with one score per response."""


class ResponseRows(Section):
    """Responses in rows that name their source."""

    source: str
    """Column or path of the source's name."""
    response: str
    """Column or path of the response."""
    scores: dict[Name, str] = Field(default={})
    """Name of an imported reward -> column or path of the score."""
    names: dict[str, Name] = Field(default={})
    """Value of the `source` column -> name of an imported source. Default: the value in lower case, without the part
    before a slash. Responses of other sources are left out and counted."""


class PromptTable(Section):
    """A prompt file or hub data set with settings of its own, such as columns with other names."""

    path: str | None = None
    """A file, a folder whose files are read in the order of their names, a glob pattern such as `shards/*.parquet`, or
    the `https://` address of a file, which is fetched once. Relative paths start at the recipe's folder. Give exactly
    one of `path` and `hub`."""
    hub: str | None = None
    """Id of a data set on the hub, or a folder with the same structure. It is read with the datasets library."""
    revision: str | None = None
    """Commit, tag or branch of `hub`. Required with `hub`. A run looks up a branch once and keeps its commit."""
    config: str | None = None
    """Configuration of the hub data set."""
    split: str = "train"
    """Split of the hub data set."""
    data_files: str | None = Field(default=None, exclude_if=_is_none)
    """Glob pattern of the files of the split in the hub data set, e.g. `data/train_1M-*`. Default: the library fetches
    the files of all splits."""
    file: str | None = Field(default=None, exclude_if=_is_none)
    """A single file of `hub` by its name there, e.g. `data/test.jsonl`, which is read in its format, without the
    datasets library. Use it for data sets that have a loading script, or files of several kinds."""
    format: FileFormat | None = None
    """Format of the files. Default: by the ending of each (.parquet, .csv, .tsv; all others are JSON). `jsonl` and
    `json` are the same: rows one per line, or one JSON array. gzip, bz2 and zstd are unpacked; UTF-8 and UTF-16 are
    recognized."""
    function: str | None = Field(default=None, exclude_if=_is_none)
    """`FILE.py:NAME`, a Python function that is called with each row (a dict) before anything else. It returns a row, a
    list of rows, or None to leave the row out. Use it where the other keys are not enough."""
    extract: dict[str, Extract] = Field(default={}, exclude_if=_is_empty)
    """New column -> where it is found. The other keys can use these columns."""
    where: dict[str, Where] = Field(default={}, exclude_if=_is_empty)
    """Column or path -> its value, a list of allowed values, or a condition. Only rows that fulfil all are taken. Of a
    path with several values, one must fulfil it."""
    languages: tuple[str, ...] = Field(default=(), exclude_if=_is_empty)
    """Languages of the prompts that are taken (ISO 639-1), as `prompts.tag_language` detects them. Default: all."""
    exclude_topics: tuple[Topic, ...] = Field(default=(), exclude_if=_is_empty)
    """Prompts on these topics are left out. They are recognized by words, formulas and code blocks."""
    columns: dict[PromptField, str] = Field(default={})
    """Field of a prompt row -> column. Other columns are then ignored. A column can be a path into nested values
    (`chosen[0].content`, `completions[].response` for all items) or a template (`"{instruction}\\n\\n{input}"`; space
    around the result is removed). Whole numbers become text in `id`, and numbers of any kind in `gold`; `tests` may be
    a list. Default: the columns have the names of the fields."""
    responses: dict[
        Name,
        Annotated[
            Annotated[str, Tag("response_column")] | Annotated[ResponseColumn, Tag("scored_column")],
            Discriminator(lambda value: "response_column" if isinstance(value, str) else "scored_column"),
        ],
    ] = Field(default={})
    """Name of an imported source -> column or path with its response, or with a list of responses. Requires
    `columns`."""
    response_rows: ResponseRows | None = Field(default=None, exclude_if=_is_none)
    """Columns of the source's name and of the response, where each row or item names its source. Requires
    `columns`."""
    turns: dict[Role, str] = Field(default={}, exclude_if=_is_empty)
    """Role -> mark before its turns, for a `prompt` that contains a conversation as one text, e.g. `{user: "Human:",
    assistant: "Assistant:"}`. Text before the first mark is the user's."""
    domain: Domain | Literal["auto"] | None = None
    """Domain of rows that have none. `auto`: code if the row has tests, math if it has gold, chinese if at least half
    of the letters are Chinese, else instruction."""
    id: Literal["column", "generated"] = "column"
    """Where a row's id comes from: its column, or generated from the file's name and the row's number."""
    limit: int | None = Field(default=None, ge=1, exclude_if=_is_none)
    """Number of rows to read from the start. Default: all rows."""
    sample: int | None = Field(default=None, ge=1, exclude_if=_is_none)
    """Number of prompts to take: those with the smallest hashes of the rows that are left after all filters. Every row
    of a taken prompt is taken. For tables of `prompts.train` and `prompts.heldout`. Default: all prompts."""
    expected_rows: int | None = Field(default=None, ge=1, exclude_if=_is_none)
    """Number of prompts that the table is expected to give, e.g. that of the paper. `fusechat plan` uses it where the
    data is not on the machine; the stage `prompts` prints it beside the count."""
    last_answer: Literal["keep", "drop"] = "keep"
    """`drop` removes the assistant's turns from the end of a conversation. A prompt must end with the user's turn."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of path and hub")
        # Compared with the defaults, not by the fields that were given: run.json gives all.
        of_hub = (self.revision, self.config, self.split, self.data_files, self.file)
        if self.path is not None and of_hub != (None, None, "train", None, None):
            raise ValueError("revision, config, split, data_files and file go with hub")
        if self.file is not None and (self.config or self.data_files or self.split != "train"):
            raise ValueError("file goes without config, split and data_files")
        if self.hub is not None and self.revision is None:
            raise ValueError("hub needs a revision")
        if self.hub is not None and self.format is not None:
            raise ValueError("format goes with path")
        return self

    @model_validator(mode="after")
    def _columns(self) -> Self:
        if "id" in self.columns and self.id == "generated":
            raise ValueError("give only one of id: generated and columns.id")
        for key in ("responses", "response_rows", "extract"):
            if getattr(self, key) and not self.columns:
                raise ValueError(f"{key} needs columns: name the column of the prompt too")
        if self.turns:
            _check_marks(self.turns)
            if self.columns and "prompt" not in self.columns:
                raise ValueError("turns needs columns.prompt, the column of the conversation's text")
        if self.function is not None and not re.fullmatch(r".+\.py:[A-Za-z_]\w*", self.function):
            raise ValueError("function must have the form FILE.py:NAME")
        return self

    @property
    def name(self) -> str:
        """Name for messages."""
        if self.file is not None:
            return f"{self.hub}/{self.file}"
        return self.path or f"{self.hub}{f'/{self.config}' if self.config else ''}/{self.split}"

    @property
    def response_columns(self) -> dict[str, ResponseColumn]:
        """Name of an imported source -> its columns."""
        return {
            name: ResponseColumn(response=column) if isinstance(column, str) else column
            for name, column in self.responses.items()
        }


def _check_marks(marks: dict[Role, str]) -> None:
    if "user" not in marks:
        raise ValueError("turns needs the mark of the user")
    if not all(mark.strip() for mark in marks.values()):
        raise ValueError("turns has an empty mark")
    if len({" ".join(mark.split()) for mark in marks.values()}) < len(marks):
        raise ValueError("turns has one mark for two roles")


def _regular_expression(pattern: str | None) -> str | None:
    if pattern is not None:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
    return pattern
