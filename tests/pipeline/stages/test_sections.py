"""Recipes without some of the sections: which stages they call for, and what they say of what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from example_recipe import MODEL, PROMPT, make_recipe, make_run, quiet_run, recipe_tree, write_jsonl, write_model
from pydantic import ValidationError
from typer.testing import CliRunner

from fusechat.pipeline.cli.main import app
from fusechat.pipeline.dataset.check import check
from fusechat.pipeline.dataset.export import FORMATS, export
from fusechat.pipeline.dataset.locate import locate_run
from fusechat.pipeline.dataset.row_checks import OUTPUTS
from fusechat.pipeline.dataset.trace import trace
from fusechat.pipeline.errors import RecipeError, RunDirectoryError, UserError
from fusechat.pipeline.planning.dry_run import describe
from fusechat.pipeline.recipe import Recipe
from fusechat.pipeline.stages import graph
from fusechat.pipeline.stages.walk import walk

SFT_ROWS = [
    {"conversations": [{"from": "human", "value": f"What is {i} + 1?"}, {"from": "gpt", "value": str(i + 1)}]}
    for i in range(6)
]
PAIRS = [
    {"prompt": f"What is {i} + 2?", "chosen": str(i + 2), "rejected": "no", "score_chosen": 2.0, "score_rejected": 1.5}
    for i in range(4)
]
DATASET = {"dataset": {"sft": ["sft.jsonl"], "pairs": ["pairs.jsonl"]}}
HELDOUT = {"heldout": ["heldout.jsonl"]}


def tree(*left_out: str, **changes: Any) -> dict[str, Any]:
    """The recipe's tree without some sections."""
    return {key: value for key, value in recipe_tree(**changes).items() if key not in left_out}


def recipe(*left_out: str, **changes: Any) -> Recipe:
    return Recipe.model_validate(tree(*left_out, **changes))


def ready(folder: Path, *left_out: str, **changes: Any) -> Recipe:
    """A recipe with a ready data set in `folder`, and nothing to sample."""
    write_jsonl(folder / "sft.jsonl", SFT_ROWS)
    write_jsonl(folder / "pairs.jsonl", PAIRS)
    write_jsonl(folder / "heldout.jsonl", [{"id": "h", "domain": "instruction", "prompt": "What is 0 + 1?"}])
    write_model(folder / "models" / "a")
    sections = {**DATASET, "run_dir": str(folder / "run"), **changes}
    prompts = () if "prompts" in changes else ("prompts",)
    return recipe("sources", "rewards", *prompts, *left_out, **sections)


DATA = ("prompts", "sample", "score", "select")


@pytest.mark.parametrize(
    ("left_out", "changes", "stages"),
    [
        ((), {"prompts": {"train": ["t"], **HELDOUT}}, (*DATA, "sft", "dpo", "evaluate", "report")),
        (("dpo",), {"prompts": {"train": ["t"], **HELDOUT}}, (*DATA, "sft", "evaluate", "report")),
        (("sft",), {"prompts": {"train": ["t"], **HELDOUT}}, (*DATA, "dpo", "evaluate", "report")),
        ((), {}, (*DATA, "sft", "dpo", "report")),  # nothing to evaluate on
        (("target", "sft", "dpo"), {}, (*DATA, "report")),
        (("rewards", "target", "sft", "dpo"), {}, ("prompts", "sample", "report")),
        (("sources", "rewards", "target", "sft", "dpo"), {}, ("prompts", "report")),
        (("prompts", "sources", "rewards"), DATASET, ("select", "sft", "dpo", "report")),
        (("sources", "rewards"), {**DATASET, "prompts": HELDOUT},
         ("prompts", "select", "sft", "dpo", "evaluate", "report")),
        (("prompts", "sources", "rewards", "target", "sft", "dpo"), DATASET, ("select", "report")),
        (("sources", "rewards", "sft", "dpo"), {"prompts": HELDOUT}, ("prompts", "evaluate", "report")),
        (("prompts", "target", "sft", "dpo"), {}, ("report",)),  # only to serve
    ],
)  # fmt: skip
def test_the_sections_decide_the_stages(
    left_out: tuple[str, ...], changes: dict[str, Any], stages: tuple[str, ...]
) -> None:
    assert recipe(*left_out, **changes).stages == stages


@pytest.mark.parametrize(
    ("left_out", "changes", "says"),
    [
        (("target",), {}, "target: is required: sft trains it"),
        (("target", "sft"), {}, "target: is required: dpo trains it"),
        (("prompts",), {}, "prompts.train: is required: the rows of sft answer these prompts"),
        (("sources", "rewards"), {}, "sources: is required: the rows of sft are selected from their responses"),
        (("rewards",), {}, "rewards: is required: the rows of sft are selected by their rewards"),
        (
            ("prompts", "sources", "rewards", "target", "sft", "dpo"),
            {},
            "prompts.train: is required: a run begins with",
        ),
        (("sources", "rewards"), DATASET, "prompts.train: cannot be combined with dataset"),
        (("prompts",), {"dataset": {"pairs": ["p"]}}, "dataset.sft: is required: sft trains on it"),
        (("prompts",), {"dataset": {"sft": ["p"]}}, "dataset.pairs: is required: dpo trains on it"),
        (("prompts",), {**DATASET, "select": {"chinese": {"sft_fraction": 0.5}}}, "select: cannot be combined with"),
        (
            ("target", "sft", "dpo", "rewards"),
            {
                "sources": [{"kind": "imported", "name": "x"}],
                "select": {"chinese": {"sft_fraction": 1, "max_tokens": 9}},
            },
            "target: is required: select.chinese.max_tokens counts imported responses",
        ),
        (("dpo",), {"evaluate": {"models": ["target", "dpo"]}}, "evaluate.models: 'dpo' needs the section dpo"),
    ],
)
def test_a_missing_section_that_is_needed_is_named_with_what_needs_it(
    left_out: tuple[str, ...], changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        recipe(*left_out, **changes)
    assert says in str(caught.value)


def test_models_that_the_recipe_does_not_train_are_not_evaluated() -> None:
    assert make_recipe().evaluate.names == ("target", "sft", "dpo")
    assert recipe("dpo").evaluate.names == ("target", "sft")
    assert recipe("sft", evaluate={"judge": None}).evaluate.names == ("target", "dpo")


@pytest.mark.parametrize("left_out", [(), ("dpo",), ("sft",), ("target", "sft", "dpo")])
def test_a_recipe_is_read_back_from_its_dump(left_out: tuple[str, ...]) -> None:
    made = recipe(*left_out)
    assert Recipe.model_validate(made.model_dump(mode="json")) == made
    assert "dataset" not in made.model_dump(mode="json")


def test_a_recipe_with_tables_is_read_back_from_its_dump() -> None:
    tables: list[dict[str, Any]] = [{"path": "t.jsonl", "limit": 3}, {"hub": "a/b", "revision": "main", "split": "x"}]
    for made in (recipe(prompts={"train": tables}), recipe("prompts", dataset={"sft": tables, "pairs": tables})):
        assert Recipe.model_validate(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    ("stage", "left_out", "says"),
    [
        ("sft", ("sft",), "sft: is required by the stage sft"),
        ("dpo", ("dpo",), "dpo: is required by the stage dpo"),
        ("score", ("rewards", "target", "sft", "dpo"), "rewards: is required by the stage score"),
        ("select", ("rewards", "target", "sft", "dpo"), "rewards: is required by the stage select"),
        ("evaluate", ("target", "sft", "dpo"), "prompts.heldout or evaluate.suites: is required by the stage evaluate"),
    ],
)
def test_a_command_of_a_stage_that_the_recipe_does_not_call_for_says_which_key_it_needs(
    tmp_path: Path, stage: str, left_out: tuple[str, ...], says: str
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(json.dumps(tree(*left_out, run_dir=str(tmp_path / "run"))))
    result = CliRunner().invoke(app, [stage, str(path)])
    assert isinstance(result.exception, RecipeError)
    assert str(result.exception).startswith(says)
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_only_serves_has_nothing_to_run(tmp_path: Path) -> None:
    only = recipe("prompts", "target", "sft", "dpo", run_dir=str(tmp_path / "run"))
    with pytest.raises(RecipeError, match="a run begins with prompts, or with dataset"):
        walk(quiet_run(only, tmp_path))


@pytest.mark.parametrize("left_out", [(), ("dpo",), ("sft",), ("target", "sft", "dpo")])
def test_a_dry_run_shows_the_sections_that_there_are(tmp_path: Path, left_out: tuple[str, ...]) -> None:
    text = describe(ready(tmp_path, *left_out))
    assert "select (rows that are ready)\n  sft: sft.jsonl\n  pairs: pairs.jsonl" in text
    assert "margin" not in text
    assert "sample" not in text
    for stage in ("sft", "dpo"):
        assert (f"  {stage}: 1 epoch" in text) is (stage not in left_out)
    assert describe(recipe(*left_out)).count("margin") == 4


@pytest.mark.parametrize(
    ("left_out", "stage", "inputs"),
    [
        ((), "select", ("prompts",)),
        ((), "dpo", ("select", "sft")),
        (("sft",), "dpo", ("select",)),
        ((), "evaluate", ("prompts", "sft", "dpo")),
        (("dpo",), "evaluate", ("prompts", "sft")),
        (("sft", "dpo"), "evaluate", ("prompts",)),
        (("sft", "dpo"), "report", ("prompts", "select", "evaluate")),
    ],
)
def test_a_stage_depends_on_the_stages_that_there_are(
    tmp_path: Path, left_out: tuple[str, ...], stage: str, inputs: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = quiet_run(ready(tmp_path, *left_out, prompts=HELDOUT), tmp_path)
    monkeypatch.setattr(run, "fingerprint", lambda name: name)
    assert tuple(graph.inputs(run, stage)) == inputs
    assert len(graph.settings(run, stage)) == 64


def test_a_ready_data_set_becomes_a_run_without_a_cluster(tmp_path: Path) -> None:
    data = ready(tmp_path, "target", "sft", "dpo", prompts=HELDOUT)
    assert walk(quiet_run(data, tmp_path)) == {"prompts": True, "select": True, "report": True}
    run, stored = locate_run(str(tmp_path / "run"))
    assert stored == data
    manifest = run.manifest("select")
    assert manifest is not None
    assert manifest.counts == {"sft": 5, "pairs": 4, "rejected": 1, "heldout": 1}
    page = (tmp_path / "run" / "report" / "report.md").read_text()
    assert "| reason | rows | % |" in page
    assert "| rejected_heldout | 1 | 10.0 |" in page
    assert "## Responses" not in page
    assert "## Responses" not in (tmp_path / "run" / "report" / "report.html").read_text()
    assert walk(quiet_run(data, tmp_path)) == {"prompts": False, "select": False, "report": False}
    write_jsonl(tmp_path / "pairs.jsonl", PAIRS[:3])
    assert walk(quiet_run(data, tmp_path)) == {"prompts": False, "select": True, "report": True}


def test_the_commands_on_a_data_set_work_on_one_that_was_imported(tmp_path: Path) -> None:
    walk(quiet_run(ready(tmp_path, "target", "sft", "dpo"), tmp_path))
    run, data = locate_run(str(tmp_path / "run"))
    assert check(run, data) == []
    row = run.read_table("select", "pairs.parquet").to_pylist()[0]
    traced = trace(run, data, row["row_id"])
    assert traced["prompt"]["file"] == "pairs.jsonl"  # type: ignore[typeddict-item]
    assert traced["outcome"]["means"] == "preference pairs that were imported"  # type: ignore[typeddict-item]
    result = CliRunner().invoke(app, ["margins", str(tmp_path / "run"), "--json"])
    assert [(y["candidates"], y["pairs"]) for y in json.loads(result.output)] == [(4, 4)]
    for name in FORMATS:
        exported = export(run, data, name, tmp_path / name)
        rows = 16 if name == "verl" else 10  # verl also has every prompt
        assert sum(exported.num_rows.values()) + len(exported.left_out) == rows
        card = (tmp_path / name / "README.md").read_text()
        assert "imported ready to train on, from sft.jsonl, pairs.jsonl" in card
        assert "## Rules" not in card


def test_margins_of_pairs_without_scores_says_so(tmp_path: Path) -> None:
    data = ready(tmp_path, "target", "sft", "dpo")
    write_jsonl(tmp_path / "pairs.jsonl", [{k: v for k, v in p.items() if "score" not in k} for p in PAIRS])
    walk(quiet_run(data, tmp_path))
    result = CliRunner().invoke(app, ["margins", str(tmp_path / "run")])
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == "margins: the pairs of this data set have no scores, so they have no margins"


def test_check_finds_a_text_that_was_changed_after_the_import(tmp_path: Path) -> None:
    walk(quiet_run(ready(tmp_path, "target", "sft", "dpo"), tmp_path))
    run, data = locate_run(str(tmp_path / "run"))
    table = run.read_table("select", "sft.parquet")
    rows = table.to_pylist()
    rows[2]["completion"][0]["content"] = "forged"
    run.write_table(type(table).from_pylist(rows, schema=table.schema), "select", "sft.parquet")
    forged, files = check(run, data)
    assert forged.row == rows[2]["row_id"]
    assert forged.why.endswith("is not the response that was imported")
    assert (files.row, files.rule) == ("select", OUTPUTS)


@pytest.mark.parametrize("name", ["trl", "llamafactory", "alignment-handbook"])
def test_our_own_exports_come_back_as_the_same_rows(tmp_path: Path, name: str) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    walk(quiet_run(ready(first, "target", "sft", "dpo"), first))
    files = {
        "trl": ("sft/train.parquet", "pairs/train.parquet"),
        "llamafactory": ("fusechat_sft.json", "fusechat_pairs.json"),
        "alignment-handbook": ("data/*_sft.parquet", "data/*_prefs.parquet"),
    }[name]
    export(*locate_run(str(first / "run")), name, second / "out")
    sft, pairs = ([f"out/{file}"] for file in files)
    again = ready(second, "target", "sft", "dpo", dataset={"sft": sft, "pairs": pairs})
    walk(quiet_run(again, second))
    for table in ("sft", "pairs"):
        before, after = (
            locate_run(str(f / "run"))[0].read_table("select", f"{table}.parquet") for f in (first, second)
        )
        if name == "llamafactory" and table == "pairs":  # its format has no scores
            before, after = (t.drop_columns(["chosen_reward", "rejected_reward", "margin"]) for t in (before, after))
        assert after.to_pylist() == before.to_pylist()


def test_a_target_may_be_added_to_a_run_that_ended_with_the_data_set(tmp_path: Path) -> None:
    run = make_run(tmp_path, [PROMPT])
    quiet_run(recipe("target", "sft", "dpo", run_dir=run.recipe.run_dir), tmp_path).claim()
    quiet_run(run.recipe, tmp_path).claim()
    other = make_recipe(run_dir=run.recipe.run_dir, target={"model": {**MODEL, "path": "models/b"}})
    with pytest.raises(RunDirectoryError, match="belongs to another recipe"):
        quiet_run(other, tmp_path).claim()
