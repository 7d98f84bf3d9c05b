"""Rows of suites, in fusechat's own format or a public set's, as PROMPT rows."""

from __future__ import annotations

from typing import NamedTuple

from ..identities import prompt_id
from ..prompts import rows, text
from ..prompts.unusable import UnusableError
from ..recipe import REFERENCE, JudgedSuite, Prompts, PromptTable, Suite, VerifiedSuite
from ..records import PromptRow
from ..verify.forms.form import parse_form
from ..verify.math import gold_answer
from ..verify.tasks import needs_entry_point
from . import judged_rows
from .forms.code_sets import no_parser_warnings
from .forms.registry import FORMS
from .forms.set_form import BEGINNING, RULE, Dates, SetRow
from .judged_rows import JudgedRow
from .reference_answers import Answers


class SuiteRow(NamedTuple):
    """A row of a suite as it is used."""

    prompt: PromptRow
    """Without its file and line."""
    content: str
    """The text without the `ask` template."""
    judged: JudgedRow
    """What a judged suite needs beside the prompt."""
    rule: str | None
    """The rule that scores the answers, if neither the math nor the code verifier does."""
    beginning: str | None
    """The part of a program that the answers continue."""


def ask_of(suite: Suite) -> str:
    """Template of the suite's requests; contains `{prompt}`."""
    form = FORMS.get(suite.form)
    return suite.ask or (form.ask if form is not None else "{prompt}")


def convert(raw: SetRow, suite: Suite, config: Prompts, entry: PromptTable, answers: Answers | None) -> SuiteRow | None:
    """A row of a suite; None if the suite leaves out the row's category.

    Args:
        answers: content of a judged suite's `answers`.

    Raises:
        UnusableError: the row can't be used.
    """
    rule = beginning = None
    if suite.form != "rows":
        raw = _converted(raw, suite)
        rule, beginning = raw.pop(RULE, None), raw.pop(BEGINNING, None)
    judged: JudgedRow | None = JudgedRow()
    if isinstance(suite, JudgedSuite):
        judged = judged_rows.take(raw, suite, answers)
    else:
        raw.pop(REFERENCE, None)
    if judged is None:
        return None
    prompt, carried = rows.prompt_row(raw, config.max_chars, config.normalise, entry)
    if carried.responses:
        raise UnusableError("wrong_type", "a row of a suite must not contain responses")
    if isinstance(suite, VerifiedSuite) and rule is None:
        _check_verifiable(prompt)
    content = text.content(prompt["messages"])
    if judged.follow_up is not None:
        second, _ = rows.prompt_row({**raw, "prompt": judged.follow_up}, config.max_chars, config.normalise, entry)
        judged = judged._replace(follow_up=second["messages"][-1]["content"])
        content = f"{content}\n{judged.follow_up}"
    last = prompt["messages"][-1]
    last["content"] = ask_of(suite).replace("{prompt}", last["content"])
    return SuiteRow({**prompt, "prompt_id": prompt_id(prompt["messages"])}, content, judged, rule, beginning)


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
        with no_parser_warnings():
            form = parse_form(tests, prompt["entry_point"], None)
        if isinstance(form, Exception):
            raise UnusableError("bad_tests", f"the tests are not valid Python: {form}")
        if not prompt["entry_point"] and needs_entry_point(tests):
            raise UnusableError(
                "no_entry_point", 'a code row needs entry_point, unless its tests are {"input", "output"} pairs'
            )
    else:
        raise UnusableError("unknown_domain", f"the domain {prompt['domain']} can't be verified; use a judged suite")
