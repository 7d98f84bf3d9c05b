"""Which reward the service scores with, if some of the recipe's rewards come with imported responses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from example_recipe import make_recipe, make_run, quiet_run, source_tree

from fusechat.pipeline.errors import RecipeError
from fusechat.pipeline.recipe import COMBINED
from fusechat.pipeline.recipe.load import load, packaged_recipes
from fusechat.services.app import _chosen_reward_model
from fusechat.services.error_responses import RefusedError
from fusechat.services.reward_calls import RewardCalls
from fusechat.services.server import serve_forever

SOURCES = [source_tree(), {"kind": "imported", "name": "gpt"}]
SERVED = {"kind": "likelihood", "name": "rm", "source": "a"}
BOTH = {"weights": {"rm": 1, "grade": 1}}


def recipe(reward: Any, *rewards: dict[str, Any]) -> dict[str, Any]:
    imported = {"kind": "imported", "name": "grade"}
    return {"sources": SOURCES, "rewards": [*rewards, imported], "score": {"reward": reward}}


@pytest.mark.parametrize(
    ("changes", "chosen"),
    [
        (recipe("rm", SERVED), "rm"),
        (recipe("grade", SERVED), "rm"),
        (recipe(BOTH, SERVED), "rm"),
        (recipe("grade"), ""),
        ({"score": {"reward": {"weights": {"likelihood": 1}}}}, COMBINED),
    ],
)
def test_the_default_reward_is_one_that_the_service_computes(
    tmp_path: Path, changes: dict[str, Any], chosen: str
) -> None:
    assert _chosen_reward_model(make_run(tmp_path, **changes)) == chosen


def test_a_combination_with_imported_scores_is_refused() -> None:
    calls = RewardCalls(make_recipe(**recipe(BOTH, SERVED)), {"rm": None}, "rm")  # type: ignore[dict-item]
    assert calls.resolve(True) == "rm"
    with pytest.raises(RefusedError, match="combined is not one of the reward models rm"):
        calls.resolve(COMBINED)


def test_a_recipe_with_imported_sources_alone_has_nothing_to_serve() -> None:
    folder = packaged_recipes()
    tree = load(folder / "begin-with-scores.yaml")
    with pytest.raises(RecipeError, match="sources"):
        serve_forever(quiet_run(tree, folder))
