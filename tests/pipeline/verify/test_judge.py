"""The judge: tests of every form, objects as handles, and tests that say nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from code_cases import ADD, FORMS, OBJECTS, SUB, TESTS_THAT_ASSERT_NOTHING, Case

from fusechat.pipeline.verify import CheckTask, Verdict, VerifierPool
from fusechat.pipeline.verify.files import task_of
from fusechat.pipeline.verify.sandbox import missing_layers

LEVEL = "basic" if missing_layers("strict") else "strict"
pytestmark = pytest.mark.skipif(
    bool(missing_layers("basic")), reason=f"this machine has no {', '.join(missing_layers('basic'))}"
)


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(1, timeout_s=20, sandbox=LEVEL) as workers:  # type: ignore[arg-type]
        yield workers


def judged(pool: VerifierPool, response: str, tests: str, entry_point: str | None) -> Verdict:
    task = CheckTask(
        id="c", domain="code", response=f"```python\n{response}\n```", tests=tests, entry_point=entry_point
    )
    return dict(pool.run([task]))["c"]


@pytest.mark.parametrize("form", FORMS)
def test_each_form_tells_right_from_wrong(pool: VerifierPool, form: str) -> None:
    right, wrong = judged(pool, ADD, FORMS[form], "add"), judged(pool, SUB, FORMS[form], "add")
    assert right.correct is True, right
    assert wrong.correct is False, wrong


@pytest.mark.parametrize("kind", TESTS_THAT_ASSERT_NOTHING)
def test_tests_that_assert_nothing_say_nothing(pool: VerifierPool, kind: str) -> None:
    verdict = judged(pool, SUB, TESTS_THAT_ASSERT_NOTHING[kind], "add")
    assert (verdict.correct, verdict.reason) == (None, "error"), verdict
    assert verdict.detail


@pytest.mark.parametrize("case", OBJECTS, ids=lambda c: c.kind)
def test_objects(pool: VerifierPool, case: Case) -> None:
    verdict = judged(pool, case.response, case.tests, case.entry_point)
    assert verdict.correct is case.right, verdict


def test_other_peoples_cases() -> None:
    shared = Path(__file__).parents[4] / "shared" / "cases" / "verify.jsonl"
    if not shared.is_file():
        pytest.skip("the cases are not beside the checkout")
    rows = [json.loads(line) for line in shared.read_text("utf-8").splitlines()]
    rows = [row for row in rows if row["domain"] == "code" and not row.get("by_design")]
    with VerifierPool(2, timeout_s=3, sandbox=LEVEL) as pool:  # type: ignore[arg-type]
        verdicts = dict(pool.run(task_of(row, row["id"]) for row in rows))
    accepted = [row["id"] for row in rows if not row["correct"] and verdicts[row["id"]].correct]
    refused = [row["id"] for row in rows if row["correct"] and not verdicts[row["id"]].correct]
    assert not accepted and not refused
