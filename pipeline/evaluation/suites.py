"""Loads suites of files, in fusechat's own format or a public set's, into PROMPT rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ..errors import InputError
from ..identities import digest
from ..prompts.unusable import UnusableError
from ..recipe import AnySuite, HarnessSuite, JudgedSuite, Prompts, Sampling, VerifiedSuite
from ..records import Message, PromptRow
from . import reference_answers, suite_files, suite_rows
from .forms import instruction_checks
from .suite_rows import SuiteRow


@dataclass
class LoadedSuite:
    """A suite with its prompts."""

    config: AnySuite
    prompts: list[PromptRow] = field(default_factory=list)
    """PROMPT rows, in the order of the files."""
    contents: dict[str, str] = field(default_factory=dict)
    """Prompt id -> the row's text, without the `ask` template."""
    references: dict[str, str] = field(default_factory=dict)
    """Prompt id -> the reference answer. A second turn's is under the identity of its item."""
    follow_ups: dict[str, str] = field(default_factory=dict)
    """Prompt id -> the question that follows the model's answer (MT-Bench's second turn)."""
    rules: dict[str, str] = field(default_factory=dict)
    """Prompt id -> the rule that scores its answers, if neither the math nor the code verifier does."""
    beginnings: dict[str, str] = field(default_factory=dict)
    """Prompt id -> the part of a program that its answers continue."""
    categories: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Prompt id -> category and subcategory, if the suite is judged; also for second turns, as in `references`."""
    samplings: dict[str, Sampling] = field(default_factory=dict)
    """Prompt id -> its sampling parameters, if the prompts have different ones (the harness's tasks)."""
    rejects: list[tuple[str, str, str]] = field(default_factory=list)
    """(file:line, reason, detail) of each row that can't be used."""

    @cached_property
    def identity(self) -> str:
        """Hash of the prompts and their gold, tests and references; part of the names of folders.

        The suite must be complete by then. Tests may be long, so it is computed once.
        """
        items = [[p["prompt_id"], p["gold"], p["tests"], p["entry_point"]] for p in self.prompts]
        more = [sorted(each.items()) for each in (self.follow_ups, self.rules, self.beginnings) if each]
        return digest(items, sorted(self.references.items()), *more)[:12]

    def second_turns(self) -> dict[str, PromptRow]:
        """Prompt id -> its second turn as an item: a PROMPT row with both questions and no answer between them."""
        return {p["prompt_id"]: self._second_turn(p) for p in self.prompts if p["prompt_id"] in self.follow_ups}

    def _second_turn(self, prompt: PromptRow) -> PromptRow:
        identity = prompt["prompt_id"]
        messages = [*prompt["messages"], Message(role="user", content=self.follow_ups[identity])]
        return {**prompt, "prompt_id": second_turn(identity), "id": f"{prompt['id']}, turn 2", "messages": messages}


def second_turn(identity: str) -> str:
    """Identity of a prompt's second turn. It is independent of the models' first answers."""
    return digest("second turn", identity)


def load(suite: VerifiedSuite | JudgedSuite, base: Path, config: Prompts) -> LoadedSuite:
    """Reads a suite's files.

    Args:
        config: the recipe's `prompts`, for the normalisation of text and the handling of rows that can't be used.

    Raises:
        InputError: a file can't be read, a row can't be used and `config.invalid` is `stop`, or no usable row is left.
    """
    loaded = LoadedSuite(suite)
    answers = reference_answers.load(suite, base) if isinstance(suite, JudgedSuite) else None
    files = suite_files.readers(suite, base)
    for file in files:
        before = len(loaded.prompts)
        for place, name, number, raw in suite_files.lines(suite.name, file):
            if suite.limit is not None and len(loaded.prompts) - before == suite.limit:
                break
            try:
                if isinstance(raw, UnusableError):
                    raise raw
                row = suite_rows.convert(dict(raw), suite, config, file.entry, answers)
            except UnusableError as unusable:
                if config.invalid == "stop" and not unusable.always_reject:
                    raise InputError(place, number, f"{unusable.problem} (suite {suite.name})") from None
                loaded.rejects.append((f"{name}:{number}", unusable.reason, unusable.problem))
                continue
            if row is None:
                continue
            identity = row.prompt["prompt_id"]
            if identity in loaded.contents:
                loaded.rejects.append((f"{name}:{number}", "duplicate", f"same prompt as {row.prompt['id']}"))
                continue
            loaded.prompts.append({**row.prompt, "language": None, "file": name, "line": number})
            _add(loaded, identity, row)
    if not loaded.prompts:
        why = f"; {len(loaded.rejects)} can't be used, e.g. {': '.join(loaded.rejects[0])}" if loaded.rejects else ""
        if isinstance(suite, JudgedSuite) and suite.categories:
            why = f" of the categories {', '.join(suite.categories)}{why}"
        raise InputError(", ".join(f.place for f in files), 0, f"suite {suite.name} contains no usable row{why}")
    if set(loaded.rules.values()) & set(instruction_checks.RULES) and not instruction_checks.is_installed():
        raise InputError(f"suite {suite.name}", 0, instruction_checks.HOW_TO_GET)
    return loaded


def _add(loaded: LoadedSuite, identity: str, row: SuiteRow) -> None:
    """Adds what a row has beside its prompt."""
    loaded.contents[identity] = row.content
    if row.rule is not None:
        loaded.rules[identity] = row.rule
    if row.beginning is not None:
        loaded.beginnings[identity] = row.beginning
    judged = row.judged
    turns = [(identity, judged.reference)]
    if judged.follow_up is not None:
        loaded.follow_ups[identity] = judged.follow_up
        turns.append((second_turn(identity), judged.second_reference))
    for turn, reference in turns:
        if judged.category or judged.subcategory:
            loaded.categories[turn] = (judged.category, judged.subcategory)
        if reference is not None:
            loaded.references[turn] = reference


def fingerprints(suite: AnySuite, base: Path) -> dict[str, str]:
    """File -> hash of its content. Empty for the harness, which finds its tasks' data itself."""
    if isinstance(suite, HarnessSuite):
        return {}
    files = suite_files.readers(suite, base)
    if isinstance(suite, JudgedSuite):
        files += reference_answers.readers(suite, base)
    return {file.file: file.fingerprint() for file in files}
