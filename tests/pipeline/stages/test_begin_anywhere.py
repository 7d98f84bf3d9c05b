"""The shipped examples that begin in the middle: their data is read, and the rows train a model."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import tiny_model
from example_recipe import quiet_run

from fusechat.pipeline.dataset.check import check
from fusechat.pipeline.recipe import Recipe
from fusechat.pipeline.recipe import load as recipes
from fusechat.pipeline.records import RESPONSE
from fusechat.pipeline.run import Run
from fusechat.pipeline.stages.walk import walk
from fusechat.pipeline.storage.parts import Parts

DATA = ("prompts", "sample", "score", "select")
STAGES = (*DATA, "sft", "dpo", "evaluate", "report")


def example(name: str, folder: Path, *changes: str) -> Run:
    """A run of a shipped example in `folder`."""
    path = recipes.find(name)
    recipe = recipes.load(path, (f"run_dir={folder / 'run'}", *changes))
    return quiet_run(recipe, path.parent)


def without(recipe: Recipe, *sections: str) -> Recipe:
    """The recipe without some of its sections."""
    tree = recipe.model_dump(mode="json", exclude=set(sections))
    return Recipe.model_validate({**tree, "evaluate": {}})


def test_the_example_with_pairs_imports_every_row(tmp_path: Path) -> None:
    run = example("begin-with-pairs", tmp_path)
    assert run.recipe.stages == ("prompts", "select", "sft", "dpo", "evaluate", "report")
    walk(run, ("prompts", "select"))
    manifest = run.dir.manifest("select")
    assert manifest is not None
    assert manifest.counts == {"sft": 12, "pairs": 12, "rejected": 0}


def test_the_example_with_scores_is_selected_without_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("scores that come with the responses need no cluster")

    monkeypatch.setattr("fusechat.pipeline.cluster.connect.connected", refused)
    run = example("begin-with-scores", tmp_path)
    assert run.recipe.stages == STAGES
    walk(run, DATA)
    scored, selected = run.dir.manifest("score"), run.dir.manifest("select")
    assert scored is not None and selected is not None
    assert (scored.counts["rewarded"], scored.counts["no score"]) == (23, 1)
    assert selected.counts == {"prompts": 6, "sft": 1, "pairs": 5, "unused": 0}
    pairs = run.dir.read_table("select", "pairs.parquet").to_pylist()
    assert all(pair["source"] == "model-a" and 0.01 <= pair["margin"] <= 0.2 for pair in pairs)
    assert check(run.dir, run.recipe) == []


def test_the_example_with_responses_samples_nothing_and_keeps_every_response(tmp_path: Path) -> None:
    run = example("begin-with-responses", tmp_path)
    assert run.recipe.stages == STAGES
    walk(run, ("prompts",))
    walk(run, ("sample",))
    sampled = run.dir.manifest("sample")
    assert sampled is not None
    assert (sampled.counts["responses"], sampled.tokens) == (48, 0)
    responses = Parts(run.dir, "sample", RESPONSE, "response_id").read().to_pylist()
    assert Counter(r["source"] for r in responses) == {"model-a": 24, "model-b": 24}
    assert Counter(r["domain"] for r in responses) == {"math": 24, "instruction": 24}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["begin-with-responses", "begin-with-scores"])
def test_an_example_with_responses_runs_from_nothing_to_trained_models(tmp_path: Path, name: str) -> None:
    """The reward model of the first is a small random one: what it likes is not the point."""
    tiny_model.write_model(
        tmp_path / "model", tiny_model.make_tokenizer(), hidden_size=128, max_position_embeddings=512
    )
    model = json.dumps({"path": str(tmp_path / "model")})
    changes = [f"target.model={model}", "prompts.heldout=[]", "training.num_cpus=1"]
    if name == "begin-with-responses":
        changes += [f"sources.smollm2-135m.model={model}", "sources.smollm2-135m.placement.num_cpus=0.9"]
    run = example(name, tmp_path, *changes)
    assert walk(run) == dict.fromkeys((*DATA, "sft", "dpo", "report"), True)
    for stage, table in (("sft", "sft"), ("dpo", "pairs")):
        manifest = run.dir.manifest(stage)
        assert manifest is not None
        assert manifest.counts["rows"] == run.dir.read_table("select", f"{table}.parquet").num_rows > 0
    scored = run.dir.manifest("score")
    assert scored is not None
    if name == "begin-with-responses":
        assert (scored.counts["verified"], scored.counts["correct"]) == (24, 12)
        for pair in run.dir.read_table("select", "pairs.parquet").to_pylist():
            if pair["domain"] == "math":
                assert (pair["chosen_correct"], pair["rejected_correct"]) == (True, False)
    assert check(run.dir, run.recipe) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("left_out", [(), ("dpo",), ("sft",)])
def test_the_example_with_pairs_trains_what_its_sections_say(tmp_path: Path, left_out: tuple[str, ...]) -> None:
    tiny_model.write_model(tmp_path / "model", tiny_model.make_tokenizer())
    target = json.dumps({"path": str(tmp_path / "model")})
    whole = example("begin-with-pairs", tmp_path, f"target.model={target}", "prompts.heldout=[]", "training.num_cpus=1")
    run = quiet_run(without(whole.recipe, *left_out), whole.base)
    trained = [stage for stage in ("sft", "dpo") if stage not in left_out]
    assert walk(run) == dict.fromkeys(("select", *trained, "report"), True)
    for stage in trained:
        manifest = run.dir.manifest(stage)
        assert manifest is not None
        assert (manifest.counts["rows"], manifest.counts["steps"]) == (12, 3)
        card = (run.trained_model(stage) / "README.md").read_text()
        assert "imported ready to train on, from begin/sft.jsonl, begin/pairs.jsonl" in card
    assert not any(run.dir.exists(stage, "manifest.json") for stage in left_out)
    report = (tmp_path / "run" / "report" / "report.md").read_text()
    assert "The recipe evaluates no model." in report
    assert walk(quiet_run(run.recipe, run.base)) == dict.fromkeys(("select", *trained, "report"), False)
