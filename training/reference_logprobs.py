"""DPO's reference log-probabilities: computed once, by all workers, and kept under a hash of all they hang on."""

from __future__ import annotations

import hashlib
import json
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fusechat.pipeline.identities import digest

from . import checkpoints, data, sharding
from .driver import Job

COLUMNS = pa.schema([("ref_chosen_logps", pa.float32()), ("ref_rejected_logps", pa.float32())])
INPUTS = b"inputs"
"""Key of the file's metadata under which the inputs stand in full, so that a file says what it was made from."""
NO_INPUTS = ("_name_or_path", "use_cache", "distributed_config")
"""Of the model's configuration."""


def with_reference(job: Job, trainer: Any, dataset: Any, lengths: list[int], batch_size: int) -> Any:
    """The pairs (PAIR_TOKENS) with both responses' log-probabilities under the untrained model, row by row.

    They are computed in the first epoch's batches: under bf16 a response's log-probability hangs on what it is padded
    with (0.3 nats for one of 15 tokens), and ten times that over its length would stand in the first losses.
    """
    from datasets import Dataset, concatenate_datasets

    order = list(data.GlobalBatches(lengths, job.config.global_batch_size, job.seed, epoch=lambda: 0))
    batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    found = inputs(job, trainer, dataset, batches)
    file = Path(job.reference or job.output, f"reference-{digest(found)[:16]}.parquet")
    rank, world = _place()
    if not _from_leader(load(file, found, len(dataset)) is not None if rank == 0 else None):
        mine: list[tuple[int, float, float]] = []
        own = batches[rank::world]
        for number, batch in enumerate(own + _fill(batches, own, world) if job.shard else own):
            tensors = trainer.data_collator([dataset[i] for i in batch])
            tensors = {name: tensor.to(trainer.accelerator.device) for name, tensor in tensors.items()}
            chosen, rejected = trainer.compute_ref_log_probs(trainer.model, tensors)
            if number < len(own):
                mine += zip(batch, chosen.tolist(), rejected.tolist(), strict=True)
        sharding.reshard(job, trainer.model)
        values = sorted(_gathered(mine))
        if rank == 0:
            columns = [[v[1] for v in values], [v[2] for v in values]]
            save(file, pa.table(columns, schema=COLUMNS), found)
        _from_leader(True)  # the file is there before anyone reads it
    return concatenate_datasets([dataset, Dataset(pq.read_table(file))], axis=1)


def inputs(job: Job, trainer: Any, dataset: Any, batches: list[list[int]]) -> dict[str, Any]:
    """All that the values hang on: another value of any of these names another file."""
    config = trainer.model.config.to_dict()
    weights = trainer._precompute_model_hash
    if job.shard:
        weights = digest(_gathered([weights]))  # each worker hashed its share
    return {
        "weights": weights,
        "config": digest({k: str(v) for k, v in config.items() if k not in NO_INPUTS}),
        "rows": rows_hash(dataset),
        "template": digest(trainer.processing_class.chat_template),
        "max_length": job.config.max_length,
        "dtype": "bfloat16" if job.config.bf16 else "float32",
        "batches": digest(batches),
        "device": "cuda" if job.use_gpu else "cpu",
        "versions": {name: version(name) for name in ("torch", "transformers", "trl")},
    }


def save(file: Path, values: pa.Table, made_from: dict[str, Any]) -> None:
    """Writes the values (COLUMNS) with what they were made from; whole or not at all."""
    metadata = {INPUTS: json.dumps(made_from, sort_keys=True).encode()}
    checkpoints.write(file, checkpoints.parquet(values.replace_schema_metadata(metadata)))


def load(file: Path, made_from: dict[str, Any], num_rows: int) -> pa.Table | None:
    """The values that were made from exactly this, or none where they must be computed."""
    if not file.exists():
        return None
    try:
        values = pq.read_table(file)
    except (OSError, pa.ArrowInvalid):  # damaged on disk: computing again mends it
        return None
    kept = json.loads((values.schema.metadata or {}).get(INPUTS, b"null"))
    return values if kept == made_from and values.num_rows == num_rows else None


def rows_hash(dataset: Any) -> str:
    """sha256 over every token of every row."""
    hashed = hashlib.sha256()
    for batch in dataset.data.table.to_batches():
        for column in batch.columns:
            hashed.update(column.flatten().to_numpy().tobytes())
            hashed.update(column.value_lengths().to_numpy().tobytes())
    return hashed.hexdigest()


def _fill(batches: list[list[int]], own: list[list[int]], world: int) -> list[list[int]]:
    """What a worker computes for nothing beside its own: a sharded model computes on all workers at once."""
    return batches[:1] * (math.ceil(len(batches) / world) - len(own))


def _place() -> tuple[int, int]:
    """This worker's rank and the number of workers."""
    import torch.distributed as dist

    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def _from_leader(value: Any) -> Any:
    import torch.distributed as dist

    box = [value]
    if dist.is_initialized():
        dist.broadcast_object_list(box, src=0)
    return box[0]


def _gathered(mine: list[Any]) -> list[Any]:
    import torch.distributed as dist

    if not dist.is_initialized():
        return mine
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, mine)
    return [value for part in parts for value in part]
