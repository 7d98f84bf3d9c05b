"""Suites of files: public sets' own rows become prompts that our verifiers check; what can't be used says where."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from fusechat.pipeline.errors import InputError
from fusechat.pipeline.evaluation import suites
from fusechat.pipeline.evaluation.forms import math_sets
from fusechat.pipeline.recipe import JudgedSuite, Prompts, VerifiedSuite
from fusechat.pipeline.verify import CheckTask, VerifierPool

GSM8K = {
    "question": "Natalia sold 48 clips in April and half as many in May. How many altogether?",
    "answer": "In May she sold 48/2 = <<48/2=24>>24.\nAltogether <<48+24=72>>72.\n#### 1,072",
}
MATH = {"problem": "What is $1/4 + 1/4$?", "solution": "We add: $\\boxed{\\frac{1}{2}}$.", "level": "Level 1"}
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'from typing import List\n\n\ndef total(numbers: List[int]) -> int:\n    """Sum.\n    """\n',
    "canonical_solution": "    return sum(numbers)\n",
    "test": "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n",
    "entry_point": "total",
}
MBPP = {
    "task_id": 2,
    "text": "Write a function to find the shared elements.",
    "code": "import re\ndef helper(x):\n  return x\ndef shared(a, b):\n  return tuple(set(a) & set(b))",
    "test_setup_code": "",
    "test_list": ["assert set(shared((3, 4), (4, 5))) == set((4,))", "assert set(shared((1,), (2,))) == set()"],
}
ASSERTION = """import numpy as np
def is_floats(x):
    return isinstance(x, float) or (isinstance(x, np.ndarray) and x.dtype == np.float64)
def assertion(out, exp, atol):
    if atol == 0 and is_floats(exp):
        atol = 1e-6
    if out != exp and atol != 0:
        np.testing.assert_allclose(out, exp, rtol=1e-07, atol=atol)
    else:
        assert out == exp, f"out: {out}, exp: {exp}"
"""
CASES = """inputs = [[[1.5, 2]], [[]]]
results = [3.5, 0]
for inp, exp in zip(inputs, results):
    assertion({f}(*inp), exp, 0)
"""
HUMANEVAL_PLUS = {
    **HUMANEVAL,
    "test": f"{ASSERTION}def check(candidate):\n"
    + "".join(f"    {line}\n" for line in CASES.format(f="candidate").splitlines()),
}
MBPP_PLUS = {
    "task_id": 7,
    "prompt": "Write a function to add numbers.",
    "code": "def total(n):\n  return sum(n)",
    "test_imports": [],
    "test_list": ["assert total([]) == 0"],
    "test": ASSERTION + CASES.format(f="total"),
}
PLAIN: dict[str, Any] = {"id": "a", "domain": "math", "prompt": "What is 2 + 2?", "gold": "4"}


def write(path: Path, rows: Iterable[Any]) -> Path:
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows), "utf-8")
    return path


def load(
    folder: Path, rows: list[Any], *, invalid: str = "stop", kind: str = "verified", **changes: Any
) -> suites.LoadedSuite:
    write(folder / "suite.jsonl", rows)
    tree = {"name": "s", "files": ["suite.jsonl"], "kind": kind, **changes}
    suite = VerifiedSuite(**tree) if kind == "verified" else JudgedSuite(**{"judge": "j", "baseline": "target", **tree})
    return suites.load(suite, folder, Prompts(train=("x",), invalid=invalid))  # type: ignore[arg-type]


def verdicts(found: suites.LoadedSuite, responses: list[str]) -> list[bool | None]:
    tasks = [
        CheckTask(
            id=str(i),
            domain=p["domain"],
            response=response,
            gold=p["gold"],
            tests=p["tests"],
            entry_point=p["entry_point"],
            prompt=p["messages"][-1]["content"],
        )
        for i, (p, response) in enumerate(zip(found.prompts, responses, strict=True))
    ]
    with VerifierPool(1, sandbox="basic") as pool:
        by_id = {identity: verdict.correct for identity, verdict in pool.run(tasks)}
    return [by_id[str(i)] for i in range(len(tasks))]


@pytest.mark.parametrize(
    ("form", "row", "right", "wrong"),
    [
        ("gsm8k", GSM8K, "So \\boxed{1072}", "So \\boxed{72}"),
        ("math", MATH, "\\boxed{0.5}", "\\boxed{2}"),
        ("humaneval", HUMANEVAL, "    return sum(numbers)\n", "    return 3\n"),
        ("humaneval", HUMANEVAL, "```python\ndef total(n):\n    return sum(n)\n```", "```python\npass\n```"),
        (
            "humaneval",
            HUMANEVAL_PLUS,
            "    return sum(numbers) + 1e-9 * bool(numbers)\n",
            "    return sum(numbers) + 1e-3\n",
        ),
        (
            "mbpp",
            MBPP_PLUS,
            "```python\ndef total(n):\n  return sum(n)\n```",
            "```python\ndef total(n):\n  return 0\n```",
        ),
        ("mbpp", MBPP, f"```python\n{MBPP['code']}\n```", "```python\ndef shared(a, b):\n  return ()\n```"),
    ],
)
def test_the_files_of_public_sets_are_verified(
    tmp_path: Path, form: str, row: dict[str, Any], right: str, wrong: str
) -> None:
    for response, correct in ((right, True), (wrong, False)):
        assert verdicts(load(tmp_path, [row], form=form), [response]) == [correct]


def test_what_is_asked_and_what_is_compared(tmp_path: Path) -> None:
    found = load(tmp_path, [GSM8K], form="gsm8k")
    (prompt,) = found.prompts
    assert prompt["messages"][0]["content"] == f"{GSM8K['question']}{math_sets.STEPS.removeprefix('{prompt}')}"
    assert found.contents == {prompt["prompt_id"]: GSM8K["question"]}  # contamination is not hidden by what is around
    assert (prompt["id"], prompt["file"], prompt["line"], prompt["gold"]) == ("suite-1", "suite.jsonl", 1, "1,072")
    other = load(tmp_path, [GSM8K], form="gsm8k", ask="{prompt} Be brief: \\boxed{{}}")
    assert other.prompts[0]["messages"][0]["content"].endswith("altogether? Be brief: \\boxed{{}}")
    assert other.identity != found.identity


def test_identity_hangs_on_what_is_right(tmp_path: Path) -> None:
    first = load(tmp_path, [PLAIN])
    assert load(tmp_path, [{**PLAIN, "id": "b"}]).identity == first.identity
    assert load(tmp_path, [{**PLAIN, "gold": "5"}]).identity != first.identity


def test_judged_rows_bring_references(tmp_path: Path) -> None:
    row = {"instruction": "Name a colour.", "output": "Red.", "generator": "gpt4", "dataset": "helpful_base"}
    found = load(tmp_path, [row], kind="judged", form="alpaca_eval", baseline="reference")
    assert list(found.references.values()) == ["Red."]
    plain = {"id": "a", "domain": "chinese", "prompt": "你好", "reference": "您好"}
    assert list(load(tmp_path, [plain], kind="judged", baseline="reference").references.values()) == ["您好"]
    hard = {"question_id": "q1", "category": "hard", "cluster": "x", "turns": [{"content": "Why is it so?"}]}
    assert load(tmp_path, [hard], kind="judged", form="arena_hard").prompts[0]["id"] == "q1"


def test_second_turns(tmp_path: Path) -> None:
    rows = [
        {"question_id": 81, "category": "writing", "turns": ["Name a colour.", "Name another one."]},
        {"question_id": 82, "category": "writing", "turns": ["Name a town."]},
    ]
    found = load(tmp_path, rows, kind="judged", form="mt_bench")
    first, other = found.prompts
    assert [p["id"] for p in found.prompts] == ["81", "82"]
    ((identity, second),) = found.second_turns().items()
    assert (identity, second["id"]) == (first["prompt_id"], "81, turn 2")
    assert second["prompt_id"] not in (first["prompt_id"], other["prompt_id"])
    assert [m["content"] for m in second["messages"]] == ["Name a colour.", "Name another one."]
    assert found.contents[identity] == "Name a colour.\nName another one."
    plain = [{**rows[0], "turns": rows[0]["turns"][:1]}, rows[1]]  # type: ignore[index]
    assert load(tmp_path, plain, kind="judged", form="mt_bench").identity != found.identity


def test_align_bench_is_held_against_its_references(tmp_path: Path) -> None:
    row = {"question_id": 3, "category": "基本任务", "question": "你好吗?", "reference": "很好。"}
    found = load(tmp_path, [row], kind="judged", form="align_bench", baseline="reference")
    assert [(p["id"], p["domain"]) for p in found.prompts] == [("3", "chinese")]
    assert list(found.references.values()) == ["很好。"]


def test_what_the_parser_warns_of_is_the_rows_own(tmp_path: Path) -> None:
    odd = 'assert shared("\\d")'  # no escape sequence
    own = {"id": "c", "domain": "code", "prompt": "p", "tests": odd, "entry_point": "shared"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert [p["tests"] for p in load(tmp_path, [own]).prompts] == [odd]
        assert len(load(tmp_path, [{**MBPP, "test_list": [odd]}], form="mbpp").prompts) == 1


BAD: list[tuple[str, dict[str, Any], Any, str]] = [
    ("empty", {}, None, "contains no usable row"),
    ("no json", {}, "{", "suite.jsonl:1: not JSON"),
    ("no gold", {}, {**PLAIN, "gold": "\\boxed{"}, "suite.jsonl:1: gold contains no readable answer: '\\\\boxed{'"),
    ("gsm8k gold", {"form": "gsm8k"}, {**GSM8K, "answer": "seventy-two"}, "suite.jsonl:1: a math row needs gold"),
    ("keys", {"form": "gsm8k"}, PLAIN, "suite.jsonl:1: form gsm8k needs the key 'question'"),
    ("types", {"form": "math"}, {"problem": "p", "solution": ["s"]}, "suite.jsonl:1: a math row needs gold"),
    (
        "tests",
        {},
        {"id": "c", "domain": "code", "prompt": "p", "tests": "assert f(", "entry_point": "f"},
        "not valid Python",
    ),
    ("entry", {}, {"id": "c", "domain": "code", "prompt": "p", "tests": "assert f() == 1"}, "needs entry_point"),
    (
        "mbpp",
        {"form": "mbpp"},
        {**MBPP, "test_list": ["assert ("]},
        "does not match the form mbpp: code or tests are not valid Python",
    ),
    ("domain", {}, {"id": "c", "domain": "instruction", "prompt": "p"}, "the domain instruction can't be verified"),
    ("reference", {"kind": "judged", "baseline": "reference"}, {**PLAIN}, "the row has no reference"),
    ("turns", {"kind": "judged", "form": "mt_bench"}, {"question_id": 1, "turns": ["a", 2]}, "prompt must be a string"),
    ("no turns", {"kind": "judged", "form": "mt_bench"}, {"question_id": 1, "turns": []}, "needs the key 'turns'"),
    (
        "turn without reference",
        {"kind": "judged", "baseline": "reference"},
        {**PLAIN, "reference": "4", "follow_up": "And 3 + 3?"},
        "a follow_up has no reference",
    ),
    ("verified turn", {}, {**PLAIN, "follow_up": "And 3 + 3?"}, "unknown key 'follow_up'"),
    ("rule", {}, {**PLAIN, "rule": "contains"}, "unknown key 'rule'"),
    ("rule of instructions", {}, {**PLAIN, "domain": "instruction", "rule": "contains"}, "unknown key 'rule'"),
    ("judged rule", {"kind": "judged"}, {**PLAIN, "rule": "contains"}, "unknown key 'rule'"),
    ("wrong reference", {"kind": "judged"}, {**PLAIN, "reference": 3}, "reference must be a string, got int"),
]


@pytest.mark.parametrize(("changes", "row", "problem"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_row_that_cant_be_used_stops_with_its_line(
    tmp_path: Path, changes: dict[str, Any], row: Any, problem: str
) -> None:
    with pytest.raises(InputError) as error:
        load(tmp_path, [] if row is None else [row], **changes)
    assert problem in str(error.value)
    assert "\n" not in str(error.value)


def test_or_is_counted_where_the_recipe_says_so(tmp_path: Path) -> None:
    found = load(tmp_path, [PLAIN, {**PLAIN, "prompt": "2 + 3?", "gold": "####"}, "{", PLAIN], invalid="reject")
    assert [p["id"] for p in found.prompts] == ["a"]
    assert [r[:2] for r in found.rejects] == [
        ("suite.jsonl:2", "no_gold"),
        ("suite.jsonl:3", "malformed"),
        ("suite.jsonl:4", "duplicate"),
    ]
    with pytest.raises(
        InputError, match=r"suite s contains no usable row; 1 can't be used, e.g. suite.jsonl:1: malformed"
    ):
        load(tmp_path, ["["], invalid="reject")


SHARED = Path(__file__).parents[4] / "shared" / "prompts"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public sets' rows are not part of the product")
@pytest.mark.parametrize(("file", "num"), [("math_train.jsonl", 400), ("code_train.jsonl", 120)])
def test_real_rows_are_all_usable(file: str, num: int) -> None:
    suite = VerifiedSuite(name="s", kind="verified", files=(file,))
    found = suites.load(suite, SHARED, Prompts(train=("x",)))
    assert (len(found.prompts), found.rejects) == (num, [])


@pytest.mark.skipif(not SHARED.is_dir(), reason="the public sets' rows are not part of the product")
def test_the_gold_answers_of_gsm8k_are_right_and_others_wrong() -> None:
    found = suites.load(
        VerifiedSuite(name="s", kind="verified", files=("math_train.jsonl",)), SHARED, Prompts(train=("x",))
    )
    gold = [p["gold"] for p in found.prompts]
    assert set(verdicts(found, [f"So it is \\boxed{{{g}}}." for g in gold])) == {True}
    assert set(verdicts(found, [f"#### {g}7" for g in gold])) == {False}
