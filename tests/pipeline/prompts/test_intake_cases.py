"""Inputs of other people's bug reports: what the intake makes of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prompt_tables import Taken, refused, take

CASES = Path(__file__).parents[4] / "shared" / "cases" / "intake"

READ: dict[str, Callable[[Taken], bool]] = {
    "csv_utf16": lambda taken: bool(taken.prompts),
    "json_array_one_line": lambda taken: bool(taken.prompts),
    "zst": lambda taken: bool(taken.prompts),
    "folder": lambda taken: len({prompt["file"] for prompt in taken.prompts}) == 3,
    "int_gold_jsonl": lambda taken: sorted(prompt["gold"] for prompt in taken.prompts) == ["1", "2", "3"],
    "parts": lambda taken: taken.texts == ["Name a colour."],
    "odd_role": lambda taken: taken.texts == ["Hello?"],
    "two_users": lambda taken: len(taken.prompts) == 3,  # the training rejects what the target's template refuses
    "polars_parquet": lambda taken: {prompt["file"] for prompt in taken.prompts} == {"a.parquet", "b.parquet"},
    "nested_answer": lambda taken: taken.answers == [("old", "Monday")] * 2,
    "one_file_lost": lambda taken: [table.prompts for table in taken.tables] == [5, 20],  # ids may be numbers
    "same_name": lambda taken: len({prompt["id"] for prompt in taken.prompts}) == len(taken.prompts) > 1,
}
"""Case -> what is right of what is read."""
REFUSED = {
    "float_id": "p.parquet: column 'id' (columns.id) holds double, allowed: text or whole numbers",
    "null_content": "p.jsonl:1: messages[1] has tool_calls; calls of tools are not supported",
    "ends_with_answer": "p.jsonl: no usable prompt in 4 rows (4 rejected: ends_with_answer); p.jsonl:1: the "
    "conversation must end with the user's turn, it ends with the assistant's; last_answer: drop removes it",
    "missing_column_jsonl": "p.jsonl:1: no column 'query' (columns.prompt); there are answer, question",
    "missing_gold_column_jsonl": "p.jsonl: no row has 'anwser' (columns.gold); the first row has answer, question",
    "conversations_key": "p.jsonl:1: unknown key 'conversations'; allowed: domain, entry_point, ",
}
"""Case -> the start of the line with which the intake ends."""


def case_of(name: str) -> tuple[Path, list[Any], dict[str, Any]]:
    """A case's folder, its training entries, and the other arguments of `take`."""
    folder = CASES / name
    if not folder.is_dir():
        pytest.skip("the cases are not on this machine")
    recipe = yaml.safe_load((folder / f"{name}.yaml").read_text("utf-8"))
    imported = [source["name"] for source in recipe["sources"] if source.get("kind") == "imported"]
    return folder, recipe["prompts"].pop("train"), {"imported": imported, **recipe["prompts"]}


@pytest.mark.parametrize("case", READ)
def test_a_case_that_can_be_read_is_read(case: str) -> None:
    folder, train, arguments = case_of(case)
    assert READ[case](take(folder, *train, **arguments))


@pytest.mark.parametrize("case", REFUSED)
def test_a_case_that_cannot_be_read_ends_with_one_clear_line(case: str) -> None:
    folder, train, arguments = case_of(case)
    assert refused(folder, *train, **arguments).startswith(REFUSED[case])


def test_the_key_conversations_is_told_how_to_map_it() -> None:
    folder, train, arguments = case_of("conversations_key")
    assert "columns: {messages: conversations}" in refused(folder, *train, **arguments)


def test_every_case_with_a_folder_is_judged_here() -> None:
    if not CASES.is_dir():
        pytest.skip("the cases are not on this machine")
    cases = [json.loads(line) for line in (CASES / "index.jsonl").read_text("utf-8").splitlines()]
    others = {"domain_own"}  # domains of one's own are not part of the intake
    assert {case["id"] for case in cases if "files" in case} - others == set(READ) | set(REFUSED)
