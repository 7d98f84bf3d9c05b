"""What SFT and DPO share on the driver: start a training, follow it, end it; `worker` has the other side."""

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
from typing import Any

import pyarrow as pa

from fusechat.pipeline.errors import RecipeError, RunDirectoryError, StageError
from fusechat.pipeline.identities import digest
from fusechat.pipeline.recipe import Optimization, Training
from fusechat.pipeline.recipe.precision import of_training

from . import checkpoints as files
from . import data
from . import ray_train as ray_cluster

POLL_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEvent:
    """A logged step, seen live by the driver."""

    step: int
    num_steps: int
    loss: float
    tokens: int
    """Trained since the event before, padding left out."""
    seconds: float
    """Since the event before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainResult:
    """A finished training."""

    model: Path
    """A plain transformers folder."""
    num_steps: int
    num_rows: int
    """Rows trained on; `num_rejected` more were too long."""
    num_truncated: int
    num_rejected: int
    num_tokens: int
    seconds: float
    """Wall clock of the call that finished it."""
    metrics: Path
    """JSONL, a line a logged step."""
    rejects: Path
    """Parquet of REJECT: rows whose prompt alone fills `max_length`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker needs to know; travels by pickle."""

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
    """Folder of DPO's reference log-probabilities; none keeps them in `output`."""
    report_to: tuple[str, ...] = ()
    """Where the metrics also go: tensorboard, mlflow, wandb."""
    checkpoints: str | None = None
    """Where checkpoints are also sent, `s3://...`, a place of this training alone."""
    shard: bool = False
    cpu_offload: bool = False
    """Of what is sharded."""
    kernels: str | None = None
    """Fused kernels of the layers: hub, liger."""

    def path(self, *parts: str) -> Path:
        """A path under the training's output folder."""
        return Path(self.output, *parts)


def train(
    stage: str,
    loop: Callable[[dict[str, Any]], None],
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
    """Trains, or goes on with a training that was killed, or returns the one that ended; see `sft.train`."""
    started = time.monotonic()
    data.refuse_no_rows(stage, rows.num_rows)
    job = Job(
        stage=stage,
        model=str(model.resolve()),
        output=str(output.resolve()),
        config=of_training(config, cluster.num_gpus),
        num_workers=cluster.num_workers,
        accumulation=ray_cluster.accumulation(stage, config, cluster),
        use_gpu=bool(cluster.num_gpus),
        chat_template=chat_template,
        seed=seed,
        reference=str(reference.resolve()) if reference else None,
        report_to=cluster.report_to,
        shard=cluster.shard,
        cpu_offload=cluster.cpu_offload,
        kernels=cluster.kernels,
    )
    ray_cluster.refuse_missing_packages(cluster)
    if not (model / "config.json").exists():
        raise RecipeError("target.model", str(model), "must be a transformers folder with a config.json")
    key = _hold_key(job, rows)
    if cluster.checkpoints:
        job = replace(job, checkpoints=f"{cluster.checkpoints.rstrip('/')}/{stage}-{key[:16]}")
    if not _done(job):
        try:
            files.write(job.path("rows.parquet"), files.parquet(rows))
            job.path("failure.json").unlink(missing_ok=True)
            files.keep_steps(job.path("metrics.jsonl"), files.step_of(files.last_whole(job.path("checkpoints"))))
        except OSError as error:
            if not files.is_full(error):
                raise
            raise files.full(stage, job.output) from error
        with _following(job, on_step):
            ray_cluster.fit(stage, loop, {"job": job}, cluster, job.path("ray"))
        if job.path("failure.json").exists():
            raise files.read_error(job.path("failure.json"))
        if not _done(job):
            raise StageError(stage, str(output), "the workers returned without a model")
    for leftover in ("checkpoints", "ray"):  # the model is durable; what it was made from may go
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


def _done(job: Job) -> bool:
    return job.path("result.json").exists() and job.path("model").is_dir()


def _hold_key(job: Job, rows: pa.Table) -> str:
    """Ties the folder to what it is made from; returns the hash of that.

    Raises:
        RunDirectoryError: it holds a training of other rows or settings, or can't be written.
    """
    same = {"stage": job.stage, "model": job.model, "template": job.chat_template, "seed": job.seed}
    workers = [job.num_workers, "sharded"] if job.shard else job.num_workers
    key = digest(same, job.config.model_dump(mode="json"), workers, rows.column("row_id").to_pylist())
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
def _following(job: Job, on_step: Callable[[StepEvent], None] | None) -> Iterator[None]:
    """Calls `on_step` for each step that is logged meanwhile; an error of `on_step` is raised at the end."""
    if on_step is None:
        yield
        return
    seen = max((line["step"] for line in files.read_jsonl(job.path("metrics.jsonl"))), default=0)
    stop = threading.Event()

    def report() -> None:
        nonlocal seen
        for line in files.read_jsonl(job.path("metrics.jsonl")):
            if line["step"] > seen:
                seen = line["step"]
                on_step(StepEvent(**{name: line[name] for name in StepEvent.__slots__}))

    def follow() -> None:
        while not stop.wait(POLL_S):
            report()
        report()

    with ThreadPoolExecutor(1, thread_name_prefix=f"{job.stage}-steps") as pool:
        following = pool.submit(follow)
        try:
            yield
        finally:
            stop.set()
    following.result()
