"""What a training shows of itself: a line of metrics a logged step, whole checkpoints, an end where it goes wrong."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fusechat.pipeline.errors import StageError

from . import checkpoints, data, mfu
from .driver import Job
from .s3_checkpoints import Offsite

KEPT = ("learning_rate", "grad_norm", "epoch", "mean_token_accuracy", "entropy")
"""What a metrics line keeps of the Trainer's log beside loss, tokens and DPO's own."""
KEPT_GROUPS = ("rewards/", "logps/", "logits/", "lengths/")
SEEN = ("tokens_per_s", "memory_gib", "mfu")
"""What the recorder adds to the Trainer's log, beside DPO's lengths; memory is the leader's peak."""

WINDOW = 10
"""Logged steps over which a loss is averaged to see that it diverges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What is trained on, by position."""

    ids: Sequence[str]
    of_step: Callable[[int], list[int]]
    """The rows of a step, which counts from 1."""
    sequences: Sequence[tuple[int, ...]]
    """Tokens of a row's sequences: one for SFT, chosen and rejected with their prompt for DPO."""
    responses: Sequence[tuple[int, int]] = ()
    """Tokens of a pair's chosen and rejected response."""


def rows_of(ids: Sequence[str], of_step: Callable[[int], list[int]], dataset: Any) -> Rows:
    """From SFT_TOKENS or PAIR_TOKENS."""
    if "input_ids" in dataset.column_names:
        return Rows(ids=ids, of_step=of_step, sequences=[(n,) for n in data.num_tokens(dataset, "input_ids")])
    columns = [data.num_tokens(dataset, name) for name in ("prompt_ids", "chosen_ids", "rejected_ids")]
    responses = list(zip(columns[1], columns[2], strict=True))
    sequences = [(p + c, p + r) for p, (c, r) in zip(columns[0], responses, strict=True)]
    return Rows(ids=ids, of_step=of_step, sequences=sequences, responses=responses)


def diverges(losses: list[float]) -> bool:
    """Whether the last ten logged losses are on average above three times the first ten."""
    if len(losses) < 2 * WINDOW:
        return False
    first, last = losses[:WINDOW], losses[-WINDOW:]
    return sum(last) > 3 * sum(first) and sum(last) - sum(first) > WINDOW


def attach(trainer: Any, job: Job, leader: bool, rows: Rows, sender: Offsite | None = None) -> None:
    """Puts the recorder behind the Trainer's own flow, whose word on saving it changes, and in front of the callbacks
    that log what it adds."""
    found = _recorder(job, leader, rows, trainer.model, sender)
    trainer.add_callback(found)
    handler = trainer.callback_handler
    handler.callbacks.remove(found)
    handler.callbacks.insert(1, found)


def _recorder(job: Job, leader: bool, rows: Rows, net: Any, sender: Offsite | None) -> Any:
    import torch
    from transformers import TrainerCallback

    peak = mfu.peak(mfu.device_name(job.use_gpu))
    parameters = mfu.multiplied(net)

    def of_steps(first: int, last: int) -> list[int]:
        return [i for step in range(first, last + 1) for i in rows.of_step(step)]

    class Recorder(TrainerCallback):  # type: ignore[misc]
        """Writes metrics, marks whole checkpoints, stops where the loss is no number."""

        def __init__(self) -> None:
            self.seconds, self.tokens, self.step = time.monotonic(), 0, 0
            self.losses = [line["loss"] for line in checkpoints.read_jsonl(job.path("metrics.jsonl"))]

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.seconds, self.step = time.monotonic(), state.global_step

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            if sender is not None:
                sender.check()
            if state.global_step >= state.max_steps:
                # the model itself is written next, unless its last two checkpoints are compared
                control.should_save = job.config.choose != "last"
            return control

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "loss" not in logs:
                return
            self.losses.append(logs["loss"])
            self._stop_where_wrong(logs, state.global_step)
            now, tokens = time.monotonic(), int(logs.get("num_tokens", 0))
            done, seconds = of_steps(self.step + 1, state.global_step), now - self.seconds
            logs |= self._seen(done, tokens - self.tokens, seconds)
            line = {
                "step": state.global_step,
                "num_steps": state.max_steps,
                "loss": logs["loss"],
                "tokens": tokens - self.tokens,
                "seconds": seconds,
            }
            self.seconds, self.tokens, self.step = now, tokens, state.global_step
            line |= {k: v for k, v in logs.items() if k in (*KEPT, *SEEN) or k.startswith(KEPT_GROUPS)}
            if leader:
                with open(job.path("metrics.jsonl"), "a") as out:
                    out.write(json.dumps(line) + "\n")

        def _stop_where_wrong(self, logs: dict[str, Any], step: int) -> None:
            wrong = next((f"{n} is {logs[n]}" for n in ("loss", "grad_norm") if not math.isfinite(logs.get(n, 0))), "")
            if not wrong and diverges(self.losses):
                wrong = f"the loss diverges: {logs['loss']:.3g} after {self.losses[0]:.3g} at the start"
            if wrong:
                ids = ", ".join(rows.ids[i] for i in rows.of_step(step))
                cause = f"{wrong}; lower {job.stage}.learning_rate or look at the rows of this step: {ids}"
                raise StageError(job.stage, f"step {step}", cause)

        def _seen(self, done: list[int], tokens: int, seconds: float) -> dict[str, float]:
            found = {"tokens_per_s": tokens / seconds, "memory_gib": mfu.memory_gib(job.use_gpu)}
            if peak is not None:
                lengths = (n for i in done for n in rows.sequences[i])
                speed = mfu.operations(net.config, parameters, lengths) / seconds
                found["mfu"] = speed / (peak * job.num_workers)
            if rows.responses:
                for name, side in (("chosen", 0), ("rejected", 1)):
                    found[f"lengths/{name}"] = sum(rows.responses[i][side] for i in done) / len(done)
            return found

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if torch.distributed.is_initialized():
                torch.distributed.barrier()  # the other workers' RNG states belong to a whole checkpoint
            if leader:
                folder = job.path("checkpoints", f"checkpoint-{state.global_step}")
                if sender is not None:
                    shutil.copyfile(job.path("metrics.jsonl"), folder / checkpoints.METRICS)
                checkpoints.mark_whole(folder)
                if sender is not None:
                    sender.send(folder)

    return Recorder()
