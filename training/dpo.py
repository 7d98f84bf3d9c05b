"""Direct preference optimisation, plain or length-normalised (FuseChat-3.0, section 3.4, equation 3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fusechat.pipeline.config import Dpo, Training
from fusechat.pipeline.records import digest
from fusechat.training import data, files, head, worker
from fusechat.training.loop import Job, StepEvent, TrainResult
from fusechat.training.loop import train as _train

REFERENCE = pa.schema([("ref_chosen_logps", pa.float32()), ("ref_rejected_logps", pa.float32())])


def train(
    rows: pa.Table,
    *,
    model: Path,
    output: Path,
    config: Dpo,
    cluster: Training,
    chat_template: str | None,
    seed: int,
    on_step: Callable[[StepEvent], None] | None = None,
) -> TrainResult:
    """Trains `model` on preference pairs (PAIR) under Ray Train; arguments and errors as `sft.train`.

    The reference is `model` itself. Its log-probabilities are computed once, before the first step, and kept
    in `output`, so it is not in memory while training.
    """
    return _train(
        "dpo",
        _loop,
        rows,
        model=model,
        output=output,
        config=config,
        cluster=cluster,
        chat_template=chat_template,
        seed=seed,
        on_step=on_step,
    )


def _loop(config: dict[str, Any]) -> None:
    worker.work(config["job"], data.tokenize_pairs, _trainer)


def _trainer(job: Job, arguments: dict[str, Any], net: Any, tokenizer: Any, dataset: Any) -> Any:
    from trl import DPOConfig, DPOTrainer

    config = job.config
    assert isinstance(config, Dpo)
    lengths = [len(row["prompt_ids"]) + max(len(row["chosen_ids"]), len(row["rejected_ids"])) for row in dataset]

    class Trainer(DPOTrainer):  # type: ignore[misc]
        """TRL's trainer on tokenized pairs, ordered for little padding; reference values stay on disk."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return worker.rows_in_order(job, lengths, self)

        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            if not job.use_gpu and head.fits(net.config):
                head.install(net)  # the reference goes through the head that training uses
            return _with_reference(job, self, dataset, lengths, batch_size)

    settings = DPOConfig(**arguments, beta=config.beta, loss_type=[config.loss_type], precompute_ref_log_probs=True)
    return Trainer(model=net, args=settings, train_dataset=dataset, processing_class=tokenizer)


def _with_reference(job: Job, trainer: Any, dataset: Any, lengths: list[int], batch_size: int) -> Any:
    """The pairs with the log-probabilities of both responses under the untrained model, row by row.

    They are computed in the first epoch's batches: under bf16 a response's log-probability hangs on what it is padded
    with (0.3 nats for one of 15 tokens), and ten times that over its length would stand in the first losses.
    """
    import torch
    from datasets import Dataset, concatenate_datasets

    key = digest(trainer._precompute_model_hash, job.config.bf16, _hash(dataset))
    file = job.path(f"reference-{key[:16]}.parquet")
    rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
    if not file.exists():
        order = list(data.GlobalBatches(lengths, job.config.global_batch_size, job.seed, epoch=lambda: 0))
        batches = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
        mine: list[tuple[int, float, float]] = []
        for batch in batches[rank::world]:
            inputs = trainer.data_collator([dataset[i] for i in batch])
            inputs = {name: tensor.to(trainer.accelerator.device) for name, tensor in inputs.items()}
            chosen, rejected = trainer.compute_ref_log_probs(trainer.model, inputs)
            mine += zip(batch, chosen.tolist(), rejected.tolist(), strict=True)
        gathered: list[Any] = [None] * world
        torch.distributed.all_gather_object(gathered, mine)
        if rank == 0:
            values = sorted(value for part in gathered for value in part)
            columns = [[v[1] for v in values], [v[2] for v in values]]
            files.write(file, files.parquet(pa.table(columns, schema=REFERENCE)))
    torch.distributed.barrier()
    return concatenate_datasets([dataset, Dataset(pq.read_table(file))], axis=1)


def _hash(dataset: Any) -> str:
    import hashlib

    hashed = hashlib.sha256()
    for batch in dataset.data.table.to_batches():
        for column in batch.columns:
            hashed.update(column.flatten().to_numpy().tobytes())
            hashed.update(column.value_lengths().to_numpy().tobytes())
    return hashed.hexdigest()
