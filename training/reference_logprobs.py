"""DPO's reference log-probabilities: computed once by all workers, and cached under a hash of their inputs."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from fusechat.pipeline.identities import digest

from . import checkpoints, sharding
from .driver import TrainingJob
from .row_order import LengthGroupedSampler
from .trainer_internals import reference_model_hash

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import DPOTrainer

T = TypeVar("T")

COLUMNS = pa.schema([("ref_chosen_logps", pa.float32()), ("ref_rejected_logps", pa.float32())])
INPUTS_KEY = b"inputs"
"""Key in the file's metadata that holds all inputs, so that a file shows what it was computed from."""
EXCLUDED_CONFIG = ("_name_or_path", "use_cache", "distributed_config")
"""Keys of the model's configuration that do not change the values."""


class CacheInputs(TypedDict):
    """Everything that the log-probabilities depend on."""

    weights: str
    config: str
    rows: str
    template: str
    max_length: int
    dtype: str
    batches: str
    device: str
    versions: dict[str, str]


def add_reference_logprobs(
    job: TrainingJob, trainer: DPOTrainer, dataset: Dataset, lengths: list[int], batch_size: int
) -> Dataset:
    """Adds to the pairs (PAIR_TOKENS) the log-probabilities of both responses under the untrained model.

    They are computed in the batches of the first epoch. In bf16 a response's log-probability depends on its padding
    (0.3 nats for a response of 15 tokens). With other padding, ten times that, divided by the length, would appear in
    the first losses.
    """
    from datasets import Dataset, concatenate_datasets

    order = list(LengthGroupedSampler(lengths, job.config.global_batch_size, job.seed, epoch=lambda: 0))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    inputs = cache_inputs(job, trainer, dataset, batches)
    file = Path(job.reference or job.output, f"reference-{digest(inputs)[:16]}.parquet")
    rank, world_size = _rank_and_world_size()
    if not _broadcast(load(file, inputs, len(dataset)) is not None if rank == 0 else None):
        local_values: list[tuple[int, float, float]] = []
        own = batches[rank::world_size]
        for number, batch in enumerate(own + _extra_batches(batches, own, world_size) if job.shard else own):
            tensors = trainer.data_collator([dataset[i] for i in batch])
            tensors = {name: tensor.to(trainer.accelerator.device) for name, tensor in tensors.items()}
            chosen, rejected = trainer.compute_ref_log_probs(trainer.model, tensors)
            if number < len(own):
                local_values += zip(batch, chosen.tolist(), rejected.tolist(), strict=True)
        sharding.reshard(job, trainer.model)
        values = sorted(_all_gather(local_values))
        if rank == 0:
            columns = [[v[1] for v in values], [v[2] for v in values]]
            save(file, pa.table(columns, schema=COLUMNS), inputs)
        _broadcast(True)  # wait until the file is written
    return concatenate_datasets([dataset, Dataset(pq.read_table(file))], axis=1)


def cache_inputs(job: TrainingJob, trainer: DPOTrainer, dataset: Dataset, batches: list[list[int]]) -> CacheInputs:
    """Everything that the values depend on. A change of any of these gives another file name."""
    config = trainer.model.config.to_dict()
    weights = reference_model_hash(trainer)
    if job.shard:
        weights = digest(_all_gather([weights]))  # each worker hashed its own shard
    return {
        "weights": weights,
        "config": digest({k: str(v) for k, v in config.items() if k not in EXCLUDED_CONFIG}),
        "rows": rows_hash(dataset),
        "template": digest(trainer.processing_class.chat_template),
        "max_length": job.config.max_length,
        "dtype": "bfloat16" if job.config.bf16 else "float32",
        "batches": digest(batches),
        "device": "cuda" if job.use_gpu else "cpu",
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
    }


def save(file: Path, values: pa.Table, inputs: Mapping[str, object]) -> None:
    """Writes the values (COLUMNS) atomically, with their inputs in the file's metadata."""
    metadata = {INPUTS_KEY: json.dumps(inputs, sort_keys=True).encode()}
    checkpoints.write(file, checkpoints.parquet_bytes(values.replace_schema_metadata(metadata)))


def load(file: Path, inputs: Mapping[str, object], num_rows: int) -> pa.Table | None:
    """The values that were computed from exactly these inputs, or None if they must be computed."""
    if not file.exists():
        return None
    try:
        values = pq.read_table(file)
    except (OSError, pa.ArrowInvalid):  # a damaged file is computed again
        return None
    stored = json.loads((values.schema.metadata or {}).get(INPUTS_KEY, b"null"))
    return values if stored == inputs and values.num_rows == num_rows else None


def rows_hash(dataset: Dataset) -> str:
    """sha256 over all tokens of all rows."""
    sha256 = hashlib.sha256()
    for batch in dataset.data.table.to_batches():
        for column in batch.columns:
            sha256.update(column.flatten().to_numpy().tobytes())
            sha256.update(column.value_lengths().to_numpy().tobytes())
    return sha256.hexdigest()


def _extra_batches(batches: list[list[int]], own: list[list[int]], world_size: int) -> list[list[int]]:
    """Batches that a worker computes only to keep pace: all workers of a sharded model must take part in each pass."""
    return batches[:1] * (math.ceil(len(batches) / world_size) - len(own))


def _rank_and_world_size() -> tuple[int, int]:
    import torch.distributed as dist

    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _broadcast(value: T) -> T:
    """The value of worker 0, on all workers."""
    import torch.distributed as dist

    box = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def _all_gather(values: list[T]) -> list[T]:
    """The values of all workers, in the order of their ranks."""
    import torch.distributed as dist

    if not dist.is_initialized():
        return values
    parts: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(parts, values)
    return [value for part in parts for value in part]
