"""Responses and scores in tables: columns of a source, rows that name their source, and rows of one prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prompt_tables import OWN, Taken, jsonl, refused, take


def rated(taken: Taken) -> list[tuple[str, str, str, float]]:
    """Source, text, reward and value of each score."""
    of = {response["carried_id"]: response for response in taken.responses}
    found = (
        (of[s["carried_id"]]["source"], of[s["carried_id"]]["text"], s["reward"], s["value"]) for s in taken.scores
    )
    return sorted(found)


# --- rows that name their source


def completion(model: object, response: object, score: object = 4.0) -> dict[str, object]:
    return {"model": model, "response": response, "overall_score": score}


COMPLETIONS = {
    "columns": {"prompt": "instruction"},
    "response_rows": {
        "source": "completions[].model",
        "response": "completions[].response",
        "scores": {"gpt4": "completions[].overall_score"},
        "names": {"gpt-4": "gpt4-answers"},
    },
    **OWN,
}


def completions(folder: Path, *items: object, imported: tuple[str, ...] = ("llama-2-7b", "gpt4-answers")) -> Taken:
    name = jsonl(folder, [{"instruction": "A?", "completions": list(items)}])
    return take(folder, {"path": name, **COMPLETIONS}, imported=imported)


def test_each_completion_goes_to_its_source_with_its_score(tmp_path: Path) -> None:
    taken = completions(tmp_path, completion("meta/Llama-2-7B", "x", 1), completion("gpt-4", "y", 9.5))
    assert rated(taken) == [("gpt4-answers", "y", "gpt4", 9.5), ("llama-2-7b", "x", "gpt4", 1.0)]


def test_completions_of_other_sources_are_left_out_and_counted(tmp_path: Path) -> None:
    taken = completions(tmp_path, completion("alpaca", "x"), completion("gpt-4", "y"), completion("alpaca", "z"))
    assert taken.answers == [("gpt4-answers", "y")]
    assert taken.left_out == {"response_rows (alpaca)": 2}
    assert len(taken.scores) == 1


def test_a_completion_without_a_response_or_a_source_is_left_out(tmp_path: Path) -> None:
    taken = completions(
        tmp_path,
        completion("gpt-4", None),
        completion(None, "x"),
        completion("gpt-4", "y", None),
        completion("gpt-4", "z"),
    )
    assert taken.answers == [("gpt4-answers", "y"), ("gpt4-answers", "z")]
    assert rated(taken) == [("gpt4-answers", "z", "gpt4", 4.0)]


@pytest.mark.parametrize("items", [None, []])
def test_a_row_without_completions_is_a_prompt(tmp_path: Path, items: object) -> None:
    rows = [
        {"instruction": "A?", "completions": items},
        {"instruction": "B?", "completions": [completion("gpt-4", "y")]},
    ]
    taken = take(tmp_path, {"path": jsonl(tmp_path, rows), **COMPLETIONS}, imported=["gpt4-answers"])
    assert taken.texts == ["A?", "B?"]
    assert taken.answers == [("gpt4-answers", "y")]


def test_one_source_may_have_many_responses(tmp_path: Path) -> None:
    name = jsonl(tmp_path, [{"q": "A?", "model": "m", "tries": ["x", None, "y"], "marks": [1, 2, 3]}])
    rows = {"source": "model", "response": "tries", "scores": {"r": "marks"}}
    entry = {"path": name, "columns": {"prompt": "q"}, "response_rows": rows, **OWN}
    assert rated(take(tmp_path, entry, imported=["m"])) == [("m", "x", "r", 1.0), ("m", "y", "r", 3.0)]


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"m": ["a", "b"], "t": ["x"], "s": [1]}, "2 sources, but 1 responses"),
        ({"m": "a", "t": ["x", "y"], "s": [1]}, "response_rows.scores.r: 1 scores, 2 responses"),
        ({"m": "a", "t": [7], "s": [1]}, "response_rows.response must be text, got int"),
        ({"m": "a", "t": ["x"], "s": ["good"]}, "response_rows.scores.r must be a finite number, got 'good'"),
        ({"m": "a", "t": ["x"], "s": [True]}, "response_rows.scores.r must be a finite number, got True"),
        ({"m": "a", "t": ["x"], "s": [1e999]}, "response_rows.scores.r must be a finite number, got inf"),
        ({"m": "a", "t": ["x"], "s": [10**400]}, "response_rows.scores.r must be a finite number, got 1000"),
    ],
)
def test_responses_and_scores_that_do_not_fit_are_named(tmp_path: Path, row: dict[str, object], says: str) -> None:
    rows = {"source": "m", "response": "t", "scores": {"r": "s"}}
    entry = {"path": jsonl(tmp_path, [{"q": "A?", **row}]), "columns": {"prompt": "q"}, "response_rows": rows, **OWN}
    assert refused(tmp_path, entry, imported=["a", "b"]).startswith(f"p.jsonl:1: {says}")


# --- columns of a source


def test_a_source_s_column_may_have_scores(tmp_path: Path) -> None:
    rows = [
        {"q": "A?", "chosen": "x", "good": 0.5, "rejected": {"text": "y"}, "bad": "1.5"},
        {"q": "B?", "chosen": None, "good": None, "rejected": {"text": "z"}, "bad": float("nan")},
    ]
    entry = {
        "path": jsonl(tmp_path, rows),
        "columns": {"prompt": "q"},
        "responses": {
            "one": {"response": "chosen", "scores": {"r": "good"}},
            "two": {"response": "rejected.text", "scores": {"r": "bad"}},
        },
        **OWN,
    }
    taken = take(tmp_path, entry, imported=["one", "two"])
    assert taken.answers == [("one", "x"), ("two", "y"), ("two", "z")]
    assert rated(taken) == [("one", "x", "r", 0.5), ("two", "y", "r", 1.5)]  # not a number: no score


def test_a_source_that_is_not_imported_is_named(tmp_path: Path) -> None:
    entry = {
        "path": jsonl(tmp_path, [{"q": "A?", "a": "x"}]),
        "columns": {"prompt": "q"},
        "responses": {"new": "a"},
        **OWN,
    }
    assert refused(tmp_path, entry, imported=["old"]) == "p.jsonl:1: responses of 'new'; imported sources: old"


# --- rows of one prompt


def test_all_45_solutions_of_15_problems_stay(tmp_path: Path) -> None:
    rows = [{"problem": f"{i} + 1?", "a": str(i + 1), "solution": f"{i} {k}"} for i in range(15) for k in range(3)]
    entry = {
        "path": jsonl(tmp_path, rows),
        "columns": {"prompt": "problem", "gold": "a"},
        "responses": {"llama": "solution"},
        "domain": "math",
        "id": "generated",
    }
    taken = take(tmp_path, entry, imported=["llama"])
    assert (len(taken.prompts), len(taken.responses), taken.rejects) == (15, 45, [])
    assert sorted({response["sample_index"] for response in taken.responses}) == [0, 1, 2]
    assert (
        taken.tables[0].line()
        == "p.jsonl: 45 rows, 15 prompts, 45 responses, 30 rows merged with an earlier row of their prompt"
    )


def test_all_50_scored_responses_of_25_prompts_stay(tmp_path: Path) -> None:
    rows = [{"prompt": f"Why {i}?", "response": f"{i} {k}", "helpfulness": k} for i in range(25) for k in range(2)]
    entry = {
        "path": jsonl(tmp_path, rows),
        "columns": {"prompt": "prompt"},
        "responses": {"nemotron": {"response": "response", "scores": {"helpful": "helpfulness"}}},
        **OWN,
    }
    taken = take(tmp_path, entry, imported=["nemotron"])
    assert (len(taken.prompts), len(taken.responses), len(taken.scores)) == (25, 50, 50)
    assert all(value == float(text[-1]) for _, text, _, value in rated(taken))


def test_a_row_with_another_gold_is_a_contradiction_and_its_response_is_not_taken(tmp_path: Path) -> None:
    rows = [{"q": "1 + 1?", "a": a, "s": f"It is {a}."} for a in ("2", "3")]
    entry: dict[str, Any] = {
        "path": jsonl(tmp_path, rows),
        "columns": {"prompt": "q", "gold": "a"},
        "responses": {"old": "s"},
        "domain": "math",
        "id": "generated",
    }
    taken = take(tmp_path, entry, imported=["old"])
    assert taken.answers == [("old", "It is 2.")]
    assert [(r["id"], r["reason"]) for r in taken.rejects] == [("p.jsonl:2", "contradiction")]


def test_rows_of_one_prompt_in_two_tables_are_merged(tmp_path: Path) -> None:
    columns = {"columns": {"prompt": "q"}, "responses": {"old": "a"}, **OWN}
    one, two = (jsonl(tmp_path, [{"q": "A?", "a": name}], f"{name}.jsonl") for name in ("x", "y"))
    taken = take(tmp_path, {"path": one, **columns}, {"path": two, **columns}, imported=["old"])
    assert taken.answers == [("old", "x"), ("old", "y")]
    assert [(table.prompts, table.merged) for table in taken.tables] == [(1, 0), (0, 1)]
