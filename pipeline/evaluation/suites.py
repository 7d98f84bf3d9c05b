"""Reads the files of suites, in fusechat's own format or a public set's, into PROMPT rows."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ..errors import InputError
from ..identities import digest, prompt_id
from ..prompts import rows, text
from ..prompts.readers import PromptReader, ReadRow
from ..prompts.rows import UnusableError
from ..recipe import (
    REFERENCE,
    AnySuite,
    HarnessSuite,
    JudgedSuite,
    PromptFile,
    Prompts,
    PromptTable,
    Sampling,
    Suite,
    VerifiedSuite,
)
from ..records import Message, PromptRow
from ..verify.forms.form import parse_form
from ..verify.math import gold_answer
from ..verify.tasks import needs_entry_point
from .forms import instruction_checks
from .forms.form import FOLLOW_UP, RULE, Dates, SetRow
from .forms.registry import FORMS

ENDINGS = (".jsonl", ".parquet", ".csv", ".tsv", ".json")
"""Endings of the files in `evaluate.suite_files`."""


@dataclass(slots=True)
class LoadedSuite:
    """A suite with its prompts."""

    config: AnySuite
    prompts: list[PromptRow] = field(default_factory=list)
    """PROMPT rows, in the order of the files."""
    contents: dict[str, str] = field(default_factory=dict)
    """Prompt id -> the row's text, without the `ask` template."""
    references: dict[str, str] = field(default_factory=dict)
    """Prompt id -> the reference answer in the row."""
    follow_ups: dict[str, str] = field(default_factory=dict)
    """Prompt id -> the question that follows the model's answer (MT-Bench's second turn)."""
    rules: dict[str, str] = field(default_factory=dict)
    """Prompt id -> the rule that scores its answers, if neither the math nor the code verifier does."""
    samplings: dict[str, Sampling] = field(default_factory=dict)
    """Prompt id -> its sampling parameters, if the prompts have different ones (the harness's tasks)."""
    rejects: list[tuple[str, str, str]] = field(default_factory=list)
    """(file:line, reason, detail) of each row that can't be used."""

    @property
    def identity(self) -> str:
        """Hash of the prompts and their gold, tests and references; part of the names of folders."""
        items = [[p["prompt_id"], p["gold"], p["tests"], p["entry_point"]] for p in self.prompts]
        more = [sorted(each.items()) for each in (self.follow_ups, self.rules) if each]
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
    files = [PromptReader(entry, base, any_columns=suite.form != "rows") for entry in entries(suite, base)]
    for file in files:
        before = len(loaded.prompts)
        for line, raw in _rows(suite, file):
            if suite.limit is not None and len(loaded.prompts) - before == suite.limit:
                break
            try:
                if isinstance(raw, UnusableError):
                    raise raw
                row = _row(dict(raw), suite, config, file.entry)
            except UnusableError as unusable:
                if config.invalid == "stop" and not unusable.always_reject:
                    raise InputError(file.place, line, f"{unusable.problem} (suite {suite.name})") from None
                loaded.rejects.append((f"{file.file}:{line}", unusable.reason, unusable.problem))
                continue
            identity = row.prompt["prompt_id"]
            if identity in loaded.contents:
                loaded.rejects.append((f"{file.file}:{line}", "duplicate", f"same prompt as {row.prompt['id']}"))
                continue
            loaded.prompts.append({**row.prompt, "language": None, "file": file.file, "line": line})
            loaded.contents[identity] = row.content
            if row.reference is not None:
                loaded.references[identity] = row.reference
            if row.follow_up is not None:
                loaded.follow_ups[identity] = row.follow_up
            if row.rule is not None:
                loaded.rules[identity] = row.rule
    if not loaded.prompts:
        why = f"; {len(loaded.rejects)} can't be used, e.g. {': '.join(loaded.rejects[0])}" if loaded.rejects else ""
        raise InputError(", ".join(f.place for f in files), 0, f"suite {suite.name} contains no usable row{why}")
    if set(loaded.rules.values()) & set(instruction_checks.RULES) and not instruction_checks.is_installed():
        raise InputError(f"suite {suite.name}", 0, instruction_checks.HOW_TO_GET)
    return loaded


def _rows(suite: Suite, file: PromptReader) -> Iterator[tuple[int, ReadRow]]:
    """The file's rows.

    Raises:
        InputError: it can't be read. For a hub data set the message says what to do.
    """
    try:
        yield from file.rows()
    except InputError as error:
        if file.entry.hub is None or file.path.exists():
            raise
        gated = re.search(r"gated|401|403", error.problem, re.IGNORECASE)
        token = "accept its terms on the hub and set HF_TOKEN, or " if gated else ""
        remedy = f"{token}put {suite.name}.jsonl, .parquet or .csv into a folder and set evaluate.suite_files to it"
        raise InputError(error.file, error.line, f"suite {suite.name}: {error.problem}; {remedy}") from error


def entries(suite: Suite, base: Path) -> list[PromptTable]:
    """The suite's files, with the id column to read them with.

    Args:
        base: folder that relative paths are relative to.

    Raises:
        InputError: `evaluate.suite_files` has no file of the suite.
    """
    tables = [table for entry in suite.files for table in _tables(suite, entry, base)]
    return tables if suite.form == "rows" else [table.model_copy(update={"id": "generated"}) for table in tables]


def _tables(suite: Suite, entry: PromptFile, base: Path) -> list[PromptTable]:
    if not isinstance(entry, str):
        return [entry]
    path = base / entry
    if path.name != suite.name or path.is_file():
        return [PromptTable(path=entry)]
    # evaluate.suite_files names files without their ending, or folders
    found = [f"{entry}{ending}" for ending in ENDINGS if path.with_name(f"{path.name}{ending}").is_file()][:1]
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.suffix in ENDINGS)
        found += [f"{entry}/{file.relative_to(path)}" for file in inside]
    if not found:
        names = ", ".join(f"{path.name}{ending}" for ending in ENDINGS)
        problem = f"suite {suite.name}: there is none of {names}, nor a folder {path.name} with such files"
        raise InputError(str(path.parent), 0, f"{problem} (evaluate.suite_files)")
    return [PromptTable(path=file) for file in found]


def ask_of(suite: Suite) -> str:
    """Template of the suite's requests; contains `{prompt}`."""
    form = FORMS.get(suite.form)
    return suite.ask or (form.ask if form is not None else "{prompt}")


def fingerprints(suite: AnySuite, base: Path) -> dict[str, str]:
    """File -> hash of its content. Empty for the harness, which finds its tasks' data itself."""
    if isinstance(suite, HarnessSuite):
        return {}
    return {file.file: file.fingerprint() for file in (PromptReader(entry, base) for entry in entries(suite, base))}


class _Row(NamedTuple):
    """A row of a suite as it is used."""

    prompt: PromptRow
    """Without its file and line."""
    content: str
    """The text without the `ask` template."""
    reference: str | None
    follow_up: str | None
    rule: str | None


def _row(raw: SetRow, suite: Suite, config: Prompts, entry: PromptTable) -> _Row:
    """A row of a suite.

    Raises:
        UnusableError: the row can't be used.
    """
    if suite.form != "rows":
        raw = _converted(raw, suite)
    reference, rule = raw.pop(REFERENCE, None), raw.pop(RULE, None)
    follow_up = raw.pop(FOLLOW_UP, None) if isinstance(suite, JudgedSuite) else None
    if reference is not None and not isinstance(reference, str):
        raise UnusableError("wrong_type", f"{REFERENCE} must be a string, got {type(reference).__name__}")
    prompt, carried = rows.prompt_row(raw, config.max_chars, config.normalise, entry)
    if carried:
        raise UnusableError("wrong_type", "a row of a suite must not contain responses")
    if isinstance(suite, VerifiedSuite) and rule is None:
        _check_verifiable(prompt)
    if isinstance(suite, JudgedSuite) and suite.baseline == REFERENCE and reference is None:
        raise UnusableError("no_reference", f"the suite's baseline is {REFERENCE}, but the row has no {REFERENCE}")
    content = text.content(prompt["messages"])
    if follow_up is not None:
        if isinstance(suite, JudgedSuite) and suite.baseline == REFERENCE:
            raise UnusableError("no_reference", f"a {FOLLOW_UP} has no reference; its baseline must be a model")
        second, _ = rows.prompt_row({**raw, "prompt": follow_up}, config.max_chars, config.normalise, entry)
        follow_up = second["messages"][-1]["content"]
        content = f"{content}\n{follow_up}"
    last = prompt["messages"][-1]
    last["content"] = ask_of(suite).replace("{prompt}", last["content"])
    return _Row({**prompt, "prompt_id": prompt_id(prompt["messages"])}, content, reference, follow_up, rule)


def _converted(raw: SetRow, suite: Suite) -> SetRow:
    """A row of a public set as a prompt row.

    Raises:
        UnusableError: it is no part of the suite, or of another format.
    """
    form = FORMS[suite.form]
    if missing := [key for key in form.keys if raw.get(key) in (None, "", [])]:
        raise UnusableError("malformed", f"form {suite.form} needs the key {missing[0]!r}")
    try:
        if why := form.left_out(raw, Dates(suite.since, suite.until)):
            raise UnusableError("left_out", why, always_reject=True)
        return {"id": raw["id"], **form.convert(raw)}
    except KeyError as error:
        raise UnusableError("malformed", f"form {suite.form} needs the key {error}") from None
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise UnusableError("malformed", f"does not match the form {suite.form}: {error}") from None


def _check_verifiable(prompt: PromptRow) -> None:
    if prompt["domain"] == "math":
        if not gold_answer(prompt["gold"] or ""):
            raise UnusableError("no_gold", f"gold contains no readable answer: {prompt['gold']!r:.80}")
    elif prompt["domain"] == "code":
        tests = prompt["tests"] or ""
        with warnings.catch_warnings():  # what Python warns of in the row's code
            warnings.simplefilter("ignore")
            form = parse_form(tests, prompt["entry_point"], None)
        if isinstance(form, Exception):
            raise UnusableError("bad_tests", f"the tests are not valid Python: {form}")
        if not prompt["entry_point"] and needs_entry_point(tests):
            raise UnusableError(
                "no_entry_point", 'a code row needs entry_point, unless its tests are {"input", "output"} pairs'
            )
    else:
        raise UnusableError("unknown_domain", f"the domain {prompt['domain']} can't be verified; use a judged suite")
