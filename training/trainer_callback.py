"""A Trainer callback that writes metrics, marks checkpoints as complete and stops a training that goes wrong."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fusechat.pipeline.errors import StageError

from . import checkpoints, data, mfu
from .driver import TrainingJob
from .s3_checkpoints import S3CheckpointStore

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import (
        PreTrainedModel,
        Trainer,
        TrainerCallback,
        TrainerControl,
        TrainerState,
        TrainingArguments,
    )

KEPT_METRICS = ("learning_rate", "grad_norm", "epoch", "mean_token_accuracy", "entropy")
"""Keys of the Trainer's log that a metrics line keeps, besides loss, tokens and the DPO metrics (KEPT_PREFIXES)."""
KEPT_PREFIXES = ("rewards/", "logps/", "logits/", "lengths/")
ADDED_METRICS = ("tokens_per_s", "memory_gib", "mfu")
"""Metrics that the callback adds to the Trainer's log, besides the response lengths of DPO. Memory is the peak of
worker 0."""

WINDOW = 10
"""Logged steps over which the loss is averaged to detect divergence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRows:
    """Ids and lengths of the training rows, by position in the dataset."""

    ids: Sequence[str]
    rows_of_step: Callable[[int], list[int]]
    """Step (from 1) -> positions of its rows."""
    sequences: Sequence[tuple[int, ...]]
    """Lengths in tokens of each row's sequences: one for SFT; prompt + chosen and prompt + rejected for DPO."""
    responses: Sequence[tuple[int, int]] = ()
    """DPO: lengths in tokens of the chosen and the rejected response."""


def training_rows(ids: Sequence[str], rows_of_step: Callable[[int], list[int]], dataset: Dataset) -> TrainingRows:
    """The rows of a dataset of SFT_TOKENS or PAIR_TOKENS."""
    if "input_ids" in dataset.column_names:
        return TrainingRows(
            ids=ids, rows_of_step=rows_of_step, sequences=[(n,) for n in data.token_counts(dataset, "input_ids")]
        )
    columns = [data.token_counts(dataset, name) for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    responses = list(zip(columns[1], columns[2], strict=True))
    sequences = [(p + c, p + r) for p, (c, r) in zip(columns[0], responses, strict=True)]
    return TrainingRows(ids=ids, rows_of_step=rows_of_step, sequences=sequences, responses=responses)


def diverges(losses: list[float]) -> bool:
    """Whether the mean of the last ten logged losses is above three times the mean of the first ten."""
    if len(losses) < 2 * WINDOW:
        return False
    first, last = losses[:WINDOW], losses[-WINDOW:]
    return sum(last) > 3 * sum(first) and sum(last) - sum(first) > WINDOW


def attach(
    trainer: Trainer, job: TrainingJob, leader: bool, rows: TrainingRows, store: S3CheckpointStore | None = None
) -> None:
    """Adds the metrics callback to the trainer.

    It runs after the Trainer's own flow callback, whose decision to save it changes, and before the callbacks that log
    the metrics it adds.
    """
    callback = _metrics_callback(job, leader, rows, trainer.model, store)
    trainer.add_callback(callback)
    handler = trainer.callback_handler
    handler.callbacks.remove(callback)
    handler.callbacks.insert(1, callback)


def _metrics_callback(
    job: TrainingJob, leader: bool, rows: TrainingRows, model: PreTrainedModel, store: S3CheckpointStore | None
) -> TrainerCallback:
    import torch
    from transformers import TrainerCallback

    peak = mfu.peak_flops(mfu.device_name(job.use_gpu))
    parameters = mfu.matmul_parameters(model)

    def rows_of_steps(first: int, last: int) -> list[int]:
        return [i for step in range(first, last + 1) for i in rows.rows_of_step(step)]

    class MetricsCallback(TrainerCallback):  # type: ignore[misc]
        """Writes metrics, marks checkpoints as complete, and stops if the loss is not finite or diverges."""

        def __init__(self) -> None:
            self.seconds, self.tokens, self.step = time.monotonic(), 0, 0
            self.losses = [line["loss"] for line in checkpoints.read_metrics(job.path("metrics.jsonl"))]

        def on_train_begin(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
        ) -> None:
            self.seconds, self.step = time.monotonic(), state.global_step

        def on_step_end(
            self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
        ) -> TrainerControl:
            if store is not None:
                store.raise_if_failed()
            if state.global_step >= state.max_steps:
                # The model itself is saved next. A last checkpoint is needed only to compare the last two.
                control.should_save = job.config.choose != "last"
            return control

        def on_log(
            self,
            args: TrainingArguments,
            state: TrainerState,
            control: TrainerControl,
            logs: dict[str, float],
            **_: object,
        ) -> None:
            if "loss" not in logs:
                return
            self.losses.append(logs["loss"])
            self._stop_on_bad_loss(logs, state.global_step)
            now, tokens = time.monotonic(), int(logs.get("num_tokens", 0))
            positions, seconds = rows_of_steps(self.step + 1, state.global_step), now - self.seconds
            logs |= self._added_metrics(positions, tokens - self.tokens, seconds)
            line: dict[str, float] = {
                "step": state.global_step,
                "num_steps": state.max_steps,
                "loss": logs["loss"],
                "tokens": tokens - self.tokens,
                "seconds": seconds,
            }
            self.seconds, self.tokens, self.step = now, tokens, state.global_step
            kept = (*KEPT_METRICS, *ADDED_METRICS)
            line |= {k: v for k, v in logs.items() if k in kept or k.startswith(KEPT_PREFIXES)}
            if leader:
                with open(job.path("metrics.jsonl"), "a") as out:
                    out.write(json.dumps(line) + "\n")

        def _stop_on_bad_loss(self, logs: dict[str, float], step: int) -> None:
            bad = [f"{name} is {logs[name]}" for name in ("loss", "grad_norm") if not math.isfinite(logs.get(name, 0))]
            if not bad and diverges(self.losses):
                bad = [f"the loss diverges: {logs['loss']:.3g} after {self.losses[0]:.3g} at the start"]
            if bad:
                ids = ", ".join(rows.ids[i] for i in rows.rows_of_step(step))
                cause = f"{bad[0]}; lower {job.stage}.learning_rate or check the rows of this step: {ids}"
                raise StageError(job.stage, f"step {step}", cause)

        def _added_metrics(self, positions: list[int], tokens: int, seconds: float) -> dict[str, float]:
            metrics = {"tokens_per_s": tokens / seconds, "memory_gib": mfu.peak_memory_gib(job.use_gpu)}
            if peak is not None:
                lengths = (n for i in positions for n in rows.sequences[i])
                flops_per_s = mfu.training_flops(model.config, parameters, lengths) / seconds
                metrics["mfu"] = flops_per_s / (peak * job.num_workers)
            if rows.responses:
                for name, side in (("chosen", 0), ("rejected", 1)):
                    metrics[f"lengths/{name}"] = sum(rows.responses[i][side] for i in positions) / len(positions)
            return metrics

        def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
            if torch.distributed.is_initialized():
                torch.distributed.barrier()  # a complete checkpoint includes the other workers' RNG states
            if leader:
                folder = job.path("checkpoints", f"checkpoint-{state.global_step}")
                if store is not None:
                    shutil.copyfile(job.path("metrics.jsonl"), folder / checkpoints.METRICS_FILE)
                checkpoints.mark_complete(folder)
                if store is not None:
                    store.upload(folder)

    return MetricsCallback()
