"""Verdicts on rows in the forms of public code data sets: right solutions pass, and mutants do not.

The problems are the project's own (forms/rows/problems); each form's renderer writes them as the data set would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from fusechat.pipeline.verify import CheckTask, Verdict, VerifierPool
from fusechat.pipeline.verify.sandbox import missing_layers

from .forms.apps import apps_rows
from .forms.bank import Case, Outcome, execute, problems
from .forms.bigcodebench import bigcodebench_rows
from .forms.humaneval import humaneval_rows
from .forms.kodcode import kodcode_rows
from .forms.leetcode import leetcode_rows
from .forms.livecodebench import livecodebench_rows
from .forms.mbpp import mbpp_rows
from .forms.rendering import Row, seen, told_apart
from .forms.self_oss import self_oss_rows

LEVEL = "basic" if missing_layers("strict") else "strict"
NEEDS_SANDBOX = pytest.mark.skipif(
    bool(missing_layers("basic")), reason=f"this machine has no {', '.join(missing_layers('basic'))}"
)
FORMS: dict[str, Callable[[], Iterator[Row]]] = {
    "humaneval": humaneval_rows,
    "mbpp": mbpp_rows,
    "kodcode": kodcode_rows,
    "leetcode": leetcode_rows,
    "self-oss-instruct": self_oss_rows,
    "apps": apps_rows,
    "livecodebench": livecodebench_rows,
    "bigcodebench": bigcodebench_rows,
}
MIN_ROWS = 100
MIN_ACCEPTED = 0.99


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(2, timeout_s=20, sandbox=LEVEL) as workers:  # type: ignore[arg-type]
        yield workers


def test_the_bank_is_sound() -> None:
    """Each right solution passes its own tests, and each mutant fails some."""
    assert len({problem.name for problem in problems()}) == len(problems()) >= 110
    for problem in problems():
        codes = [problem.solution, *problem.mutants]
        if problem.statements:
            outcomes = [_runs(code, problem.statements) for code in codes]
        else:
            outcomes = [not told_apart(problem, code, problem.cases, seen_or_message) for code in codes]
        assert outcomes == [True] + [False] * len(problem.mutants), problem.name
        assert len(problem.mutants) >= 2, problem.name


@NEEDS_SANDBOX
@pytest.mark.parametrize("form", FORMS)
def test_right_solutions_pass_and_mutants_do_not(pool: VerifierPool, form: str) -> None:
    rows = {row.id: row for row in FORMS[form]()}
    tasks = (
        CheckTask(
            id=r.id, domain="code", response=r.response, tests=r.tests, entry_point=r.entry_point, prompt=r.prompt
        )
        for r in rows.values()
    )
    verdicts = dict(pool.run(tasks))
    right = [id_ for id_, row in rows.items() if row.right]
    refused = [id_ for id_ in right if not verdicts[id_].correct]
    accepted = [id_ for id_, row in rows.items() if not row.right and verdicts[id_].correct]
    assert len(right) >= MIN_ROWS
    assert not accepted, _listed(accepted, verdicts)
    assert len(refused) <= (1 - MIN_ACCEPTED) * len(right), _listed(refused, verdicts)


def seen_or_message(outcome: Outcome, case: Case) -> bool:
    return seen(outcome, case) or outcome.message != case.outcome.message


def _runs(code: str, statements: list[str]) -> bool:
    names: dict[str, object] = {"__name__": "solution"}
    try:
        for part in (code, *statements):
            execute(part, names)
    except Exception:  # noqa: BLE001 - what the tests find
        return False
    return True


def _listed(ids: list[str], verdicts: dict[str, Verdict]) -> str:
    return "\n".join(f"{id_}: {verdicts[id_].reason}: {verdicts[id_].detail}" for id_ in ids)
