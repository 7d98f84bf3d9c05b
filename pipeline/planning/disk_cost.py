"""Disk that a recipe takes: the models' weights, what the run directory keeps, and the checkpoints of the trainings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..recipe import Recipe
from ..recipe.paths import models
from .memory import Shape, adapter_parameters
from .model_shapes import model_shape, origin, shape_or_guess
from .sampling_cost import BYTES_A_TOKEN, Estimate
from .stage_costs import StageCost
from .text_tables import aligned, size
from .training_cost import TrainingCost

KEPT_CHECKPOINTS = 2
"""Checkpoints that a training keeps until its end (training/worker.py)."""
WRITTEN = 1
"""A further one, while it is written."""


@dataclass(frozen=True, slots=True)
class DiskUse:
    """One use of the disk."""

    what: str
    num_bytes: float
    note: str


def disk_uses(
    recipe: Recipe,
    base: Path,
    estimates: Sequence[Estimate],
    trainings: Sequence[TrainingCost],
    evaluation: StageCost | None,
) -> list[DiskUse]:
    """What takes disk: in the models' cache, in the run directory, and until the end of each training."""
    fetched = {str(model.hub or model.wheels): (who, model) for who, model in models(recipe) if model.path is None}
    weights = sum(2 * shape_or_guess(model, who, base).parameters for who, model in fetched.values())
    origins = origin([model for _, model in fetched.values()])
    uses = [
        DiskUse("models' cache", weights, f"weights of {len(fetched)} models in bfloat16, {origins}"),
        DiskUse("samples", sum(e.disk for e in estimates), "those that are missing, with their identities; no logits"),
    ]
    rows = sum(t.work.rows * t.work.tokens for t in trainings) * BYTES_A_TOKEN
    uses.append(DiskUse("selected rows", rows, "texts of SFT rows and pairs"))
    if recipe.target is not None and trainings:
        uses += _training_uses(model_shape(recipe.target.model, base), trainings)
    if evaluation is not None:
        uses.append(DiskUse("answers", evaluation.tokens * BYTES_A_TOKEN, "those of the evaluated models"))
    return uses


def _training_uses(target: Shape, trainings: Sequence[TrainingCost]) -> list[DiskUse]:
    uses = []
    for training in trainings:
        trained = adapter_parameters(target, training.config.lora.r) if training.config.lora else target.parameters
        one = 12 * trained
        uses.append(
            DiskUse(
                f"{training.stage} checkpoints",
                (KEPT_CHECKPOINTS + WRITTEN) * one,
                f"{KEPT_CHECKPOINTS} and {WRITTEN} that is written, {size(one)} each: float32 weights, Adam's moments",
            )
        )
    names = " and ".join(training.stage.upper() for training in trainings)
    return [*uses, DiskUse("trained models", len(trainings) * 2 * target.parameters, f"{names} in bfloat16")]


def most_at_once(uses: Sequence[DiskUse]) -> float:
    """The most disk at any time: only one training has its checkpoints."""
    checkpoints = [u.num_bytes for u in uses if u.what.endswith("checkpoints")]
    return sum(u.num_bytes for u in uses) - sum(checkpoints) + max(checkpoints, default=0.0)


def describe(uses: Sequence[DiskUse]) -> list[str]:
    """The uses as a table."""
    rows = [(use.what, size(use.num_bytes)) for use in uses]
    lines = aligned([("disk", "size"), *rows, ("most at once", size(most_at_once(uses)))])
    notes = ["", *(use.note for use in uses), "a training's checkpoints are deleted at its end"]
    return [f"{line}  {note}".rstrip() for line, note in zip(lines, notes, strict=True)]
