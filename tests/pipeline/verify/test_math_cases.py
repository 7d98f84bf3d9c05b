"""Math verdicts on cases of our own, in the styles that models write answers in."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusechat.pipeline.verify import CheckTask, Verdict, VerifierPool
from fusechat.pipeline.verify.sandbox import missing_layers

CASES = Path(__file__).with_name("math_cases.jsonl")
SHARED = Path(__file__).parents[4] / "shared" / "cases" / "verify.jsonl"
Misjudged = tuple[dict[str, Any], Verdict]
DEADLINE_S = 1.0
FAR_PAST_S = 60
"""Seconds that a check takes in which the deadline was missed, and never one in which it was met on a busy machine."""
pytestmark = pytest.mark.skipif(
    bool(missing_layers("basic")), reason=f"this machine has no {', '.join(missing_layers('basic'))}"
)
HOSTILE = {
    "a tower of powers": r"\boxed{9^{9^9}}",
    "a higher tower": r"\boxed{9^{9^{9^9}}}",
    "a factorial": r"\boxed{100000000!}",
    "factorials of factorials": r"\boxed{9!!!!!!!!}",
    "commas": rf"\boxed{{{',' * 20_000}}}",
    "open brackets": rf"\boxed{{{'(' * 5_000}}}",
    "nested braces": rf"\boxed{{{'{' * 3_000}1{'}' * 3_000}}}",
    "nested fractions": r"\boxed{" + r"\frac{1}{" * 60 + "2" + "}" * 61,
    "nested roots": rf"\boxed{{{(chr(92) + 'sqrt{') * 200}2{'}' * 200}}}",
    "a product of sums": rf"\boxed{{{'(x+y+z+w)^{40}' * 8}}}",
    "a long sum": rf"\boxed{{{'+'.join(f'x^{{{i}}}' for i in range(2_000))}}}",
    "a long number": f"The answer is {'9' * 19_000}.",
    "a huge exponent": "The answer is 1e999999999.",
    "a power of ten": r"\boxed{10^{999999999}}",
    "a binomial": r"\boxed{\binom{10^9}{5 \cdot 10^8}}",
    "an endless sum": r"\boxed{\sum_{k=1}^{10^9} \frac{1}{k^2}}",
    "an integral": r"\boxed{\int_0^{1} e^{-x^{x^{x}}} \sin(x^{x}) dx}",
    "boxes": r"\boxed{" * 3_000,
    "markers": "The answer is " * 1_500,
    "negations": "the answer is not 5, " * 900,
    "brackets of many shapes": rf"\boxed{{{'[({' * 600}}}",
    "a matrix": rf"\boxed{{\begin{{pmatrix}}{'&'.join(['x^{99}'] * 400)}\end{{pmatrix}}}}",
    "control characters": "\\boxed{" + "\x00\x1b[2J\x07" * 500 + "}",
    "lone surrogates": "The answer is \ud800\udfff.",
    "code": r"\boxed{__import__('os').system('touch /tmp/pwned')}",
}


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(2, timeout_s=DEADLINE_S, sandbox="basic") as workers:
        yield workers


def misjudged(cases: list[dict[str, Any]]) -> tuple[list[Misjudged], list[Misjudged], list[Verdict]]:
    """False accepts, false rejects, and all verdicts."""
    tasks = [CheckTask(id=str(i), domain="math", response=c["response"], gold=c["gold"]) for i, c in enumerate(cases)]
    with VerifierPool(2, timeout_s=60, sandbox="basic") as patient:
        verdicts = dict(patient.run(tasks))
    judged = [(c, verdicts[str(i)]) for i, c in enumerate(cases)]
    false_accepts = [(c, v) for c, v in judged if v.correct and not c["correct"]]
    false_rejects = [(c, v) for c, v in judged if not v.correct and c["correct"]]
    return false_accepts, false_rejects, [v for _, v in judged]


def read_cases(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_our_cases_have_no_false_accept_and_no_false_reject() -> None:
    cases = read_cases(CASES)
    assert len(cases) >= 2_400
    false_accepts, false_rejects, verdicts = misjudged(cases)
    assert not false_accepts
    assert not false_rejects
    reasons = Counter(v.reason for v in verdicts)
    assert set(reasons) <= {"correct", "wrong", "no_answer", "ambiguous"}, reasons
    assert all(v.detail for v in verdicts if v.reason in ("no_answer", "ambiguous"))
    assert all(v.extracted for v in verdicts if v.reason in ("correct", "wrong", "ambiguous"))


def test_other_peoples_cases_have_no_false_accept_and_hardly_a_false_reject() -> None:
    if not SHARED.is_file():
        pytest.skip("the cases from other people's bug reports are not there (../shared/cases)")
    cases = [c for c in read_cases(SHARED) if c["domain"] == "math" and not c.get("by_design")]
    false_accepts, false_rejects, _ = misjudged(cases)
    assert not false_accepts
    assert len(false_rejects) <= 0.03 * sum(c["correct"] for c in cases), false_rejects


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_answers_end_in_time_and_harm_nobody(pool: VerifierPool, name: str) -> None:
    tasks = [
        CheckTask(id="hostile", domain="math", response=HOSTILE[name], gold="3"),
        CheckTask(id="honest", domain="math", response="The answer is 3.", gold="3"),
    ]
    verdicts = dict(pool.run(tasks))
    assert verdicts["hostile"].correct is False
    assert verdicts["hostile"].reason in ("wrong", "no_answer", "ambiguous", "timeout")
    assert verdicts["hostile"].seconds < FAR_PAST_S
    assert verdicts["honest"].correct


def test_a_hostile_gold_answer_ends_in_time_too(pool: VerifierPool) -> None:
    task = CheckTask(id="m", domain="math", response=r"\boxed{9^{9^{9}}+x}", gold="9^{9^{9}}+y")
    verdict = dict(pool.run([task]))["m"]
    assert (verdict.correct, verdict.reason) in ((False, "timeout"), (False, "wrong"))
    assert verdict.seconds < FAR_PAST_S


@pytest.mark.parametrize("gold", ["", "  ", None])
def test_without_a_gold_answer_nothing_is_said(pool: VerifierPool, gold: str | None) -> None:
    verdict = dict(pool.run([CheckTask(id="m", domain="math", response="The answer is 3.", gold=gold)]))["m"]
    assert (verdict.correct, verdict.reason) == (None, "error")
