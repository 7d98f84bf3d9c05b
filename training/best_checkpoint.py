"""Keeps the better of the last two checkpoints, measured on held-out rows (FuseChat-3.0, section 4.1)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.identities import digest

from . import checkpoints, sharding
from .driver import TrainingJob
from .trainer_internals import load_checkpoint_weights

if TYPE_CHECKING:
    from transformers import Trainer

LOG_KEYS = {
    ("sft", "loss"): "eval_loss",
    ("sft", "accuracy"): "eval_mean_token_accuracy",
    ("dpo", "loss"): "eval_loss",
    ("dpo", "accuracy"): "eval_rewards/accuracies",
    ("dpo", "margin"): "eval_rewards/margins",
}
"""(Stage, metric in the recipe) -> key in the Trainer's log. Lower is better for a loss, higher for the others."""


def split_holdout(rows: pa.Table, stage: str, share: float) -> tuple[pa.Table, pa.Table]:
    """Splits into training rows and held-out rows, by a hash of the prompt that the selection does not use.

    Raises:
        StageError: one of the two would be empty.
    """
    held_out = [int(digest("holdout", p)[:8], 16) / 16**8 < share for p in rows.column("prompt_id").to_pylist()]
    if any(held_out) and not all(held_out):
        mask = pa.array(held_out)
        return rows.filter(pc.invert(mask)), rows.filter(mask)
    if not share:
        return rows, rows.slice(0, 0)
    what = "all" if all(held_out) else "none"
    raise StageError(stage, "rows", f"{what} of {len(held_out)} rows would be held out; change {stage}.holdout")


def is_better(metric: str, first: float, second: float) -> bool:
    """Whether the first value is better than the second."""
    return first < second if metric == "loss" else first > second


def load_best(trainer: Trainer, job: TrainingJob) -> int:
    """Loads the weights of the better checkpoint into the model and returns its step. On a tie, the later one wins.

    Writes both values to evaluation.json in the training's folder.
    """
    metric = job.config.choose
    candidates = {checkpoints.step_of(c): c for c in checkpoints.all_complete(job.path("checkpoints"))[-2:]}
    values: dict[int, float] = {}
    for step, checkpoint in candidates.items():
        load_checkpoint_weights(trainer, checkpoint)
        trainer.evaluate()
        sharding.reshard(job, trainer.model)
        values[step] = float(trainer.state.log_history[-1][LOG_KEYS[job.stage, metric]])
    last = best = max(candidates)
    for step, value in values.items():
        if is_better(metric, value, values[best]):
            best = step
    if best != last:
        load_checkpoint_weights(trainer, candidates[best])
    if trainer.is_world_process_zero():
        evaluation = {"metric": metric, "values": {str(s): v for s, v in values.items()}, "chosen": best}
        checkpoints.write(Path(job.path("evaluation.json")), json.dumps(evaluation).encode())
    return best
