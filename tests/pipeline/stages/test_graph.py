"""What a stage's output depends on, and scores that are not from the recipe's reward models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from example_recipe import make_run, source_tree
from example_rows import prompt_row, response_row, score_row

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.records import PROMPT, REJECT, RESPONSE, SCORE
from fusechat.pipeline.run import Run
from fusechat.pipeline.scoring import model_scores
from fusechat.pipeline.stages import graph, select
from fusechat.pipeline.storage.parts import Parts


def run_of(folder: Path, **sections: Any) -> Run:
    """A run of a recipe with one source, two samples of its prompt, a likelihood and a classifier."""
    rewards = [
        {"name": "likelihood", "kind": "likelihood", "source": "a"},
        {"name": "skywork", "kind": "classifier", "model": {"path": "models/skywork"}},
    ]
    return make_run(folder, **{"sources": [source_tree(samples={"instruction": 2})], "rewards": rewards, **sections})


def scored(run: Run, chosen: str, made_by: dict[str, str]) -> None:
    """Writes what the stages before selection leave: one prompt, two responses, their scores."""
    buckets = run.recipe.sample.buckets
    prompt = prompt_row(0, "Name a colour.", "instruction")
    responses = [response_row(prompt, "r0", text="Red."), response_row(prompt, "r1", text="Blue.")]
    scores = [score_row(r, {chosen: reward}) for r, reward in zip(responses, (0.2, 0.15), strict=True)]
    Parts(run.dir, "prompts/train", PROMPT, "prompt_id").write_all([prompt], buckets)
    run.dir.write_table(REJECT.empty_table(), "prompts", "rejects.parquet")
    Parts(run.dir, "sample", RESPONSE, "response_id").write_all(responses, buckets)
    Parts(run.dir, "score", SCORE, "response_id").write_all(scores, buckets)
    run.dir.write_json({"chosen": chosen, "made_by": made_by}, "score", "agreement.json")


@pytest.mark.parametrize("name", ["likelihood", "skywork"])
def test_scores_of_the_recipes_reward_model_are_selected_by(tmp_path: Path, name: str) -> None:
    run = run_of(tmp_path)
    scored(run, name, {name: model_scores.version_of(run, name)})
    counts = select.run(run).counts
    assert counts["sft"] + counts["pairs"] == 1


def test_scores_of_another_revision_of_the_reward_model_are_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    was, before = model_scores.version_of(run, "skywork"), graph.settings(run, "score")
    scored(run, "skywork", {"skywork": was})
    (tmp_path / "models" / "skywork" / "config.json").write_text('{"num_labels": 1}')  # other weights under its name
    later = run_of(tmp_path)
    now = model_scores.version_of(later, "skywork")
    assert now != was
    cause = f"the scores of skywork are of another revision or other settings ({was}, now {now}); run `fusechat score`"
    with pytest.raises(StageError) as refused:
        select.run(later)
    assert cause in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not later.dir.exists("select", "sft.parquet")
    # The command that the message names has work to do: the scores depend on the weights.
    assert graph.settings(later, "score") != before


def test_scores_of_a_reward_model_that_left_the_recipe_are_refused(tmp_path: Path) -> None:
    scored(run_of(tmp_path), "gone", {"gone": "gone-0123456789ab"})
    with pytest.raises(StageError, match=r"the scores of gone are of .*\(gone-0123456789ab, now not in the recipe\)"):
        select.run(run_of(tmp_path))


@pytest.mark.parametrize(
    ("sections", "stale"),
    [
        ({"select": {"math": {"sft_fraction": 0.3, "margin": {"min": 0.02, "max": 0.5}, "rows": 2}}}, {"select"}),
        ({"select": {"instruction": {"sft_fraction": 0.4, "max_tokens": 9, "prefer": "reward"}}}, {"select"}),
        # Cut responses that may now be chosen have no score yet.
        ({"select": {"instruction": {"sft_fraction": 0.4, "keep_truncated": True}}}, {"select", "score"}),
        ({"score": {"reward": "skywork"}}, {"score"}),
        ({"score": {"reward": {"weights": {"skywork": 1.0, "likelihood": 0.1}}}}, {"score"}),
        ({"score": {"agreement_sample": 9}}, {"score"}),
        ({"score": {"verify": {"timeout_s": 9}}}, {"score", "evaluate"}),
        ({"rewards": [{"name": "likelihood", "kind": "likelihood", "source": "a"}]}, {"score"}),
        ({"score": {"batch_size": 3, "concurrency": 2, "verify": {"num_workers": 1}}}, set()),
        ({"sample": {"concurrency": 2}}, set()),
    ],
)
def test_a_changed_setting_makes_stale_what_hangs_on_it_and_no_more(
    tmp_path: Path, sections: dict[str, Any], stale: set[str]
) -> None:
    before, after = run_of(tmp_path), run_of(tmp_path, **sections)
    stages = ("prompts", "sample", "score", "select", "sft", "dpo", "evaluate", "report")
    assert {s for s in stages if graph.settings(before, s) != graph.settings(after, s)} == stale
