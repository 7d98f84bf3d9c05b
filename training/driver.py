"""The driver side of SFT and DPO: starts a training, reports its steps and cleans up. `worker` has the other side."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypedDict

import pyarrow as pa

from fusechat.pipeline.errors import RecipeError, RunDirectoryError, StageError
from fusechat.pipeline.identities import digest
from fusechat.pipeline.recipe import Optimization, Training
from fusechat.pipeline.recipe.precision import of_training

from . import checkpoints as files
from . import data, ray_train

POLL_S = 0.2
"""Seconds between two looks at the metrics file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvent:
    """A logged step, as the driver reports it during training."""

    step: int
    num_steps: int
    loss: float
    tokens: int
    """Trained since the previous event, without padding."""
    seconds: float
    """Since the previous event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """A finished training."""

    model: Path
    """A plain transformers folder."""
    num_steps: int
    num_rows: int
    """Rows trained on, without the `num_rejected` rows."""
    num_truncated: int
    num_rejected: int
    num_tokens: int
    seconds: float
    """Wall-clock time of the call that finished the training."""
    metrics: Path
    """JSONL with one line per logged step."""
    rejects: Path
    """Parquet of REJECT: rows that the chat template refuses, and rows whose prompt alone fills `max_length`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """Everything that a worker needs to know. It is sent by pickle."""

    stage: str
    model: str
    output: str
    config: Optimization
    num_workers: int
    accumulation: int
    use_gpu: bool
    chat_template: str | None
    seed: int
    reference: str | None = None
    """Folder of DPO's reference log-probabilities; None stores them in `output`."""
    report_to: tuple[str, ...] = ()
    """Trackers that also get the metrics: tensorboard, mlflow, wandb."""
    checkpoints: str | None = None
    """`s3://...` prefix, used by this training alone, to which checkpoints are also uploaded."""
    shard: bool = False
    cpu_offload: bool = False
    """Keeps the sharded state in CPU memory."""
    kernels: str | None = None
    """Fused kernels of the layers: hub, liger."""

    def path(self, *parts: str) -> Path:
        """A path under the training's output folder."""
        return Path(self.output, *parts)


class LoopConfig(TypedDict):
    """The argument of a worker's training loop."""

    job: TrainingJob


def train(
    stage: str,
    loop: Callable[[LoopConfig], None],
    rows: pa.Table,
    *,
    model: Path,
    output: Path,
    config: Optimization,
    cluster: Training,
    chat_template: str | None,
    seed: int,
    on_step: Callable[[StepEvent], None] | None,
    reference: Path | None = None,
) -> TrainResult:
    """Starts a training, resumes one that was killed, or returns the result of a finished one; see `sft.train`."""
    started = time.monotonic()
    data.require_rows(stage, rows.num_rows)
    job = TrainingJob(
        stage=stage,
        model=str(model.resolve()),
        output=str(output.resolve()),
        config=of_training(config, cluster.num_gpus),
        num_workers=cluster.num_workers,
        accumulation=ray_train.accumulation_steps(stage, config, cluster),
        use_gpu=bool(cluster.num_gpus),
        chat_template=chat_template,
        seed=seed,
        reference=str(reference.resolve()) if reference else None,
        report_to=cluster.report_to,
        shard=cluster.shard,
        cpu_offload=cluster.cpu_offload,
        kernels=cluster.kernels,
    )
    ray_train.check_packages(cluster)
    if not (model / "config.json").exists():
        raise RecipeError("target.model", str(model), "must be a transformers folder with a config.json")
    key = _claim_output(job, rows)
    if cluster.checkpoints:
        job = replace(job, checkpoints=f"{cluster.checkpoints.rstrip('/')}/{stage}-{key[:16]}")
    if not _is_finished(job):
        _run(job, loop, rows, cluster, on_step)
    for leftover in ("checkpoints", "ray"):  # the model is on disk, so its intermediate files can be deleted
        shutil.rmtree(job.path(leftover), ignore_errors=True)
    for leftover in ("rows.parquet", "tokens.arrow", "heldout.arrow"):
        job.path(leftover).unlink(missing_ok=True)
    counts = json.loads(job.path("result.json").read_text())
    return TrainResult(
        model=output / "model",
        metrics=output / "metrics.jsonl",
        rejects=output / "rejects.parquet",
        seconds=time.monotonic() - started,
        **counts,
    )


def _run(
    job: TrainingJob,
    loop: Callable[[LoopConfig], None],
    rows: pa.Table,
    cluster: Training,
    on_step: Callable[[StepEvent], None] | None,
) -> None:
    """Writes the rows for the workers and runs them until the model is on disk."""
    try:
        files.write(job.path("rows.parquet"), files.parquet_bytes(rows))
        job.path("failure.json").unlink(missing_ok=True)
        last_step = files.step_of(files.latest_complete(job.path("checkpoints")))
        files.drop_steps_after(job.path("metrics.jsonl"), last_step)
    except OSError as error:
        if not files.is_disk_full(error):
            raise
        raise files.disk_full_error(job.stage, job.output) from error
    with _report_steps(job, on_step):
        ray_train.fit(job.stage, loop, LoopConfig(job=job), cluster, job.path("ray"))
    if job.path("failure.json").exists():
        raise files.read_error(job.path("failure.json"))
    if not _is_finished(job):
        raise StageError(job.stage, job.output, "the workers returned without a model")


def _is_finished(job: TrainingJob) -> bool:
    return job.path("result.json").exists() and job.path("model").is_dir()


def _claim_output(job: TrainingJob, rows: pa.Table) -> str:
    """Ties the output folder to the rows and settings of this training; returns their hash.

    Raises:
        RunDirectoryError: the folder holds a training of other rows or settings, or can't be written.
    """
    identity = {"stage": job.stage, "model": job.model, "template": job.chat_template, "seed": job.seed}
    workers = [job.num_workers, "sharded"] if job.shard else job.num_workers
    key = digest(identity, job.config.model_dump(mode="json"), workers, rows.column("row_id").to_pylist())
    file = job.path("key.json")
    try:
        if not file.exists():
            files.write(file, json.dumps({"key": key}).encode())
        elif json.loads(file.read_text()).get("key") != key:
            raise RunDirectoryError(f"{job.output}: holds a training of other rows or settings; use another folder")
    except OSError as error:
        raise RunDirectoryError(f"{job.output}: can't be written: {error.strerror}") from error
    return key


@contextmanager
def _report_steps(job: TrainingJob, on_step: Callable[[StepEvent], None] | None) -> Iterator[None]:
    """Calls `on_step` for each step that is logged inside the block. An error of `on_step` is raised at the end."""
    if on_step is None:
        yield
        return
    last_reported = max((line["step"] for line in files.read_metrics(job.path("metrics.jsonl"))), default=0)
    stop = threading.Event()

    def report() -> None:
        nonlocal last_reported
        for line in files.read_metrics(job.path("metrics.jsonl")):
            if line["step"] > last_reported:
                last_reported = line["step"]
                on_step(
                    StepEvent(
                        step=line["step"],
                        num_steps=line["num_steps"],
                        loss=line["loss"],
                        tokens=line["tokens"],
                        seconds=line["seconds"],
                    )
                )

    def poll() -> None:
        while not stop.wait(POLL_S):
            report()
        report()

    with ThreadPoolExecutor(1, thread_name_prefix=f"{job.stage}-steps") as pool:
        poller = pool.submit(poll)
        try:
            yield
        finally:
            stop.set()
    poller.result()
