"""How many answers the suites of the evaluation ask of each model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from ..machine.accelerators import SHARE_OF_MAX_TOKENS
from ..prompts import named_files
from ..prompts.readers import PromptReader
from ..recipe import AnySuite, Evaluate, HarnessSuite, JudgedSuite, Suite, VerifiedSuite
from .text_tables import short

PUBLISHED_ROWS = {
    "gsm8k": 1319,
    "math": 5000,
    "amc23": 40,
    "aime25": 30,
    "mmlu_pro": 12032,
    "gpqa": 198,
    "ifbench": 300,
    "humaneval": 164,
    "mbpp": 500,
    "alpaca_eval": 805,
    "arena_hard": 500,
    "mt_bench": 80,
    "align_bench": 683,
}
"""Form of a suite -> rows of the public test set in that form, where the suite's files can't be read here."""
TURNS = {"mt_bench": 2}
"""Form of a suite -> answers to a row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteCount:
    """The work of one suite for each model."""

    name: str
    rows: int | None
    """None if the number is unknown."""
    basis: str
    samples: int
    """Answers to a row."""
    tokens: float
    """Expected tokens of an answer."""
    judge: str = ""
    """Who judges the answers; empty if they are verified."""
    judgements: int = 2
    """Judgements of an answer: both orders of a pair, or one rating."""

    @property
    def answers(self) -> int:
        """Answers of one model."""
        return (self.rows or 0) * self.samples


def suite_count(suite: AnySuite, config: Evaluate, base: Path) -> SuiteCount:
    """The work of a suite.

    Args:
        base: folder that the suite's relative paths start at.
    """
    if isinstance(suite, HarnessSuite):
        tokens = SHARE_OF_MAX_TOKENS * config.sampling.max_tokens
        basis = "only the harness knows its tasks"
        if suite.limit is not None:
            basis = f"only the harness knows its tasks; at most {suite.limit} questions each"
        return SuiteCount(name=suite.name, rows=None, basis=basis, samples=1, tokens=tokens)
    rows, basis = _rows(suite, base)
    return SuiteCount(
        name=suite.name,
        rows=rows,
        basis=basis,
        samples=suite.samples if isinstance(suite, VerifiedSuite) else TURNS.get(suite.form, 1),
        tokens=SHARE_OF_MAX_TOKENS * (suite.sampling or config.sampling).max_tokens,
        judge=suite.judge if isinstance(suite, JudgedSuite) else "",
        judgements=1 if isinstance(suite, JudgedSuite) and suite.method == "rating" else 2,
    )


def _rows(suite: Suite, base: Path) -> tuple[int | None, str]:
    """The number of a suite's rows, and where it comes from."""
    try:
        tables = [table for entry in suite.files for table in named_files.tables(suite.name, entry, base)]
    except InputError:  # the files of `evaluate.suite_files` are not here
        tables = []
    any_columns = suite.form != "rows" or isinstance(suite, JudgedSuite)
    readers = [PromptReader(table, base, any_columns=any_columns) for table in tables]
    if readers and all(reader.entry.hub is None and reader.path.is_file() for reader in readers):
        partial = suite.since or suite.until or (isinstance(suite, JudgedSuite) and suite.categories)
        basis = "the files, before categories and dates" if partial else "the files"
        return sum(_limited(suite, sum(1 for _ in reader.lines())) for reader in readers), basis
    known = [table.expected_rows for table in tables if table.expected_rows is not None]
    if known and len(known) == len(tables):
        return sum(_limited(suite, rows) for rows in known), "expected_rows"
    if suite.form in PUBLISHED_ROWS and len(tables) <= 1:
        return _limited(suite, PUBLISHED_ROWS[suite.form]), f"the public set in the form {suite.form}"
    return None, "its files can't be read here"


def _limited(suite: Suite, rows: int) -> int:
    return rows if suite.limit is None else min(rows, suite.limit)


def describe(counts: list[SuiteCount], num_models: int) -> Iterator[str]:
    """The suites as lines of text."""
    for one in counts:
        if one.rows is None:
            yield f"suite {one.name}: unknown number of rows: {one.basis}"
            continue
        samples = f" x {one.samples} answers" if one.samples > 1 else ""
        tokens = short(one.answers * num_models * one.tokens)
        judged = f"; {one.judgements * one.answers * num_models} judgements by {one.judge}" if one.judge else ""
        yield f"suite {one.name}: {one.rows} rows ({one.basis}){samples} x {num_models} models, {tokens} tokens{judged}"
