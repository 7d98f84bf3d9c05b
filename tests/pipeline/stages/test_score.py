"""`score.reward: auto` chooses by verdicts. Without them, the run stops and asks for a name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from example_recipe import make_run, source_tree

from fusechat.pipeline.errors import RecipeError, StageError
from fusechat.pipeline.records import VERDICT
from fusechat.pipeline.run import Run
from fusechat.pipeline.sampling import generate
from fusechat.pipeline.scoring.verification import check_id
from fusechat.pipeline.stages import score
from fusechat.pipeline.stages.walk import walk
from fusechat.pipeline.storage.manifest import Manifest
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.verify.tasks import VERSION

TWO = [{"name": name, "kind": "likelihood", "source": "a"} for name in ("second", "first")]
IMPORTED = {"name": "old", "kind": "imported"}


def test_a_recipe_in_which_auto_cannot_choose_stops_before_any_work(tmp_path: Path) -> None:
    run = make_run(tmp_path, rewards=TWO)
    with pytest.raises(RecipeError) as refused:
        walk(run)
    assert str(refused.value) == (
        "score.reward: without math and code there are no verdicts to choose a reward model by; set one of second, "
        "first, or a combination (given: 'auto')"
    )
    assert not run.dir.exists("run.json")
    assert walk(run, ("prompts",)) == {"prompts": True}


def test_a_run_that_has_scored_keeps_its_choice(tmp_path: Path) -> None:
    run = make_run(tmp_path, rewards=TWO)
    run.dir.write_manifest(Manifest(stage="score", config="", inputs={}, data=""))
    with pytest.raises(StageError, match="prompts"):  # the walk goes on to what this directory lacks
        walk(run, ("score",))


@pytest.mark.parametrize(
    "sections",
    [
        {"rewards": TWO[:1]},
        {"rewards": TWO, "score": {"reward": "first"}},
        {"rewards": TWO, "score": {"reward": {"weights": {"first": 1.0, "second": 0.5}}}},
        {"rewards": TWO, "sources": [source_tree(samples={"instruction": 1, "code": 1})]},
        {"rewards": TWO, "sources": [source_tree(), IMPORTED]},  # its prompts may be of any domain
    ],
)
def test_a_recipe_that_can_choose_is_taken(tmp_path: Path, sections: dict[str, Any]) -> None:
    score.check(make_run(tmp_path, **sections).recipe)


@pytest.mark.parametrize("right", [[False, False], [True, True], [None, None]])
def test_without_right_and_wrong_responses_no_reward_model_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: list[bool | None]
) -> None:
    prompt = {"id": "i", "domain": "math", "prompt": "4 + 8?", "gold": "12", "responses": {"old": ["11", "13"]}}
    run = make_run(tmp_path, [prompt], rewards=TWO, sources=[source_tree(), IMPORTED], sample={"buckets": 1})
    walk(run, ("prompts",))
    generate.import_carried(run)
    generate.finish(run, 0)
    (asked,) = run.train_prompts.to_pylist()
    verdicts = [
        {"response_id": i, "correct": correct, "verdict": "v", "detail": "", "check_id": check_id(i, asked)}
        for i, correct in zip((r["response_id"] for r in generate.responses(run)), right, strict=True)
    ]
    Parts(run.dir, f"verify/5s-v{VERSION}", VERDICT, "check_id").write(0, verdicts)
    monkeypatch.setattr(Run, "ray", lambda _: None)  # everything is verified, and nothing may start
    with pytest.raises(StageError) as refused:
        score.run(run)
    cause = (
        f"auto can't choose a reward model: {right.count(True)} responses are right and {right.count(False)} wrong, "
        "and it needs both, with scores; set one of second, first, or a combination"
    )
    assert str(refused.value) == f"stage score, score.reward: {cause}"
