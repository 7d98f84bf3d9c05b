"""Verdicts: math and code in the real workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusechat.pipeline.verify import CheckTask, Verdict, VerifierPool
from fusechat.pipeline.verify.sandbox import missing_layers

LEVEL = "basic" if missing_layers("strict") else "strict"
pytestmark = pytest.mark.skipif(
    bool(missing_layers("basic")), reason=f"this machine has no {', '.join(missing_layers('basic'))}"
)
TESTS = "assert f(1) == 2\nassert f(41) == 42"
FAR_PAST_S = 60
"""Seconds that a check takes in which the deadline was missed, and never one in which it was met on a busy machine."""


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    """One whose deadline no honest check meets, however busy the machine is."""
    with VerifierPool(1, timeout_s=60, sandbox=LEVEL) as workers:  # type: ignore[arg-type]
        yield workers


@pytest.fixture(scope="module")
def hasty() -> Iterator[VerifierPool]:
    """For checks that take for ever."""
    with VerifierPool(1, timeout_s=1, sandbox=LEVEL) as workers:  # type: ignore[arg-type]
        yield workers


def math(pool: VerifierPool, response: str, gold: str) -> Verdict:
    return dict(pool.run([CheckTask(id="m", domain="math", response=response, gold=gold)]))["m"]


def code(pool: VerifierPool, body: str, tests: str = TESTS, entry_point: str | None = "f") -> Verdict:
    task = CheckTask(id="c", domain="code", response=f"```python\n{body}\n```", tests=tests, entry_point=entry_point)
    return dict(pool.run([task]))["c"]


RIGHT = [
    ("5", "5"), ("5.0", "5"), ("1,234", "1234"), ("$12", "12"), ("1e6", "1000000"), ("７", "7"), ("-3", "-3"),
    (r"\frac{1}{2}", "0.5"), ("1/2", "0.5"), ("0.5", r"\frac{1}{2}"), (r"2\sqrt{2}", r"\sqrt{8}"), ("50%", "50"),
    (r"50\%", "50"), ("x+1", "1+x"), ("(1, 2)", "(1,2)"), (r"\{1, 2\}", r"\{2, 1\}"), ("42 apples", "42"),
    ("12 dollars", "12"), ("007", "7"),
]  # fmt: skip
WRONG = [
    ("18", "1800"), ("50", "0.5"), ("50%", "0.5"), ("20000", "20001"), ("[1, 2]", "(1, 2)"), ("4", "5"), ("-5", "5"),
    (r"\frac{1}{3}", "0.5"), ("5.01", "5"), ("x", "5"), ("0", "10"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "gold"), RIGHT)
def test_accepts_what_is_equal(pool: VerifierPool, answer: str, gold: str) -> None:
    verdict = math(pool, f"Some steps.\nThe answer is {answer}.", gold)
    assert (verdict.correct, verdict.reason) == (True, "correct")


@pytest.mark.parametrize(("answer", "gold"), WRONG)
def test_refuses_what_is_not(pool: VerifierPool, answer: str, gold: str) -> None:
    assert math(pool, f"The answer is {answer}.", gold).correct is False


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("I don't know", "no_answer"),
        ("The answer is not 5, it is 6", "ambiguous"),
        ("The answer is 5 or 6", "ambiguous"),
    ],
)
def test_says_why_there_is_no_match(pool: VerifierPool, response: str, reason: str) -> None:
    verdict = math(pool, response, "6")
    assert (verdict.correct, verdict.reason) == (False, reason)


@pytest.mark.parametrize("answer", ["9^{9^9}", "9^{9^{9^9}}", "100000000!", "," * 20_000, "(" * 5_000])
def test_hostile_math_ends_in_time(hasty: VerifierPool, answer: str) -> None:
    verdict = math(hasty, rf"\boxed{{{answer}}}", "3")
    assert verdict.correct is False
    assert verdict.seconds < FAR_PAST_S
    assert math(hasty, "The answer is 3.", "3").correct  # the pool is unharmed


def test_passes_what_is_right(pool: VerifierPool) -> None:
    verdict = code(pool, "def f(x):\n    return x + 1")
    assert (verdict.correct, verdict.reason) == (True, "passed")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("def f(x):\n    return x", "failed"),
        ("def f(x):\n    raise KeyError(x)", "error"),
        ("def g(x):\n    return x + 1", "error"),
        ("def f(x:\n    return", "error"),
        ("def f(x):\n    return [0] * 10**10", "memory"),
    ],
)
def test_says_why_code_fails(pool: VerifierPool, body: str, reason: str) -> None:
    verdict = code(pool, body)
    assert (verdict.correct, verdict.reason) == (False, reason), verdict


@pytest.mark.parametrize("body", ["def f(x):\n    while True: pass", "while True: pass\ndef f(x): return x + 1"])
def test_code_without_end_is_a_timeout(hasty: VerifierPool, body: str) -> None:
    verdict = code(hasty, body)
    assert (verdict.correct, verdict.reason) == (False, "timeout"), verdict


def test_the_standard_library_and_numpy_are_there(pool: VerifierPool) -> None:
    used = (
        "from dataclasses import dataclass\nimport calendar, cmath, hashlib, json, queue, unicodedata, zlib\n"
        "import numpy as np\n@dataclass\nclass Point:\n    x: int\n"
        "def f(x):\n    np.random.seed(0)\n"
        "    return [hashlib.md5(b'a').hexdigest()[:4], Point(x).x, unicodedata.name('a'), np.int64(2), np.bool_(True)]"
    )
    tests = "assert f(1) == ['0cc1', 1, 'LATIN SMALL LETTER A', 2, True]"
    assert (verdict := code(pool, used, tests)).reason == "passed", verdict


def test_first_failing_test_is_named(pool: VerifierPool) -> None:
    assert "f(41) == 42" in code(pool, "def f(x):\n    return 2").detail


@pytest.mark.parametrize(
    ("body", "reason", "detail"),
    [
        ("def f(x):\n    return x + 1 if x < 3 else x", "failed", "assert candidate(3) == 4"),
        ("def f(x):\n    while x == 2: pass\n    return x + 1", "timeout", "assert candidate(2) == 3"),
        ("def f(x):\n    return [x][x - 1] + 1", "error", "assert candidate(2) == 3: IndexError"),
    ],
)
def test_the_first_failing_test_inside_a_check_function(
    pool: VerifierPool, hasty: VerifierPool, body: str, reason: str, detail: str
) -> None:
    lines = ["def check(candidate):", *(f"    assert candidate({i}) == {i + 1}" for i in (1, 2, 3))]
    tests = "\n".join(lines)
    verdict = code(hasty if reason == "timeout" else pool, body, tests)
    assert verdict.reason == reason
    assert verdict.detail.startswith(detail)


def test_verdicts_carry_time_memory_and_findings(pool: VerifierPool) -> None:
    verdict = code(pool, "import os\ndef f(x):\n    big = bytearray(100 << 20)\n    return x + 1")
    assert verdict.reason == "passed"
    assert 0 < verdict.seconds < FAR_PAST_S
    assert 100 << 20 < verdict.memory_bytes < 500 << 20
    assert verdict.findings == ("1: 'os' imported but unused", "3: local variable 'big' is assigned to but never used")
    assert code(pool, "def f(x):\n    return y").findings == ("2: undefined name 'y'",)
    assert (
        verdict.summary
        == "line 1: 'os' imported but unused; line 3: local variable 'big' is assigned to but never used"
    )


@pytest.mark.parametrize(
    "body",
    [
        "print(int(input()) * 2)",
        "import sys\nfor line in sys.stdin: print(int(line) * 2)",
        "import sys\nsys.stdout.buffer.write(b'%d\\n' % (int(sys.stdin.buffer.read()) * 2))",
        "print(int(open(0).read()) * 2)",
        "def main():\n    print(int(input()) * 2, end=' \\n\\n')\nif __name__ == '__main__':\n    main()\n    exit()",
    ],
)
def test_programs_read_stdin_as_programs_do(pool: VerifierPool, body: str) -> None:
    pairs = json.dumps([{"input": "3\n", "output": "6\n"}, {"input": "5", "output": "10"}])
    assert code(pool, body, pairs, None).reason == "passed", code(pool, body, pairs, None)
    assert code(pool, body, pairs, "main").reason == "passed"  # pairs need no entry point, and mind none


def test_programs_fail_by_name(pool: VerifierPool, hasty: VerifierPool) -> None:
    pairs = json.dumps([{"input": "3\n", "output": "6\n"}])
    assert code(pool, "print(7)", pairs, None).detail == "input '3\\n': printed '7\\n', not '6\\n'"
    assert code(hasty, "while True: pass", pairs, None).reason == "timeout"
    assert code(hasty, "while True: print('x' * 999)", pairs, None).reason in ("error", "timeout")
    assert code(pool, "raise SystemExit(3)", pairs, None).reason == "error"
    assert code(pool, "import os\nos.fork()\nprint(6)", pairs, None).reason == "forbidden"


def test_a_prompt_with_the_functions_head(pool: VerifierPool) -> None:
    prompt = (
        'from typing import List\n\ndef twice(x):\n    return 2 * x\n\ndef f(x: int) -> int:\n    """One more."""\n'
    )
    tests = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(twice(1)) == 3"
    for response in (
        "    return x + 1",
        "```python\n    return x + 1\n```",
        "```python\ndef f(x: List) -> int:\n    return twice(x) - x + 1\n```",
    ):
        task = CheckTask(id="c", domain="code", response=response, tests=tests, entry_point="f", prompt=prompt)
        verdict = dict(pool.run([task]))["c"]
        assert verdict.reason == "passed", verdict


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("I can't do that.", "no_code"),
        ("", "no_code"),
        ("```bash\nrm -rf /\n```", "no_code"),
        ("Sure:\ndef f(x):\n    return x + 1\nThat is it.", "passed"),
        ("<think>```python\ndef f(x): return 0\n```</think>```python\ndef f(x): return x + 1\n```", "passed"),
        ("```python\ndef f(x) return\n```", "error"),
    ],
)
def test_code_is_found_or_not(pool: VerifierPool, response: str, reason: str) -> None:
    task = CheckTask(id="c", domain="code", response=response, tests=TESTS, entry_point="f")
    assert dict(pool.run([task]))["c"].reason == reason


@pytest.mark.parametrize(
    ("tests", "entry_point"),
    [("assert f(1 ==", "f"), ("x = 1", "f"), ("", "f"), ("assert f(1) == 2", None), ("[]", None)],
)
def test_broken_tests_say_nothing_about_the_response(pool: VerifierPool, tests: str, entry_point: str | None) -> None:
    verdict = code(pool, "def f(x):\n    return x + 1", tests, entry_point)
    assert (verdict.correct, verdict.reason) == (None, "error")


def test_tests_may_expect_an_exception(pool: VerifierPool) -> None:
    tests = "try:\n    f(0)\n    assert False\nexcept ZeroDivisionError:\n    pass\nassert f(2) == 0.5"
    assert code(pool, "def f(x):\n    return 1 / x", tests).reason == "passed"
    assert code(pool, "def f(x):\n    return 0.5", tests).reason == "failed"
    assert not code(pool, "def f(x):\n    raise AssertionError", TESTS).correct


def test_a_caller_who_leaves_early_leaves_the_pool_whole(pool: VerifierPool) -> None:
    tasks = [CheckTask(id=str(i), domain="math", response="The answer is 3.", gold="3") for i in range(50)]
    verdicts = pool.run(tasks)
    next(iter(verdicts))
    verdicts.close()  # type: ignore[attr-defined]
    assert sum(v.correct is True for _, v in pool.run(tasks)) == 50


def test_check_function_and_programs(pool: VerifierPool) -> None:
    checks = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate([1]) == 2"
    assert code(pool, "def f(x):\n    return 2", checks).correct
    assert not code(pool, "def f(x):\n    return 3", checks).correct
    pairs = json.dumps([{"input": "3\n", "output": "6\n"}, {"input": "5\n", "output": "10"}])
    assert code(pool, "print(int(input()) * 2)", pairs, None).correct
    assert not code(pool, "print(6)", pairs, None).correct


def test_values_cross_as_they_are(pool: VerifierPool) -> None:
    tests = (
        "assert f(0) == (1, [2.5], {'a': {3}}, None, b'x', True)\nassert f(1) != f(1)\nassert f(2) == float('-inf')\n"
        "assert f(3)['n'][0] != 1 and f(3)['f'] == [float('inf')]\nassert f(4) == {'a': 2}\n"
        "assert list(f(5)) == [0, 1]\nassert f(5) != [0, 1]\nassert f(6) == (1, 2)\n"
        "assert f(7) == {frozenset({1, 2})}\n"
        "assert list(f(8)) == [1, 2]\nassert f(9) == 0.5 and f(10) == range(3)"
    )
    body = (
        "from collections import Counter, namedtuple\nfrom fractions import Fraction\nP = namedtuple('P', 'x y')\n"
        "def f(x):\n    return [(1, [2.5], {'a': {3}}, None, b'x', True), float('nan'), float('-inf'),"
        " {'n': [float('nan')], 'f': [float('inf')]}, Counter('aa'), (i for i in range(2)), P(1, 2),"
        " {frozenset({1, 2})}, map(int, '12'), Fraction(1, 2), range(3)][x]"
    )
    assert code(pool, body, tests).correct, code(pool, body, tests)


def test_real_answers_are_accepted(pool: VerifierPool) -> None:
    shared = Path(__file__).parents[4] / "shared" / "prompts" / "math_train.jsonl"
    if not shared.is_file():
        pytest.skip("the public prompts are not beside the checkout")
    rows = [json.loads(line) for line in shared.read_text("utf-8").splitlines()]
    tasks = [
        CheckTask(id=r["id"], domain="math", response=f"Work.\nThe answer is {r['gold']}.", gold=r["gold"])
        for r in rows
    ]
    wrong = [
        CheckTask(id=r["id"], domain="math", response=f"The answer is {r['gold']}1.", gold=r["gold"]) for r in rows
    ]
    assert all(v.correct for _, v in pool.run(tasks))
    assert not any(v.correct for _, v in pool.run(wrong))
