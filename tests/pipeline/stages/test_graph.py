"""What a stage's output hangs on, and scores that are not those of the recipe's reward models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.identities import prompt_id
from fusechat.pipeline.progress import Progress
from fusechat.pipeline.recipe import Recipe
from fusechat.pipeline.records import PROMPT, REJECT, RESPONSE, SCORE
from fusechat.pipeline.run import Run
from fusechat.pipeline.scoring import model_scores
from fusechat.pipeline.stages import graph, select
from fusechat.pipeline.storage.parts import Parts


def run_of(folder: Path, **sections: Any) -> Run:
    """A run in the folder, of a recipe with one source, a likelihood and a classifier; its models are there."""
    for name in ("a", "skywork", "target"):
        (folder / "models" / name).mkdir(parents=True, exist_ok=True)
        if not (config := folder / "models" / name / "config.json").exists():
            config.write_text("{}")
    (folder / "train.jsonl").write_text('{"id": "i", "domain": "instruction", "prompt": "Name a colour."}\n')
    tree = {
        "name": "small",
        "run_dir": str(folder / "run"),
        "prompts": {"train": ["train.jsonl"]},
        "sources": [{"name": "a", "model": {"path": "models/a"}, "samples": {"instruction": 2}}],
        "rewards": [
            {"name": "likelihood", "kind": "likelihood", "source": "a"},
            {"name": "skywork", "kind": "classifier", "model": {"path": "models/skywork"}},
        ],
        "target": {"model": {"path": "models/target"}},
        "sft": {"learning_rate": 1e-5, "num_epochs": 1},
        "dpo": {"learning_rate": 1e-6, "beta": 10},
        **sections,
    }
    return Run(Recipe.model_validate(tree), folder, Progress(Console(quiet=True)))


def scored(run: Run, chosen: str, made_by: dict[str, str]) -> None:
    """Writes what the stages before selection leave: one prompt, two responses, their scores."""
    messages = [{"role": "user", "content": "Name a colour."}]
    prompt = {"prompt_id": prompt_id(messages), "id": "i", "domain": "instruction", "messages": messages}
    prompt |= {"file": "train.jsonl", "line": 1}
    mine = {"prompt_id": prompt["prompt_id"], "domain": "instruction", "source": "a"}
    answers = {"r0": ("Red.", 0.2), "r1": ("Blue.", 0.15)}
    Parts(run.dir, "prompts/train", PROMPT, "prompt_id").write_all([prompt], run.recipe.sample.buckets)
    run.dir.write_table(REJECT.empty_table(), "prompts", "rejects.parquet")
    common = {**mine, "revision": "r", "sample_index": 0, "seed": 0, "params": "{}", "template": "t", "flags": []}
    common |= {"finish_reason": "stop", "reject": "", "prompt_tokens": 1, "completion_tokens": 1}
    responses = [{**common, "response_id": i, "text": text} for i, (text, _) in answers.items()]
    Parts(run.dir, "sample", RESPONSE, "response_id").write_all(responses, run.recipe.sample.buckets)
    scores = [
        {**mine, "response_id": i, "rewards": [(chosen, reward)], "reward_rejects": [], "correct": None}
        | {"verdict": "unverified", "detail": ""}
        for i, (_, reward) in answers.items()
    ]
    Parts(run.dir, "score", SCORE, "response_id").write_all(scores, run.recipe.sample.buckets)
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
    # And what the line says to run has work to do: the scores hang on the weights.
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
    told = ("prompts", "sample", "score", "select", "sft", "dpo", "evaluate", "report")
    assert {s for s in told if graph.settings(before, s) != graph.settings(after, s)} == stale
