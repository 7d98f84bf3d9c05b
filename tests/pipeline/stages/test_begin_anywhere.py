"""The shipped examples that begin in the middle: their data is read, and the rows train a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import tiny_model
from example_recipe import quiet_run

from fusechat.pipeline.recipe import Recipe
from fusechat.pipeline.recipe import load as recipes
from fusechat.pipeline.run import Run
from fusechat.pipeline.stages.walk import walk


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
