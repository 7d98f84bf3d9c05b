"""The judge: tests of every form, objects as handles, and tests that say nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from code_cases import ADD, FORMS, OBJECTS, SUB, TESTS_THAT_ASSERT_NOTHING, Case

from fusechat.pipeline.verify import CheckTask, Verdict, VerifierPool
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
