"""The worker side of SFT and DPO on Ray Train: tokenizes the rows, runs the Trainer, saves the model."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from fusechat.pipeline.errors import FusechatError, StageError

from . import (
    best_checkpoint,
    checkpoints,
    data,
    lora,
    packing,
    sharding,
    trainer_callback,
    trainer_internals,
)
from .driver import TrainingJob
from .row_order import LengthGroupedSampler
from .s3_checkpoints import S3CheckpointStore

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer

Tokenize = Callable[[pa.Table, data.ChatTemplate, int], data.TokenizedRows]


class MakeTrainer(Protocol):
    """`sft.make_trainer` or `dpo.make_trainer`."""

    def __call__(
        self,
        job: TrainingJob,
        arguments: dict[str, Any],
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        dataset: Dataset,
        heldout: Dataset | None,
    ) -> Trainer:
        """The trainer of this stage."""


class Prepared(TypedDict):
    """What worker 0 prepares for all workers."""

    resume: str | None
    """The checkpoint to resume from."""
    row_ids: list[str]
    num_rows: int
    num_truncated: int
    num_rejected: int


def run_worker(job: TrainingJob, tokenize: Tokenize, make_trainer: MakeTrainer) -> None:
    """Trains on this worker. An error that a retry can't fix is written to failure.json for the driver."""
    import ray.train

    if job.path("failure.json").exists():  # Ray Train retries, but a retry can't fix this error
        return
    leader = ray.train.get_context().get_world_rank() == 0
    try:
        _train(job, tokenize, make_trainer, leader)
    except FusechatError as error:
        if leader:
            checkpoints.write_error(job.path("failure.json"), error)
    except Exception as error:
        if checkpoints.is_disk_full(error):
            checkpoints.write_error(job.path("failure.json"), checkpoints.disk_full_error(job.stage, job.output))
        raise


def _train(job: TrainingJob, tokenize: Tokenize, make_trainer: MakeTrainer, leader: bool) -> None:
    # The modules imported here are never freed. Scanning them repeatedly would take a quarter of the import time.
    gc.disable()
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PrinterCallback

    if job.num_workers == 1:  # otherwise a single worker would copy its gradients through DDP's buckets for nothing
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
            os.environ.pop(name, None)
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(job.path("tensorboard")))
    tokenizer = data.load_tokenizer(job.path(job.model), job.chat_template)
    template = data.ChatTemplate(tokenizer, data.generation_end_ids(job.path(job.model)))
    store = S3CheckpointStore(job.stage, job.checkpoints) if leader and job.checkpoints else None
    prepared = _prepare_on_leader(leader, lambda: _prepare(job, tokenize, template, store))
    dataset = Dataset.from_file(str(job.path("tokens.arrow")))
    compares_checkpoints = job.config.choose != "last"
    heldout = Dataset.from_file(str(job.path("heldout.arrow"))) if compares_checkpoints else None
    # Trained weights are kept in float32: in bfloat16 a step of 1e-6 would be rounded away. Frozen weights need no
    # float32.
    dtype = torch.bfloat16 if job.config.lora and job.config.bf16 else torch.float32
    kernels = {"use_kernels": True} if job.kernels == "hub" else {}
    model = AutoModelForCausalLM.from_pretrained(
        job.model, dtype=dtype, **kernels, **sharding.from_pretrained_arguments(job)
    )
    if tokenizer.pad_token_id in {template.end_id, *template.end_ids}:
        # As padding_idx, the end-of-turn token's embedding would get no gradient.
        model.get_input_embeddings().padding_idx = None
    trainer = make_trainer(job, training_arguments(job), model, tokenizer, dataset, heldout)
    trainer.remove_callback(PrinterCallback)
    sampler = trainer_internals.train_sampler(trainer)
    rows = trainer_callback.training_rows(prepared["row_ids"], sampler.rows_of_step, dataset)
    trainer_callback.attach(trainer, job, leader, rows, store)
    if job.num_workers > 1 and not job.shard:
        trainer.accelerator.ddp_handler.gradient_as_bucket_view = True  # otherwise gradients are stored twice
    gc.freeze()
    gc.enable()
    trainer.train(resume_from_checkpoint=prepared["resume"])
    num_steps = trainer.state.global_step
    if compares_checkpoints:
        best_checkpoint.load_best(trainer, job)
    model = trainer.accelerator.unwrap_model(trainer.model)
    weights = sharding.full_state_dict(model) if job.shard else None
    if leader:
        _save(job, lora.merge_adapter(job, model), weights, num_steps, tokenizer, template, prepared)
    if store is not None:
        store.stop()
    torch.distributed.barrier()


def _prepare_on_leader(leader: bool, prepare: Callable[[], Prepared]) -> Prepared:
    """Runs `prepare` on worker 0 and returns its result on all workers. If it fails, all workers raise."""
    import torch

    box: list[Prepared | str | None] = [None]
    if leader:
        try:
            box[0] = prepare()
        except FusechatError as error:
            box[0] = str(error)
            torch.distributed.broadcast_object_list(box, src=0)
            raise
    torch.distributed.broadcast_object_list(box, src=0)
    result = box[0]
    if isinstance(result, str):
        raise FusechatError(result)
    assert result is not None
    return result


def _prepare(
    job: TrainingJob, tokenize: Tokenize, template: data.ChatTemplate, store: S3CheckpointStore | None = None
) -> Prepared:
    """Writes the tokens to disk, removes incomplete checkpoints, and cuts the metrics at the step to resume from."""
    rows, held = best_checkpoint.split_holdout(pq.read_table(job.path("rows.parquet")), job.stage, job.config.holdout)
    tokens = tokenize(rows, template, job.config.max_length)
    rejects = tokens.rejects
    if held.num_rows:
        try:
            held_tokens = tokenize(held, template, job.config.max_length)
        except StageError as error:
            who = f"the rows held out by {job.stage}.holdout"
            raise StageError(job.stage, who, f"{error.cause}, or change {job.stage}.holdout") from error
        rejects = pa.concat_tables([rejects, held_tokens.rejects])
        checkpoints.write(job.path("heldout.arrow"), checkpoints.arrow_bytes(held_tokens.table))
    checkpoints.write(job.path("tokens.arrow"), checkpoints.arrow_bytes(tokens.table))
    checkpoints.write(job.path("rejects.parquet"), checkpoints.parquet_bytes(rejects))
    checkpoint = checkpoints.latest_complete(job.path("checkpoints"), remove_incomplete=True)
    if store is not None and (downloaded := store.download_newer(job.path("checkpoints"))):
        checkpoint = downloaded
        shutil.copyfile(downloaded / checkpoints.METRICS_FILE, job.path("metrics.jsonl"))
    checkpoints.drop_steps_after(job.path("metrics.jsonl"), checkpoints.step_of(checkpoint))
    return {
        "resume": str(checkpoint) if checkpoint else None,
        "row_ids": tokens.row_ids,
        "num_rows": tokens.table.num_rows,
        "num_truncated": tokens.num_truncated,
        "num_rejected": rejects.num_rows,
    }


def training_arguments(job: TrainingJob) -> dict[str, Any]:
    """The `TrainingArguments` that SFT and DPO share."""
    config = job.config
    return {
        "output_dir": str(job.path("checkpoints")),
        "per_device_train_batch_size": config.micro_batch_size,
        "per_device_eval_batch_size": config.micro_batch_size,
        "prediction_loss_only": True,
        "gradient_accumulation_steps": job.accumulation,
        "num_train_epochs": config.num_epochs,
        "learning_rate": config.learning_rate,
        "lr_scheduler_type": config.lr_scheduler,
        "warmup_steps": config.warmup_ratio,  # a value below 1 is a ratio of the steps
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "optim": "adamw_torch_fused",
        "bf16": config.bf16,
        "gradient_checkpointing": config.gradient_checkpointing,
        "use_liger_kernel": job.kernels == "liger",
        "max_length": config.max_length,
        "save_strategy": "steps",
        "save_steps": config.save_steps,
        "save_total_limit": 2,
        "logging_steps": config.logging_steps,
        "logging_nan_inf_filter": False,
        "seed": job.seed,
        "data_seed": job.seed,
        "use_cpu": not job.use_gpu,
        "ddp_backend": None if job.num_workers == 1 else "nccl" if job.use_gpu else "gloo",
        "ddp_find_unused_parameters": False,
        "dataloader_pin_memory": job.use_gpu,
        "disable_tqdm": True,
        "report_to": list(job.report_to),
        "run_name": f"{job.stage}-{job.path().name}",
    }


def length_grouped_sampler(job: TrainingJob, lengths: list[int], trainer: Trainer) -> LengthGroupedSampler:
    """The Trainer's sampler. It reads the epoch from the Trainer's state, which a checkpoint restores."""
    return LengthGroupedSampler(lengths, job.config.global_batch_size, job.seed, _epoch_getter(trainer))


def token_balanced_sampler(job: TrainingJob, lengths: list[int], trainer: Trainer) -> packing.TokenBalancedSampler:
    """Like `length_grouped_sampler`, for packed micro-batches."""
    config = job.config
    return packing.TokenBalancedSampler(
        lengths, config.global_batch_size, job.seed, _epoch_getter(trainer), config.micro_batch_size
    )


def _epoch_getter(trainer: Trainer) -> Callable[[], int]:
    return lambda: int(trainer.state.epoch or 0)


def _save(
    job: TrainingJob,
    model: PreTrainedModel,
    weights: dict[str, torch.Tensor] | None,
    num_steps: int,
    tokenizer: PreTrainedTokenizerBase,
    template: data.ChatTemplate,
    prepared: Prepared,
) -> None:
    """Saves the model in the target's own dtype, with tokenizer, chat template and end-of-turn token."""
    import torch
    from transformers import AutoConfig

    partial = job.path("model.partial")
    shutil.rmtree(partial, ignore_errors=True)
    dtype = AutoConfig.from_pretrained(job.model).dtype
    if not isinstance(dtype, torch.dtype):
        dtype = torch.float32
    if weights is None:
        model.to(dtype)
    else:
        weights = {name: t.to(dtype) if t.is_floating_point() else t for name, t in weights.items()}
        model.config.dtype, model.config.distributed_config = dtype, None
    model.config.use_cache = True  # gradient checkpointing turns it off
    end_ids = {*template.end_ids, template.end_id}
    model.generation_config.eos_token_id = sorted(end_ids) if len(end_ids) > 1 else template.end_id
    model.save_pretrained(partial, state_dict=weights)
    tokenizer.save_pretrained(partial)
    result = {
        "num_rows": prepared["num_rows"],
        "num_truncated": prepared["num_truncated"],
        "num_rejected": prepared["num_rejected"],
        "num_steps": num_steps,
        "num_tokens": sum(line["tokens"] for line in checkpoints.read_metrics(job.path("metrics.jsonl"))),
    }
    checkpoints.commit_folder(partial, job.path("model"))
    checkpoints.write(job.path("result.json"), json.dumps(result).encode())
