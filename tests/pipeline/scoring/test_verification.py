"""A verdict counts for what it was checked against: a corrected gold answer, test or domain has the response checked
again, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from example_recipe import make_recipe
from example_rows import prompt_row, response_row

from fusechat.pipeline.records import VERDICT
from fusechat.pipeline.scoring import verification
from fusechat.pipeline.storage.run_dir import RunDir
from fusechat.pipeline.verify.tasks import VERSION

RECIPE = make_recipe(score={"verify": {"num_workers": 1, "sandbox": "basic", "timeout_s": 5}})
FOLDER = f"verify/5s-v{VERSION}"
ADDS = "```python\ndef add(a, b):\n    return a + b\n```"


class Verified:
    """Verdicts in one run directory, one call after the other."""

    def __init__(self, folder: Path) -> None:
        self.run = RunDir(str(folder))
        self.checks: list[int] = []
        """Number of responses that each call checked."""
        self.said: list[str] = []

    def __call__(self, prompt: dict[str, Any], *texts: str, **changes: Any) -> list[bool | None]:
        """Whether each response to the prompt is right."""
        rows: list[Any] = [response_row(prompt, f"r{i}", text=text, **changes) for i, text in enumerate(texts)]
        checked: list[int] = []
        prompts: Any = {prompt["prompt_id"]: prompt}

        def on_batch(num: int, _: int) -> None:
            checked.append(num)

        found = verification.verify(self.run, "verify", rows, prompts, RECIPE, on_batch, self.said.append)
        self.checks.append(sum(checked))
        return [found[r["response_id"]]["correct"] if r["response_id"] in found else None for r in rows]


@pytest.fixture
def verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Verified:
    """The real worker and the real verifier, in this process instead of Ray Data's."""

    def run_units(
        worker: Callable[..., Any],
        args: tuple[object, ...],
        units: Sequence[str],
        *,
        on_batch: Callable[[int, int], None],
        **_: object,
    ) -> None:
        if units:
            rows = worker(*args)({"unit": units})["rows"]
            on_batch(sum(rows), 0)

    monkeypatch.setattr(verification, "run_units", run_units)
    return Verified(tmp_path)


def math(gold: str, domain: Any = "math") -> dict[str, Any]:
    return prompt_row(0, "What is four and eight?", domain, gold=gold)


def test_a_corrected_gold_answer_has_its_responses_checked_again(verified: Verified) -> None:
    texts = ("The answer is 12.", "The answer is 13.")
    assert verified(math("13"), *texts) == [False, True]
    assert verified(math("12"), *texts) == [True, False]
    assert verified(math("12"), *texts) == [True, False]
    assert verified.checks == [2, 2, 0]
    assert verified.said == [
        "verify: 2 responses again: their gold, tests, entry point or domain changed, or were not recorded"
    ]


def test_corrected_tests_and_a_corrected_entry_point_have_code_checked_again(verified: Verified) -> None:
    prompt = prompt_row(0, "Write add(a, b).", "code", tests="assert add(1, 2) == 4", entry_point="add")
    assert verified(prompt, ADDS) == [False]
    assert verified(prompt | {"tests": "assert add(1, 2) == 3"}, ADDS) == [True]
    assert verified(prompt | {"tests": "assert plus(1, 2) == 3", "entry_point": "plus"}, ADDS) == [False]
    assert verified(prompt | {"tests": "assert add(1, 2) == 3"}, ADDS) == [True]
    assert verified.checks == [1, 1, 1, 0]


def test_only_the_responses_of_the_corrected_prompt_are_checked_again(verified: Verified) -> None:
    prompts: Any = {p["prompt_id"]: p for p in (math("12"), prompt_row(1, "And one more?", "math", gold="13"))}
    first, second = prompts
    rows: Any = [response_row(p, f"r{i}", text="The answer is 12.") for i, p in enumerate(prompts.values())]
    checked: list[int] = []
    for gold in ("13", "12"):
        prompts[second] = prompts[second] | {"gold": gold}
        found = verification.verify(
            verified.run, "verify", rows, prompts, RECIPE, lambda num, _: checked.append(num), verified.said.append
        )
    assert checked == [2, 1]
    assert [found["r0"]["correct"], found["r1"]["correct"]] == [True, True]
    assert first != second


def test_the_prompts_domain_decides_and_not_the_one_that_the_response_was_stored_with(verified: Verified) -> None:
    assert verified(math("12", "instruction"), "The answer is 12.") == [None]
    assert verified(math("12"), "The answer is 12.", domain="instruction") == [True]
    assert verified(math("12", "instruction"), "The answer is 12.", domain="math") == [None]


def write_unmarked(run: RunDir) -> None:
    """A verdict as version 0.9 stored it: wrong, against a gold answer that it does not name."""
    schema = pa.schema([field for field in VERDICT if field.name != "check_id"])
    row = {"response_id": "r0", "correct": False, "verdict": "wrong", "detail": ""}
    run.write_table(pa.Table.from_pylist([row], schema=schema), FOLDER, "bucket-0000", "old.parquet")


def test_a_verdict_that_names_no_gold_answer_is_not_trusted(verified: Verified) -> None:
    write_unmarked(verified.run)
    assert verified(math("12"), "The answer is 12.") == [True]
    assert verified.checks == [1]
    assert len(verified.said) == 1


def test_it_is_trusted_where_the_folders_name_depends_on_the_gold_answer(verified: Verified) -> None:
    write_unmarked(verified.run)
    prompt = math("12")
    rows: Any = [response_row(prompt, f"r{i}", text="The answer is 12.") for i in range(2)]
    found = verification.verify(
        verified.run,
        "verify",
        rows,
        {prompt["prompt_id"]: prompt},  # type: ignore[dict-item]
        RECIPE,
        lambda *_: None,
        verified.said.append,
        keep_unmarked=True,
    )
    assert [found["r0"]["correct"], found["r1"]["correct"]] == [False, True]
    assert not verified.said
