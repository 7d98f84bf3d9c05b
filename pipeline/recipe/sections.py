"""Which sections a stage needs, for a command that asks for a stage that the recipe does not call for."""

from __future__ import annotations

from ..errors import RecipeError
from .schema import Recipe

NEEDS = {
    "prompts": (("prompts.train or prompts.heldout",), "it reads prompt files"),
    "sample": (("prompts.train", "sources"), "it samples sources on training prompts"),
    "score": (("prompts.train", "sources", "rewards"), "it scores the responses of sources with reward models"),
    "select": (("prompts.train or dataset", "sources", "rewards"), "it takes the responses with the highest rewards"),
    "sft": (("sft",), "it has the settings of the training"),
    "dpo": (("dpo",), "it has the settings of the training"),
    "evaluate": (("prompts.heldout or evaluate.suites", "target"), "models answer held-out prompts or suites"),
}
"""Stage -> the keys that call for it, and why."""


def called(recipe: Recipe) -> tuple[str, ...]:
    """The stages that the recipe calls for.

    Raises:
        RecipeError: there is nothing to do but to serve.
    """
    if recipe.stages == ("report",):
        raise RecipeError("prompts.train", None, "is required: a run begins with prompts, or with dataset")
    return recipe.stages


def read_stages(recipe: Recipe) -> tuple[str, ...]:
    """The stages that only read the user's files, and need neither models nor a cluster."""
    reading = ("prompts", "select") if recipe.dataset is not None else ("prompts",)
    return tuple(stage for stage in recipe.stages if stage in reading)


def check(recipe: Recipe, stage: str) -> None:
    """Checks that the recipe calls for a stage.

    Raises:
        RecipeError: it lacks a section that the stage needs; the error names the key.
    """
    if stage in recipe.stages:
        return
    keys, why = NEEDS[stage]
    missing = [key for key in keys if not any(_given(recipe, name) for name in key.split(" or "))]
    raise RecipeError(missing[0], None, f"is required by the stage {stage}: {why}")


def _given(recipe: Recipe, key: str) -> bool:
    node: object = recipe
    for part in key.split("."):
        node = getattr(node, part)
    return bool(node)
