"""Trainings without Ray Train: the product's own workers, forked from a process that has imported what they need.

Ray Train starts a controller and four helpers beside the workers, and all of them import anew: many seconds before the
first step. Tests of what a worker does take this in place of `fusechat.training.ray_train.fit`; those of what Ray Train
does for it (placing, events, restarts, errors) do not.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.recipe import Training
from fusechat.training.ray_train import worker_env

PRELOADED = (
    "fusechat.training.dpo",
    "fusechat.training.sft",
    "datasets",
    "peft",
    "ray.train.torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
    "transformers.trainer",
    "trl.trainer.dpo_trainer",
    "trl.trainer.sft_trainer",
)
ALONE = {"GLOO_SOCKET_IFNAME": "lo", "MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True"}
"""torch's rendezvous on this machine, at a store that the caller keeps, as torchrun's agent does."""


@contextmanager
def workers(**ends: Any) -> Iterator[Forked]:
    """Trainings go without Ray meanwhile."""
    forked = Forked(**ends)
    with patch("fusechat.training.ray_train.fit", forked):
        yield forked


@dataclass
class Forked:
    """Stands for `fusechat.training.ray_train.fit`: returns when all workers have, or raises what ended one.

    Args:
        dies: rank and step of a worker that is killed, once, at the end of that step.
        holds: step at whose end the first worker stands still, until it is killed.
    """

    dies: tuple[int, int] | None = None
    holds: int | None = None

    def __call__(
        self, stage: str, loop: Callable[..., None], job: Mapping[str, Any], cluster: Training, storage: Path
    ) -> None:
        """Raises StageError: a worker failed; nobody tries again."""
        from torch.distributed import TCPStore

        context = multiprocessing.get_context("forkserver")
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        size = {"WORLD_SIZE": cluster.num_workers, "LOCAL_WORLD_SIZE": cluster.num_workers, "MASTER_PORT": store.port}
        workers: list[BaseProcess] = []
        with patch.dict(os.environ, worker_env(cluster)):  # the first call starts the process that is forked from
            context.set_forkserver_preload(list(PRELOADED))
            for rank in range(cluster.num_workers):
                place = ALONE | {name: str(n) for name, n in (size | {"RANK": rank, "LOCAL_RANK": rank}).items()}
                ends = None
                if self.dies and self.dies[0] == rank:
                    ends = self.dies[1], signal.SIGKILL
                elif self.holds is not None and rank == 0:
                    ends = self.holds, signal.SIGSTOP
                workers.append(context.Process(target=_work, args=(loop, dict(job), place, ends), daemon=True))
                workers[-1].start()
        self.dies = None
        _wait(stage, workers)


def _wait(stage: str, workers: list[BaseProcess]) -> None:
    running = list(workers)
    try:
        while running:
            wait([w.sentinel for w in running])
            running = [w for w in running if w.exitcode is None]
            if failed := [w.exitcode for w in workers if w.exitcode]:
                raise StageError(stage, "training workers", f"one ended with {failed[0]}")
    finally:
        for worker in running:  # they wait for the one that failed
            worker.kill()
        for worker in workers:
            worker.join()


End = tuple[int, signal.Signals]
"""A step, and the signal that a worker sends itself at its end."""


def _work(loop: Callable[..., None], job: dict[str, Any], place: dict[str, str], ends: End | None) -> None:
    """A worker: Ray Train's local mode, which makes the process group that torch's variables name."""
    import torch
    from ray.train import ScalingConfig
    from ray.train.torch import TorchTrainer

    os.environ.update(place)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    if ends is not None:
        _end_at(*ends)
    TorchTrainer(loop, train_loop_config=job, scaling_config=ScalingConfig(num_workers=0)).fit()


def _end_at(step: int, how: signal.Signals) -> None:
    from transformers import TrainerCallback

    from fusechat.training import trainer_callback

    class Ends(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == step:
                os.kill(os.getpid(), how)

    attach = trainer_callback.attach

    def with_end(trainer: Any, *others: Any) -> None:
        attach(trainer, *others)
        trainer.add_callback(Ends())

    trainer_callback.attach = with_end
