"""Conditions of `where`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from fusechat.pipeline.prompts.conditions import fulfils
from fusechat.pipeline.recipe import Condition, PromptTable
from fusechat.pipeline.recipe.table_options import Where

WHERE: TypeAdapter[Any] = TypeAdapter(Where)


@pytest.mark.parametrize(
    ("where", "fulfilling", "others"),
    [
        ("math", ["math"], ["Math", "", 1, None]),
        (["a", "b"], ["a", "b"], ["c"]),
        (2, [2, 2.0, "2", "2.0"], [3, "x", ""]),
        (2.5, [2.5, "2.5", "2.50"], [2, "2"]),
        (True, [True, "true", "True"], [False, "false", "yes"]),
        (False, [False, "false"], [True, "", None]),
        ({"one_of": ["a", 1]}, ["a", 1, "1"], ["b", 2]),
        ({"none_of": ["a", True]}, ["b", False, 0], ["a", True, "true"]),
        ({"min": 2}, [2, 3.5, "4", "1e3"], [1, "1.9", "many", None, [], True, float("nan"), "nan", "inf-"]),
        ({"min": 2}, [Decimal("2.50")], [Decimal("1.5"), Decimal("NaN")]),
        (2.5, [Decimal("2.50")], [Decimal("2.4")]),
        ({"max": 2}, [2, -1, "0"], [3, "9", "x", float("nan"), 10**400]),
        ({"min": 1, "max": 2}, [1, 1.5, 2], [0.9, 2.1]),
        ({"min_chars": 2}, ["ab", 10], ["a", ""]),
        ({"max_chars": 2}, ["", "ab"], ["abc", 1000]),
        ({"matches": "^a.c"}, ["abc", "axc!"], ["xabc", ""]),
        ({"one_of": ["abc", "b"], "min_chars": 2}, ["abc"], ["b", "abd"]),
    ],
)
def test_a_value_fulfils_a_condition_or_not(where: object, fulfilling: list[object], others: list[object]) -> None:
    condition = WHERE.validate_python(where)
    assert [value for value in fulfilling if not fulfils([value], condition)] == []
    assert [value for value in others if value is not None and fulfils([value], condition)] == []


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("a", False),
        ({"none_of": ["a"]}, True),
        ({"none_of": ["a"], "min": 1}, False),
        ({"max_chars": 5}, False),
        ({"matches": ""}, False),
    ],
)
def test_a_row_without_a_value_fulfils_only_none_of(where: object, expected: bool) -> None:
    assert fulfils([], WHERE.validate_python(where)) is expected


@pytest.mark.parametrize("where", [{"none_of": ["a"]}, {"none_of": ["a"], "min": 1}, {"max_chars": 5}, {"matches": ""}])
def test_a_condition_that_run_json_gives_back_means_the_same(where: dict[str, Any]) -> None:
    written = Condition.model_validate(where)
    kept = Condition.model_validate(written.model_dump(mode="json"))
    assert fulfils([], kept) is fulfils([], written) is (set(where) == {"none_of"})


def test_one_of_several_values_is_enough() -> None:
    assert fulfils([1, 2, 5], WHERE.validate_python({"min": 4}))
    assert not fulfils([1, 2, 3], WHERE.validate_python({"min": 4}))


@pytest.mark.parametrize(
    ("where", "says"),
    [
        ({}, "the condition is empty; give one_of, none_of, min"),
        ({"matches": "("}, "not a regular expression: "),
        ({"minimum": 1}, "minimum"),
        ({"min_chars": -1}, "min_chars"),
    ],
)
def test_a_condition_that_cannot_be_used_is_refused_with_the_recipe(where: object, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        PromptTable.model_validate({"path": "p.jsonl", "where": {"x": where}})
