"""Runs a training on Ray Train: workers, their environment, the split of the global batch, and failures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from fusechat.pipeline.errors import CapacityError, RecipeError, StageError
from fusechat.pipeline.machine.hardware import allocator_env
from fusechat.pipeline.recipe import Optimization, Training

from . import checkpoints


def accumulation_steps(stage: str, config: Optimization, cluster: Training) -> int:
    """Gradient accumulation steps: global batch = workers x micro-batch x accumulation steps, exactly.

    Raises:
        RecipeError: the global batch is not a whole number of micro-batches.
    """
    width = cluster.num_workers * config.micro_batch_size
    if config.global_batch_size % width == 0:
        return config.global_batch_size // width
    below = config.global_batch_size // width * width
    sizes = " or ".join(str(size) for size in (below, below + width) if size)
    share, rest = divmod(config.global_batch_size, cluster.num_workers)
    proposal = f"take {sizes}"
    if rest == 0:
        fitting = [m for m in range(1, share + 1) if share % m == 0 and m <= config.micro_batch_size]
        proposal += f", or {stage}.micro_batch_size {' or '.join(map(str, fitting[-2:]))}"
    else:
        workers = [w for w in range(1, cluster.num_workers + 1) if config.global_batch_size % w == 0]
        proposal += f", or training.num_workers {workers[-1]} with {stage}.micro_batch_size 1"
    raise RecipeError(
        f"{stage}.global_batch_size",
        config.global_batch_size,
        f"must be a multiple of training.num_workers x {stage}.micro_batch_size = "
        f"{cluster.num_workers} x {config.micro_batch_size} = {width}: {proposal}",
    )


def check_packages(cluster: Training) -> None:
    """Raises:
    RecipeError: a package that `training.report_to` or `training.kernels` needs is not installed.
    """
    packages = {
        "tensorboard": ("tensorboard", "tensorboardX"),
        "mlflow": ("mlflow",),
        "wandb": ("wandb",),
        "hub": ("kernels",),
        "liger": ("liger_kernel",),
    }
    wanted: list[tuple[str, str]] = [("training.report_to", name) for name in cluster.report_to]
    if cluster.kernels:
        wanted.append(("training.kernels", cluster.kernels))
    for key, name in wanted:
        if not any(find_spec(package) for package in packages[name]):
            allowed = f"the package {packages[name][-1]} is not installed here and on the workers; install it"
            raise RecipeError(key, name, allowed)


def worker_env(cluster: Training) -> dict[str, str]:
    """Environment variables of a training worker. `training.env` in the recipe overrides them."""
    env = {
        # The model is a local folder. Only kernels are downloaded from a hub.
        **({} if cluster.kernels == "hub" else {"HF_HUB_OFFLINE": "1"}),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TQDM_DISABLE": "1",
    }
    if not cluster.num_gpus:
        env |= {"OMP_NUM_THREADS": str(max(1, int(cluster.num_cpus))), **allocator_env()}
    return env | cluster.env


def fit(stage: str, loop: Callable[..., None], config: Mapping[str, object], cluster: Training, storage: Path) -> None:
    """Runs `loop(config)` on Ray Train's workers (gloo on CPU, nccl on GPU) until it returns on all of them.

    Raises:
        CapacityError: the cluster can never place the workers.
        StageError: a worker failed more often than `training.max_failures`.
    """
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
    from ray.train.v2.api.exceptions import TrainingFailedError

    _check_placement(stage, cluster)
    for name, value in _controller_env().items():
        os.environ.setdefault(name, value)  # Ray Train copies its settings from here to its controller
    resources = {"CPU": cluster.num_cpus} | ({"GPU": cluster.num_gpus} if cluster.num_gpus else {})
    trainer = TorchTrainer(
        loop,
        train_loop_config=dict(config),
        torch_config=TorchConfig(backend=process_group_backend(cluster)),
        scaling_config=ScalingConfig(
            num_workers=cluster.num_workers,
            use_gpu=bool(cluster.num_gpus),
            resources_per_worker=resources,
            accelerator_type=cluster.accelerator_type,
        ),
        run_config=RunConfig(
            name=stage,
            storage_path=str(storage),
            failure_config=FailureConfig(max_failures=cluster.max_failures),
            worker_runtime_env={"env_vars": worker_env(cluster)},
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        if checkpoints.is_disk_full(f"{error} {error.__cause__}"):
            raise checkpoints.disk_full_error(stage, str(storage.parent)) from error
        raise StageError(stage, "training workers", failure_reason(stage, error)) from error


def _controller_env() -> dict[str, str]:
    """Ray Train settings that have no argument."""
    import ray

    # The delay until the end of a training or of a worker is noticed; the default is 2 s.
    env = {"RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5"}
    if sum(n["Alive"] for n in ray.nodes()) == 1:
        # Training can't continue without its only node, so no extra process needs to watch for the node's preemption.
        env["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "0"
    return env


def process_group_backend(cluster: Training) -> str:
    """Backend of torch's process group. With CPU offload, gradients in CPU memory are summed with gloo."""
    if not cluster.num_gpus:
        return "gloo"
    return "cpu:gloo,cuda:nccl" if cluster.cpu_offload else "nccl"


def failure_reason(stage: str, error: Exception) -> str:
    """The reason why the workers failed, in one line."""
    text = str(error.__cause__ or error).strip()
    if "out of memory" in text.lower() or "due to the node running low on memory" in text:
        return (
            f"the node ran out of memory; lower {stage}.micro_batch_size or {stage}.max_length, or raise "
            "training.num_cpus so that no other worker fits on the node. The same command then resumes from the last "
            "checkpoint"
        )
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    error_lines = [line for line in lines if "Error" in line or "error" in line]
    return (error_lines or lines or [type(error).__name__])[-1][:500]


def _check_placement(stage: str, cluster: Training) -> None:
    """Raises CapacityError if the workers can never be placed, for which Ray Train would wait forever."""
    import ray

    nodes = [n["Resources"] for n in ray.nodes() if n["Alive"]]
    fits = 0
    for node in nodes:
        by_gpu = node.get("GPU", 0) / cluster.num_gpus if cluster.num_gpus else float("inf")
        fits += int(min(node.get("CPU", 0) / cluster.num_cpus, by_gpu))
    if fits < cluster.num_workers:
        has = "; ".join(f"{n.get('CPU', 0):g} CPU, {n.get('GPU', 0):g} GPU" for n in nodes)
        needs = f"{cluster.num_workers} workers of {cluster.num_cpus:g} CPU, {cluster.num_gpus:g} GPU each"
        settings = "training.num_workers, training.num_cpus or training.num_gpus"
        raise CapacityError(f"the {stage} training", needs, has, settings)
