"""The prompt files, and what the intake does to their rows."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from .fields import Domain, Name, Section

PromptField = Literal["id", "domain", "prompt", "messages", "gold", "tests", "entry_point", "template"]


class PromptTable(Section):
    """A prompt file or a hub data set whose columns go by other names than a prompt row's."""

    path: str | None = None
    """A JSONL, Parquet or CSV file; relative paths start at the recipe's folder."""
    hub: str | None = None
    """Id of a data set on the hub, or a folder in the form of one."""
    revision: str | None = None
    """Commit, tag or branch of `hub`; a commit alone is sure to stay what it is."""
    config: str | None = None
    """Which of the hub data set's configurations."""
    split: str = "train"
    """Which of the hub data set's splits."""
    format: Literal["jsonl", "parquet", "csv"] | None = None
    """Of the file; none goes by its ending (.parquet, .csv, .tsv; anything else is JSONL)."""
    columns: dict[PromptField, str] = Field(default={})
    """Field of a prompt row -> column; other columns are then ignored. Empty: the columns are the fields."""
    responses: dict[Name, str] = Field(default={})
    """Name of an imported source -> column that holds its response, or a list of them."""
    domain: Domain | Literal["auto"] | None = None
    """Of rows that give none; `auto` goes by what the row holds (docs/recipe.md)."""
    id: Literal["column", "generated"] = "column"
    """Whether rows bring their id, or get the file's name and the row's number."""
    limit: int | None = Field(default=None, ge=1, exclude_if=lambda value: value is None)
    """The first so many rows; none takes all."""
    last_answer: Literal["keep", "drop"] = "keep"
    """`drop` takes the assistant's turns off a conversation's end; a prompt ends with the user's."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of path and hub")
        if self.path is not None and any(x in self.model_fields_set for x in ("revision", "config", "split")):
            raise ValueError("revision, config and split go with hub")
        if self.hub is not None and self.revision is None:
            raise ValueError("hub needs a revision")
        if self.hub is not None and self.format is not None:
            raise ValueError("format goes with path")
        if "id" in self.columns and self.id == "generated":
            raise ValueError("id is generated, and columns.id names a column for it")
        if self.responses and not self.columns:
            raise ValueError("responses needs columns: say which column is the prompt too")
        return self

    @property
    def name(self) -> str:
        """As people would name it."""
        return self.path or f"{self.hub}{f'/{self.config}' if self.config else ''}/{self.split}"


PromptFile = Annotated[
    Annotated[str, Tag("file")] | Annotated[PromptTable, Tag("table")],
    Discriminator(lambda entry: "file" if isinstance(entry, str) else "table"),
]


class Normalise(Section):
    """What is done to the text of every message before anything is compared or hashed."""

    form: Literal["NFC", "NFKC", "keep"] = "NFC"
    """Unicode normalisation form."""
    line_ends: bool = True
    """CRLF, CR, NEL and the line and paragraph separators become LF."""
    trailing_space: bool = True
    """Spaces and tabs at the end of lines go, and blank lines at the end of the text."""
    zero_width: Literal["remove", "keep"] = "remove"
    """U+200B, U+2060, U+FEFF and soft hyphens; joiners stay, words and emoji are written with them."""
    control: Literal["keep", "remove", "reject"] = "keep"
    """Control characters but tab and line ends."""


class NearDuplicates(Section):
    """Prompts that say nearly the same as an earlier one are rejects; MinHash with LSH over shingles of words."""

    threshold: float = Field(default=0.7, gt=0, le=1)
    """Jaccard similarity of the shingle sets, as the signatures estimate it, that makes a prompt a reject."""
    shingle: int = Field(default=2, ge=1, le=20)
    """Words a shingle; a Chinese, Japanese or Korean character is a word."""
    permutations: int = Field(default=128, ge=16, le=1024)
    """Hashes a signature; the estimate is off by sqrt(s(1-s)/permutations), 0.04 at 0.7."""
    same_numbers: tuple[Domain, ...] = ("math", "code")
    """Domains where prompts with other numbers in them are other problems, however alike their words."""


class Contamination(Section):
    """Training prompts that hold much of an evaluation prompt are rejects; overlap of n-grams of words."""

    sets: tuple[PromptFile, ...] = ()
    """Evaluation sets, read as prompt files are; only `prompt` or `messages` is needed."""
    heldout: bool = True
    """Whether `prompts.heldout` are evaluation sets too."""
    n: int = Field(default=8, ge=2, le=50)
    """Words an n-gram; a Chinese, Japanese or Korean character is a word."""
    threshold: float = Field(default=0.5, gt=0, le=1)
    """Share of an evaluation prompt's n-grams in a training prompt, from which that is contaminated."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.sets and not self.heldout:
            raise ValueError("there is nothing to compare with: name sets, or set heldout")
        return self


class Prompts(Section):
    """Prompt sets: JSONL, Parquet or CSV files, or hub data sets, with the fields of docs/recipe.md."""

    train: tuple[PromptFile, ...] = Field(min_length=1)
    """Files; relative paths start at the recipe's folder."""
    heldout: tuple[PromptFile, ...] = ()
    """Files that only the evaluation sees."""
    invalid: Literal["stop", "reject"] = "stop"
    """What a row that can't be used does: stops the run with its line, or is written to the rejects."""
    max_chars: int = Field(default=200_000, ge=1)
    """Longer prompts are rejects."""
    normalise: Normalise | None = Normalise()
    """None leaves the text as it is."""
    tag_language: bool = False
    """Whether each prompt's language is found out (ISO 639-1)."""
    near_duplicates: NearDuplicates | None = None
    """None removes exact duplicates alone."""
    contamination: Contamination | None = None
    """None compares with no evaluation set; held-out prompts are no training prompts in any case."""

    @property
    def entries(self) -> tuple[str | PromptTable, ...]:
        """All that is read."""
        return (*self.train, *self.heldout, *(self.contamination.sets if self.contamination is not None else ()))
