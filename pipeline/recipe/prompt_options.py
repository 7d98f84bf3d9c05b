"""Recipe sections for prompt sets and for the intake of their rows. A single table is in table_options.py."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from .fields import Domain, Section
from .table_options import PromptTable

PromptFile = Annotated[
    Annotated[str, Tag("file")] | Annotated[PromptTable, Tag("table")],
    Discriminator(lambda entry: "file" if isinstance(entry, str) else "table"),
]


def check_takes_all(key: str, entries: Iterable[PromptFile | None], way_out: str = "") -> None:
    """Checks that tables which are read whole have no `sample`.

    Raises:
        ValueError: one has.
    """
    if any(isinstance(entry, PromptTable) and entry.sample is not None for entry in entries):
        raise ValueError(f"{key}: sample is for prompts.train and prompts.heldout{way_out}")


def check_no_prompt_filters(key: str, entries: Iterable[PromptFile]) -> None:
    """Checks that tables whose prompts are made later have no filters on the prompt's text.

    Raises:
        ValueError: one has.
    """
    if any(isinstance(entry, PromptTable) and (entry.languages or entry.exclude_topics) for entry in entries):
        raise ValueError(f"{key}: languages and exclude_topics are for tables whose columns name the prompt; use where")


class Normalise(Section):
    """Normalization of the text of every message, before it is compared or hashed."""

    form: Literal["NFC", "NFKC", "keep"] = "NFC"
    """Unicode normalization form."""
    line_ends: bool = True
    """Replace CRLF, CR, NEL, and the line and paragraph separators with LF."""
    trailing_space: bool = True
    """Remove spaces and tabs at the end of lines, and blank lines at the end of the text."""
    zero_width: Literal["remove", "keep"] = "remove"
    """U+200B, U+2060, U+FEFF and soft hyphens. Joiners are always kept, because words and emoji contain them."""
    control: Literal["keep", "remove", "reject"] = "keep"
    """Control characters except tabs and line ends. `reject` rejects the row with the reason `control_character`."""


class NearDuplicates(Section):
    """Rejects prompts that are nearly the same as an earlier one. Uses MinHash with LSH over shingles (runs of
    words)."""

    threshold: float = Field(default=0.7, gt=0, le=1)
    """Jaccard similarity of the shingle sets, as estimated by MinHash, from which a prompt is rejected."""
    shingle: int = Field(default=2, ge=1, le=20)
    """Words per shingle. A Chinese, Japanese or Korean character counts as a word."""
    permutations: int = Field(default=128, ge=16, le=1024)
    """Hashes per signature. The standard error of the estimate is sqrt(s(1-s)/permutations), which is 0.04 at s =
    0.7."""
    same_numbers: tuple[Domain, ...] = ("math", "code")
    """Domains in which two prompts must have the same numbers and operators to be duplicates. In these domains, other
    numbers make another problem, even if the words are the same."""


class Contamination(Section):
    """Rejects training prompts that contain much of an evaluation prompt, by the overlap of word n-grams."""

    sets: tuple[PromptFile, ...] = ()
    """Evaluation sets: files or tables as in `train`. Their rows need only `prompt` or `messages`."""
    heldout: bool = True
    """Also use `prompts.heldout` as evaluation sets."""
    n: int = Field(default=8, ge=2, le=50)
    """Words per n-gram. A Chinese, Japanese or Korean character counts as a word."""
    threshold: float = Field(default=0.5, gt=0, le=1)
    """Share of an evaluation prompt's n-grams in a training prompt from which the training prompt is contaminated."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.sets and not self.heldout:
            raise ValueError("there is nothing to compare with: name sets, or set heldout to true")
        check_takes_all("sets", self.sets)
        return self


class Prompts(Section):
    """Prompt sets: JSONL, Parquet or CSV files, or hub data sets, whose rows have the fields in docs/recipe.md."""

    train: tuple[PromptFile, ...] = ()
    """Training prompts: files (JSONL; Parquet, CSV or TSV by their ending) or tables. Relative paths start at the
    recipe's folder. Required where responses are sampled or imported."""
    heldout: tuple[PromptFile, ...] = ()
    """Prompts for the evaluation only, in the same form. A training prompt that is also here is rejected."""
    invalid: Literal["stop", "reject"] = "stop"
    """What happens at a row that cannot be used: `stop` ends the run and names the line; `reject` writes the row to the
    rejects and continues."""
    max_chars: int = Field(default=200_000, ge=1)
    """Maximum number of characters in a prompt. Longer prompts are rejected."""
    normalise: Normalise | None = Normalise()
    """Normalization of the text. `null` turns it off."""
    tag_language: bool = False
    """Detect each prompt's language and write it to the column `language` (ISO 639-1; `und` without letters). Chinese,
    Japanese and Korean are detected by script, others by py3langid."""
    near_duplicates: NearDuplicates | None = None
    """Rejection of near duplicates; `{}` turns it on with its defaults. Default: reject exact duplicates only."""
    contamination: Contamination | None = None
    """Comparison with evaluation sets; `{}` turns it on with its defaults. Default: off, but a training prompt that is
    also a held-out prompt is always rejected."""

    @property
    def entries(self) -> tuple[str | PromptTable, ...]:
        """All files and tables that are read."""
        return (*self.train, *self.heldout, *(self.contamination.sets if self.contamination is not None else ()))
