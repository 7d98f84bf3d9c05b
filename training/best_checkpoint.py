"""The better of the last two checkpoints, by what held-out rows say (FuseChat-3.0, section 4.1)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.identities import digest

from . import checkpoints, sharding
from .driver import Job

LOGGED = {
    ("sft", "loss"): "eval_loss",
    ("sft", "accuracy"): "eval_mean_token_accuracy",
    ("dpo", "loss"): "eval_loss",
    ("dpo", "accuracy"): "eval_rewards/accuracies",
    ("dpo", "margin"): "eval_rewards/margins",
}
"""Stage and the recipe's name of a metric -> the Trainer's; of a loss the smaller value is better."""


def split(rows: pa.Table, stage: str, share: float) -> tuple[pa.Table, pa.Table]:
    """Rows to train on and rows held out, by a hash of the prompt that selection does not use.

    Raises:
        StageError: one of the two would be empty.
    """
    held = [int(digest("holdout", p)[:8], 16) / 16**8 < share for p in rows.column("prompt_id").to_pylist()]
    if any(held) and not all(held):
        mask = pa.array(held)
        return rows.filter(pc.invert(mask)), rows.filter(mask)
    if not share:
        return rows, rows.slice(0, 0)
    what = "all" if all(held) else "none"
    raise StageError(stage, "rows", f"{what} of {len(held)} rows would be held out; change {stage}.holdout")


def better(metric: str, first: float, second: float) -> bool:
    """Whether the first value is better than the second."""
    return first < second if metric == "loss" else first > second


def choose(trainer: Any, job: Job) -> int:
    """Puts the better checkpoint's weights into the model; returns its step. The later one wins a tie.

    evaluation.json in the training's folder says what was compared.
    """
    metric = job.config.choose
    candidates = checkpoints.all_whole(job.path("checkpoints"))[-2:]
    values: dict[int, float] = {}
    for checkpoint in candidates:
        trainer._load_from_checkpoint(str(checkpoint))
        trainer.evaluate()
        sharding.reshard(job, trainer.model)
        values[checkpoints.step_of(checkpoint)] = float(trainer.state.log_history[-1][LOGGED[job.stage, metric]])
    best = checkpoints.step_of(candidates[-1])
    for step, value in values.items():
        if better(metric, value, values[best]):
            best = step
    if best != checkpoints.step_of(candidates[-1]):
        trainer._load_from_checkpoint(str(next(c for c in candidates if checkpoints.step_of(c) == best)))
    if trainer.is_world_process_zero():
        said = {"metric": metric, "values": {str(s): v for s, v in values.items()}, "chosen": best}
        checkpoints.write(Path(job.path("evaluation.json")), json.dumps(said).encode())
    return best
