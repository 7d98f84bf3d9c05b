"""What SFT and DPO share on a Ray Train worker: tokens, the Trainer's arguments, checkpoints, the model."""

from __future__ import annotations

import gc
import json
import os
import shutil
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq

from fusechat.pipeline.errors import FusechatError

from . import (
    best_checkpoint,
    checkpoints,
    data,
    lora,
    packing,
    s3_checkpoints,
    sharding,
    trainer_callback,
)
from .driver import Job

Tokenize = Callable[[Any, data.Template, int], data.Tokens]
MakeTrainer = Callable[[Job, dict[str, Any], Any, Any, Any, Any], Any]


def work(job: Job, tokenize: Tokenize, make_trainer: MakeTrainer) -> None:
    """Trains on this worker. A refusal that no other try can mend is kept for the driver."""
    import ray.train

    if job.path("failure.json").exists():  # Ray Train's next try of what no other try can mend
        return
    leader = ray.train.get_context().get_world_rank() == 0
    try:
        _work(job, tokenize, make_trainer, leader)
    except FusechatError as error:
        if leader:
            checkpoints.write_error(job.path("failure.json"), error)
    except Exception as error:
        if checkpoints.is_full(error):
            checkpoints.write_error(job.path("failure.json"), checkpoints.full(job.stage, job.output))
        raise


def _work(job: Job, tokenize: Tokenize, make_trainer: MakeTrainer, leader: bool) -> None:
    gc.disable()  # what is imported here stays; looking through it again and again is a quarter of what it takes
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PrinterCallback

    if job.num_workers == 1:  # else one worker would copy its gradients through DDP's buckets, to no one
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
            os.environ.pop(name, None)
    os.environ.setdefault("TENSORBOARD_LOGGING_DIR", str(job.path("tensorboard")))
    tokenizer = data.load_tokenizer(job.path(job.model), job.chat_template)
    template = data.Template(tokenizer, data.end_ids(job.path(job.model)))
    sender = s3_checkpoints.Offsite(job.stage, job.checkpoints) if leader and job.checkpoints else None
    prepared = _from_leader(leader, lambda: _prepare(job, tokenize, template, sender))
    dataset = Dataset.from_file(str(job.path("tokens.arrow")))
    chooses = job.config.choose != "last"
    heldout = Dataset.from_file(str(job.path("heldout.arrow"))) if chooses else None
    # float32 masters: in bfloat16 a step of 1e-6 is rounded away; what is not trained needs none
    dtype = torch.bfloat16 if job.config.lora and job.config.bf16 else torch.float32
    kernels = {"use_kernels": True} if job.kernels == "hub" else {}
    net = AutoModelForCausalLM.from_pretrained(job.model, dtype=dtype, **kernels, **sharding.loading(job))
    if tokenizer.pad_token_id in {template.end_id, *template.end_ids}:
        # as padding_idx the end-of-turn token's embedding would get no gradient
        net.get_input_embeddings().padding_idx = None
    trainer = make_trainer(job, arguments(job), net, tokenizer, dataset, heldout)
    trainer.remove_callback(PrinterCallback)
    rows = trainer_callback.rows_of(prepared["row_ids"], trainer._get_train_sampler().of_step, dataset)
    trainer_callback.attach(trainer, job, leader, rows, sender)
    if job.num_workers > 1 and not job.shard:
        trainer.accelerator.ddp_handler.gradient_as_bucket_view = True  # else gradients are there twice
    gc.freeze()
    gc.enable()
    trainer.train(resume_from_checkpoint=prepared["resume"])
    num_steps = trainer.state.global_step
    if chooses:
        best_checkpoint.choose(trainer, job)
    net = trainer.accelerator.unwrap_model(trainer.model)
    weights = sharding.gathered(net) if job.shard else None
    if leader:
        _save(job, lora.merged(job, net), weights, num_steps, tokenizer, template, prepared)
    if sender is not None:
        sender.stop()
    torch.distributed.barrier()


def _from_leader(leader: bool, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What worker 0 made, on all workers; its refusal is raised on all of them."""
    import torch

    box: list[Any] = [None]
    if leader:
        try:
            box[0] = make()
        except FusechatError as error:
            box[0] = str(error)
            torch.distributed.broadcast_object_list(box, src=0)
            raise
    torch.distributed.broadcast_object_list(box, src=0)
    if isinstance(box[0], str):
        raise FusechatError(box[0])
    made: dict[str, Any] = box[0]
    return made


def _prepare(
    job: Job, tokenize: Tokenize, template: data.Template, sender: s3_checkpoints.Offsite | None = None
) -> dict[str, Any]:
    """Tokens on disk, half checkpoints away, metrics back to the checkpoint that training goes on from."""
    rows, held = best_checkpoint.split(pq.read_table(job.path("rows.parquet")), job.stage, job.config.holdout)
    tokens = tokenize(rows, template, job.config.max_length)
    if held.num_rows:
        checkpoints.write(
            job.path("heldout.arrow"), checkpoints.arrow(tokenize(held, template, job.config.max_length).table)
        )
    checkpoints.write(job.path("tokens.arrow"), checkpoints.arrow(tokens.table))
    checkpoints.write(job.path("rejects.parquet"), checkpoints.parquet(tokens.rejects))
    checkpoint = checkpoints.last_whole(job.path("checkpoints"), remove_half=True)
    if sender is not None and (fetched := sender.fetch(job.path("checkpoints"))):
        checkpoint = fetched
        shutil.copyfile(fetched / checkpoints.METRICS, job.path("metrics.jsonl"))
    checkpoints.keep_steps(job.path("metrics.jsonl"), checkpoints.step_of(checkpoint))
    return {
        "resume": str(checkpoint) if checkpoint else None,
        "row_ids": tokens.row_ids,
        "num_rows": tokens.table.num_rows,
        "num_truncated": tokens.num_truncated,
        "num_rejected": tokens.rejects.num_rows,
    }


def arguments(job: Job) -> dict[str, Any]:
    """TrainingArguments that SFT and DPO share."""
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
        "warmup_steps": config.warmup_ratio,  # below 1 it is the ratio
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


def rows_in_order(job: Job, lengths: list[int], trainer: Any) -> data.GlobalBatches:
    """The Trainer's sampler; the epoch comes from its state, which a checkpoint restores."""
    return data.GlobalBatches(lengths, job.config.global_batch_size, job.seed, lambda: int(trainer.state.epoch or 0))


def rows_dealt(job: Job, lengths: list[int], trainer: Any) -> packing.BalancedBatches:
    """As `rows_in_order`, for packed micro-batches."""
    config = job.config
    return packing.BalancedBatches(
        lengths, config.global_batch_size, job.seed, lambda: int(trainer.state.epoch or 0), config.micro_batch_size
    )


def _save(
    job: Job, net: Any, weights: Any, num_steps: int, tokenizer: Any, template: data.Template, prepared: dict[str, Any]
) -> None:
    """The model in the target's own dtype, with tokenizer, template and end-of-turn token."""
    import torch
    from transformers import AutoConfig

    partial = job.path("model.partial")
    shutil.rmtree(partial, ignore_errors=True)
    dtype = AutoConfig.from_pretrained(job.model).dtype
    if not isinstance(dtype, torch.dtype):
        dtype = torch.float32
    if weights is None:
        net.to(dtype)
    else:
        weights = {name: t.to(dtype) if t.is_floating_point() else t for name, t in weights.items()}
        net.config.dtype, net.config.distributed_config = dtype, None
    net.config.use_cache = True  # gradient checkpointing turns it off
    ends = {*template.end_ids, template.end_id}
    net.generation_config.eos_token_id = sorted(ends) if len(ends) > 1 else template.end_id
    net.save_pretrained(partial, state_dict=weights)
    tokenizer.save_pretrained(partial)
    result = {name: prepared[name] for name in ("num_rows", "num_truncated", "num_rejected")} | {
        "num_steps": num_steps,
        "num_tokens": sum(line["tokens"] for line in checkpoints.read_jsonl(job.path("metrics.jsonl"))),
    }
    checkpoints.settle(partial, job.path("model"))
    checkpoints.write(job.path("result.json"), json.dumps(result).encode())
