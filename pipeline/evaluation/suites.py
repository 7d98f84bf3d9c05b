"""Reads the files of suites, in fusechat's own format or a public set's, into PROMPT rows."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import InputError
from ..identities import digest, prompt_id
from ..prompts import rows, text
from ..prompts.readers import PromptReader
from ..prompts.unusable import UnusableError
from ..recipe import (
    REFERENCE,
    AnySuite,
    HarnessSuite,
    JudgedSuite,
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
from .public_sets import FOLLOW_UP, FORMS, SetRow


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
    samplings: dict[str, Sampling] = field(default_factory=dict)
    """Prompt id -> its sampling parameters, if the prompts have different ones (the harness's tasks)."""
    rejects: list[tuple[str, str, str]] = field(default_factory=list)
    """(file:line, reason, detail) of each row that can't be used."""

    @property
    def identity(self) -> str:
        """Hash of the prompts and their gold, tests and references; part of the names of folders."""
        items = [[p["prompt_id"], p["gold"], p["tests"], p["entry_point"]] for p in self.prompts]
        more = [sorted(self.follow_ups.items())] if self.follow_ups else []
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
    files = [PromptReader(entry, base) for entry in entries(suite)]
    for file in files:
        for line, raw in file.rows():
            try:
                if isinstance(raw, UnusableError):
                    raise raw
                prompt, content, reference, follow_up = _row(dict(raw), suite, config, file.entry)
            except UnusableError as unusable:
                if config.invalid == "stop" and not unusable.always_reject:
                    raise InputError(file.place, line, unusable.problem) from None
                loaded.rejects.append((f"{file.file}:{line}", unusable.reason, unusable.problem))
                continue
            identity = prompt["prompt_id"]
            if identity in loaded.contents:
                loaded.rejects.append((f"{file.file}:{line}", "duplicate", f"same prompt as {prompt['id']}"))
                continue
            loaded.prompts.append({**prompt, "language": None, "file": file.file, "line": line})
            loaded.contents[identity] = content
            if reference is not None:
                loaded.references[identity] = reference
            if follow_up is not None:
                loaded.follow_ups[identity] = follow_up
    if not loaded.prompts:
        why = f"; {len(loaded.rejects)} can't be used, e.g. {': '.join(loaded.rejects[0])}" if loaded.rejects else ""
        raise InputError(", ".join(f.place for f in files), 0, f"suite {suite.name} contains no usable row{why}")
    return loaded


def entries(suite: Suite) -> list[PromptTable]:
    """The suite's files, with the format and the id column to read them with."""
    tables = [PromptTable(path=entry) if isinstance(entry, str) else entry for entry in suite.files]
    if suite.form == "rows":
        return tables
    return [table.model_copy(update={"format": "jsonl", "id": "generated"}) for table in tables]


def ask_of(suite: Suite) -> str:
    """Template of the suite's requests; contains `{prompt}`."""
    form = FORMS.get(suite.form)
    return suite.ask or (form.ask if form is not None else "{prompt}")


def fingerprints(suite: AnySuite, base: Path) -> dict[str, str]:
    """File -> hash of its content. Empty for the harness, which finds its tasks' data itself."""
    if isinstance(suite, HarnessSuite):
        return {}
    return {file.file: file.fingerprint() for file in (PromptReader(entry, base) for entry in entries(suite))}


def _row(
    raw: SetRow, suite: Suite, config: Prompts, entry: PromptTable
) -> tuple[PromptRow, str, str | None, str | None]:
    """A PROMPT row without its file and line, the row's text, its reference answer, and its second turn.

    Raises:
        UnusableError: the row can't be used.
    """
    form = FORMS.get(suite.form)
    if form is not None:
        if missing := [key for key in form.keys if not raw.get(key)]:
            raise UnusableError("malformed", f"form {suite.form} needs the key {missing[0]!r}")
        try:
            raw = {"id": raw["id"], **form.convert(raw)}
        except (TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
            raise UnusableError("malformed", f"does not match the form {suite.form}: {error}") from None
    reference = raw.pop(REFERENCE, None)
    follow_up = raw.pop(FOLLOW_UP, None) if isinstance(suite, JudgedSuite) else None
    if reference is not None and not isinstance(reference, str):
        raise UnusableError("wrong_type", f"{REFERENCE} must be a string, got {type(reference).__name__}")
    prompt, carried = rows.prompt_row(raw, config.max_chars, config.normalise, entry)
    if carried.responses:
        raise UnusableError("wrong_type", "a row of a suite must not contain responses")
    if isinstance(suite, VerifiedSuite):
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
    return {**prompt, "prompt_id": prompt_id(prompt["messages"])}, content, reference, follow_up


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
