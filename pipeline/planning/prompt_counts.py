"""How many prompts a plan counts with, and how long they are: those of the data, or what the recipe expects of it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import CapacityError, FusechatError, RecipeError, RunDirectoryError, one_line
from ..machine.accelerators import CHARS_PER_TOKEN
from ..prompts.intake import Intake
from ..prompts.readers import PromptReader
from ..recipe import DOMAINS, Domain, ImportedSource, PromptTable
from ..records import CARRIED, PROMPT
from ..run import Run
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from .text_tables import aligned, wrapped

PROMPT_TOKENS: dict[Domain, float] = {"instruction": 185, "math": 60, "code": 150, "chinese": 40}
"""Assumed mean tokens of a prompt where its data can't be read.

instruction: UltraFeedback's prompts (arXiv 2310.01377). math: 400 problems of GSM8K, 235 characters each, 4 characters
a token. code: a guess between MBPP's problems (147 characters) and LeetCode's pages. chinese: 60 questions of
AlignBench and CMATH, 62 characters each, 1.5 characters a token.
"""
LENGTHS_BASIS = "instruction as UltraFeedback's, math as GSM8K's, chinese as AlignBench's and CMATH's; code is a guess"


@dataclass(frozen=True, slots=True)
class DomainCount:
    """The prompts of one domain."""

    rows: float
    tokens: float
    """Mean tokens of a prompt."""

    def __add__(self, other: DomainCount) -> DomainCount:
        rows = self.rows + other.rows
        return DomainCount(rows, (self.rows * self.tokens + other.rows * other.tokens) / max(rows, 1))


Counts = Mapping[Domain, DomainCount]


@dataclass(frozen=True, slots=True)
class PromptSet:
    """The prompts of one file or table."""

    name: str
    counts: Counts
    basis: str


@dataclass(frozen=True, slots=True)
class PromptCounts:
    """The prompts that a plan counts with."""

    train: Counts
    heldout: Counts
    imported: Mapping[tuple[str, Domain], float] = field(default_factory=dict)
    """(Imported source, domain) -> number of its responses."""
    sets: tuple[PromptSet, ...] = ()
    """The sets one by one, if some of them can't be read here."""
    problem: str = ""
    """Why the data can't be read here; empty if the run directory has the prompts."""

    @property
    def expected(self) -> bool:
        """Whether these are counts of the recipe, at least in part."""
        return bool(self.sets)


def is_unreachable(error: FusechatError) -> bool:
    """Whether data is not here or can't be fetched. A mistake in the recipe or in the data is something else."""
    from httpx2 import HTTPError

    if isinstance(error, RunDirectoryError | CapacityError):
        return False
    cause = error.__cause__
    while cause is not None and not isinstance(cause, OSError | HTTPError):
        cause = cause.__cause__
    return cause is not None


def counted(run: Run, problem: str = "") -> PromptCounts:
    """The prompts that the run directory has.

    Args:
        problem: why its data can't be read now, if so.
    """
    buckets = run.recipe.sample.buckets
    train, heldout = _in_parts(run.dir, "train", buckets), _in_parts(run.dir, "heldout", buckets)
    return PromptCounts(train, heldout, _imported(run.dir, buckets), problem=problem)


def expected(run: Run, error: FusechatError) -> PromptCounts:
    """The prompts of a recipe whose data is not on this machine.

    Sets on this machine are read. Of the others, `expected_rows` prompts are counted, of an assumed length.

    Args:
        error: why the data can't be read.

    Raises:
        RecipeError: a set is not on this machine, and the recipe does not say how many prompts it has.
        FusechatError: `error`, if all sets are on this machine.
    """
    prompts, problem = run.recipe.prompts, one_line(error)
    if run.dir.manifest("prompts") is not None:
        return counted(run, problem)
    imported: Counter[tuple[str, Domain]] = Counter()
    found: dict[str, list[PromptSet]] = {"train": [], "heldout": []}
    for which, entries in (("train", prompts.train), ("heldout", prompts.heldout)):
        for i, entry in enumerate(entries):
            reader = PromptReader(entry, run.base)
            if _is_here(reader):
                with tempfile.TemporaryDirectory() as folder:
                    counts, responses = _read(run, entry, RunDir(folder))
                found[which].append(PromptSet(reader.file, counts, "the data"))
                imported.update(responses)
                continue
            if reader.entry.expected_rows is None:
                raise RecipeError(
                    f"prompts.{which}.{i}.expected_rows",
                    None,
                    f"{reader.place} can't be read on this machine; without it, the plan needs its number of prompts",
                ) from error
            domain, guess = _domain(reader.entry)
            given = (reader.entry.expected_rows, reader.entry.limit, reader.entry.sample)
            rows = min(num for num in given if num is not None)
            count = DomainCount(rows, PROMPT_TOKENS[domain])
            found[which].append(PromptSet(reader.file, {domain: count}, f"the recipe{guess}"))
            imported.update({(source, domain): rows for source in reader.entry.responses})
    sets = (*found["train"], *found["heldout"])
    if all(one.basis == "the data" for one in sets):
        raise error
    return PromptCounts(_sum(found["train"]), _sum(found["heldout"]), imported, sets, problem)


def _is_here(reader: PromptReader) -> bool:
    if reader.entry.hub is not None:
        return reader.path.is_dir()
    path = reader.path.absolute()
    return path.exists() or any(Path(path.anchor).glob(str(path.relative_to(path.anchor))))


def _domain(entry: PromptTable) -> tuple[Domain, str]:
    """The domain of a table's rows, and how it was guessed if the table does not name one."""
    for domain in DOMAINS:
        if entry.domain == domain:
            return domain, ""
    guess: Domain = "code" if "tests" in entry.columns else "math" if "gold" in entry.columns else "instruction"
    return guess, f", {guess} by its columns"


def _read(run: Run, entry: str | PromptTable, folder: RunDir) -> tuple[Counts, Mapping[tuple[str, Domain], float]]:
    """Reads one set with the intake, without comparing it with others."""
    config = run.recipe.prompts.model_copy(update={"train": (entry,), "heldout": (), "contamination": None})
    names = [s.name for s in run.recipe.sources if isinstance(s, ImportedSource)]
    Intake(config, run.base, folder, 1, names).read()
    return _in_parts(folder, "train", 1), _imported(folder, 1)


def _in_parts(folder: RunDir, which: str, num_buckets: int) -> Counts:
    parts = Parts(folder, f"prompts/{which}", PROMPT, "prompt_id")
    rows: Counter[Domain] = Counter()
    chars: Counter[Domain] = Counter()
    for bucket in range(num_buckets):
        for row in parts.read(bucket, columns=["domain", "messages"]).to_pylist():
            rows[row["domain"]] += 1
            chars[row["domain"]] += sum(len(m["content"]) for m in row["messages"])
    return {d: DomainCount(rows[d], chars[d] / rows[d] / CHARS_PER_TOKEN) for d in rows}


def _imported(folder: RunDir, num_buckets: int) -> Mapping[tuple[str, Domain], float]:
    parts = Parts(folder, "prompts/responses", CARRIED, "carried_id")
    found: Counter[tuple[str, Domain]] = Counter()
    for bucket in range(num_buckets):
        for row in parts.read(bucket, columns=["source", "domain"]).to_pylist():
            found[row["source"], row["domain"]] += 1
    return found


def _sum(sets: list[PromptSet]) -> Counts:
    total: dict[Domain, DomainCount] = {}
    for one in sets:
        for domain, count in one.counts.items():
            total[domain] = total.get(domain, DomainCount(0, 0)) + count
    return total


def describe(counts: PromptCounts) -> Iterator[str]:
    """The counts as lines of text."""
    total = sum(c.rows for c in counts.train.values())
    yield f"prompts: {total:.0f} ({', '.join(f'{c.rows:.0f} {d}' for d, c in counts.train.items())})"
    if counts.heldout:
        yield f"held-out prompts: {sum(c.rows for c in counts.heldout.values()):.0f}"
    if not counts.problem:
        return
    if not counts.expected:
        yield "these are the run directory's prompts; their data can't be read here:"
        yield from wrapped(counts.problem)
        return
    yield "these are counts of the recipe (expected_rows), not of the data, which can't be read here:"
    yield from wrapped(counts.problem)
    rows = [("set", "domain", "prompts", "tokens each", "from")]
    for one in counts.sets:
        rows += [(one.name, d, f"{c.rows:.0f}", f"{c.tokens:.0f}", one.basis) for d, c in one.counts.items()]
    yield from (f"  {line}" for line in aligned(rows))
