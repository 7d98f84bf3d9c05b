"""The demo's prompt files: made by their generator, complete, no prompt twice, with tests that hold."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment

DEMO = Path(__file__).parents[3] / "pipeline" / "recipes" / "demo"
FILES = ("instruction", "math", "code", "chinese", "heldout")
Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    lines = (DEMO / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def all_rows() -> list[Row]:
    return [row for name in FILES for row in rows(name)]


def test_running_the_generator_again_gives_exactly_the_shipped_files(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-B", DEMO / "make_prompts.py", tmp_path], check=True)
    for name in FILES:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (DEMO / f"{name}.jsonl").read_bytes(), name


def test_no_prompt_and_no_id_appears_twice_in_or_across_files(all_rows: list[Row]) -> None:
    prompts = Counter(" ".join(row["prompt"].casefold().split()) for row in all_rows)
    assert [prompt for prompt, count in prompts.items() if count > 1] == []
    assert len({row["id"] for row in all_rows}) == len(all_rows)


def test_every_row_carries_what_its_domain_needs_and_nothing_else(all_rows: list[Row]) -> None:
    needs = {"math": {"gold"}, "code": {"tests", "entry_point"}, "instruction": set(), "chinese": set()}
    for row in all_rows:
        held_out = {"template_seen"} if row["id"].startswith("heldout") else set()
        assert set(row) == {"id", "domain", "prompt", "template"} | needs[row["domain"]] | held_out, row["id"]
        assert row["prompt"] == row["prompt"].strip() != ""


def test_held_out_rows_say_rightly_whether_their_template_is_in_training() -> None:
    trained = {row["template"] for name in FILES[:-1] for row in rows(name)}
    for row in rows("heldout"):
        assert row["template_seen"] is (row["template"] in trained), row["id"]


def test_training_and_held_out_hold_enough_of_each_domain() -> None:
    assert {name: len(rows(name)) for name in FILES[:-1]} == {
        "instruction": 60,
        "math": 180,
        "code": 100,
        "chinese": 40,
    }
    held_out = Counter((row["domain"], bool(row["template_seen"])) for row in rows("heldout"))
    assert held_out == {
        ("math", True): 90,
        ("math", False): 30,
        ("code", True): 40,
        ("code", False): 20,
        ("instruction", False): 16,
        ("chinese", False): 12,
    }


def test_gold_answers_are_whole_numbers_that_are_not_negative(all_rows: list[Row]) -> None:
    assert all(int(row["gold"]) >= 0 for row in all_rows if row["domain"] == "math")


def test_every_code_row_has_tests_that_its_reference_solution_passes_and_a_blank_one_fails() -> None:
    # A fresh interpreter: the generator's modules are scripts beside the data, not part of the package.
    script = """
import sys
sys.path.insert(0, sys.argv[1])
import make_prompts, code_families
from random import Random
checked = 0
for family in code_families.SEEN + code_families.UNSEEN:
    for seed in range(20):
        prompt, entry_point, solution = family.draw(Random(seed))
        tests = code_families.assertions(entry_point, solution, family.inputs)
        assert len(tests.splitlines()) >= 4, family.name
        scope = {}
        exec(solution + tests, scope)
        blank = f"def {entry_point}(value):\\n    return value\\n"
        try:
            exec(blank + tests, {})
        except (AssertionError, TypeError):
            checked += 1
        else:
            raise SystemExit(f"{family.name}: returning the argument passes its tests")
print(checked)
"""
    done = subprocess.run([sys.executable, "-B", "-c", script, DEMO], check=True, capture_output=True, text=True)
    assert int(done.stdout) == 24 * 20


def test_every_shipped_code_test_names_the_function_that_its_prompt_asks_for(all_rows: list[Row]) -> None:
    for row in all_rows:
        if row["domain"] == "code":
            assert f"`{row['entry_point']}(" in row["prompt"], row["id"]
            lines = row["tests"].splitlines()
            assert all(line.startswith(f"assert {row['entry_point']}(") for line in lines), row["id"]


@pytest.mark.parametrize("name", ["gemma_few_shot", "qwen_few_shot"])
def test_a_few_shot_template_ends_where_the_answer_begins_and_shows_no_prompt_of_the_data(
    name: str, all_rows: list[Row]
) -> None:
    template = Environment(trim_blocks=True, lstrip_blocks=True).from_string(
        (DEMO / f"{name}.jinja").read_text(encoding="utf-8")
    )
    message = {"role": "user", "content": "How many legs has a cat?"}
    text = template.render(messages=[message], add_generation_prompt=True, bos_token="<bos>")
    shots = template.render(messages=[], add_generation_prompt=False, bos_token="<bos>")
    assert text.startswith(shots)
    assert text.removeprefix(shots) in {
        "Question: How many legs has a cat?\nAnswer:",
        "<|im_start|>user\nHow many legs has a cat?<|im_end|>\n<|im_start|>assistant\n",
    }
    assert [row["id"] for row in all_rows if row["prompt"] in shots] == []
