"""What SFT and DPO share on a Ray Train worker: tokens, the Trainer's arguments, checkpoints, the model."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq

from fusechat.pipeline.errors import FusechatError, StageError
from fusechat.training import data, files, packing
from fusechat.training.loop import Job

Tokenize = Callable[[Any, data.Template, int], data.Tokens]
MakeTrainer = Callable[[Job, dict[str, Any], Any, Any, Any], Any]

KEPT = ("learning_rate", "grad_norm", "epoch", "mean_token_accuracy", "entropy")
"""What a metrics line keeps of the Trainer's log beside loss, tokens and DPO's own."""
KEPT_GROUPS = ("rewards/", "logps/", "logits/")


WINDOW = 10
"""Logged steps over which a loss is averaged to see that it diverges."""


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
            files.write_error(job.path("failure.json"), error)
    except Exception as error:
        if files.is_full(error):
            files.write_error(job.path("failure.json"), files.full(job.stage, job.output))
        raise


def _work(job: Job, tokenize: Tokenize, make_trainer: MakeTrainer, leader: bool) -> None:
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, PrinterCallback

    if job.num_workers == 1:  # else one worker would copy its gradients through DDP's buckets, to no one
        for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"):
            os.environ.pop(name, None)
    tokenizer = data.load_tokenizer(job.path(job.model), job.chat_template)
    template = data.Template(tokenizer, data.end_ids(job.path(job.model)))
    prepared = _from_leader(leader, lambda: _prepare(job, tokenize, template))
    dataset = Dataset.from_file(str(job.path("tokens.arrow")))
    # float32 masters: in bfloat16 a step of 1e-6 is rounded away
    net = AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.float32)
    if tokenizer.pad_token_id in {template.end_id, *template.end_ids}:
        # as padding_idx the end-of-turn token's embedding would get no gradient
        net.get_input_embeddings().padding_idx = None
    trainer = make_trainer(job, arguments(job), net, tokenizer, dataset)
    trainer.remove_callback(PrinterCallback)
    sampler, ids = trainer._get_train_sampler(), prepared["row_ids"]
    trainer.add_callback(_recorder(job, leader, lambda step: [ids[i] for i in sampler.of_step(step)]))
    resume = prepared["resume"]
    trainer.train(resume_from_checkpoint=resume)
    if leader:
        _save(job, trainer, tokenizer, template, prepared)
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


def _prepare(job: Job, tokenize: Tokenize, template: data.Template) -> dict[str, Any]:
    """Tokens on disk, half checkpoints away, metrics back to the checkpoint that training goes on from."""
    tokens = tokenize(pq.read_table(job.path("rows.parquet")), template, job.config.max_length)
    files.write(job.path("tokens.arrow"), files.arrow(tokens.table))
    files.write(job.path("rejects.parquet"), files.parquet(tokens.rejects))
    checkpoint = files.last_whole(job.path("checkpoints"), remove_half=True)
    files.keep_steps(job.path("metrics.jsonl"), files.step_of(checkpoint))
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
        "report_to": "none",
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


def diverges(losses: list[float]) -> bool:
    """Whether the last ten logged losses are on average above three times the first ten."""
    if len(losses) < 2 * WINDOW:
        return False
    first, last = losses[:WINDOW], losses[-WINDOW:]
    return sum(last) > 3 * sum(first) and sum(last) - sum(first) > WINDOW


def _recorder(job: Job, leader: bool, rows_of_step: Callable[[int], list[str]]) -> Any:
    import torch
    from transformers import TrainerCallback

    class Recorder(TrainerCallback):  # type: ignore[misc]
        """Writes metrics, marks whole checkpoints, stops where the loss is no number."""

        def __init__(self) -> None:
            self.seconds, self.tokens = time.monotonic(), 0
            self.losses = [line["loss"] for line in files.read_jsonl(job.path("metrics.jsonl"))]

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.seconds = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            if state.global_step >= state.max_steps:
                control.should_save = False  # the model itself is written next
            return control

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "loss" not in logs:
                return
            self.losses.append(logs["loss"])
            wrong = next((f"{n} is {logs[n]}" for n in ("loss", "grad_norm") if not math.isfinite(logs.get(n, 0))), "")
            if not wrong and diverges(self.losses):
                wrong = f"the loss diverges: {logs['loss']:.3g} after {self.losses[0]:.3g} at the start"
            if wrong:
                rows = ", ".join(rows_of_step(state.global_step))
                cause = f"{wrong}; lower {job.stage}.learning_rate or look at the rows of this step: {rows}"
                raise StageError(job.stage, f"step {state.global_step}", cause)
            now, tokens = time.monotonic(), int(logs.get("num_tokens", 0))
            line = {
                "step": state.global_step,
                "num_steps": state.max_steps,
                "loss": logs["loss"],
                "tokens": tokens - self.tokens,
                "seconds": now - self.seconds,
            }
            self.seconds, self.tokens = now, tokens
            line |= {k: v for k, v in logs.items() if k in KEPT or k.startswith(KEPT_GROUPS)}
            if leader:
                with open(job.path("metrics.jsonl"), "a") as out:
                    out.write(json.dumps(line) + "\n")

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            torch.distributed.barrier()  # the other workers' RNG states belong to a whole checkpoint
            if leader:
                folder = job.path("checkpoints", f"checkpoint-{state.global_step}")
                files.mark_whole(folder)

    return Recorder()


def _save(job: Job, trainer: Any, tokenizer: Any, template: data.Template, prepared: dict[str, Any]) -> None:
    """The model in the target's own dtype, with tokenizer, template and end-of-turn token."""
    import torch
    from transformers import AutoConfig

    partial = job.path("model.partial")
    shutil.rmtree(partial, ignore_errors=True)
    net = trainer.accelerator.unwrap_model(trainer.model)
    dtype = AutoConfig.from_pretrained(job.model).dtype
    net.to(dtype if isinstance(dtype, torch.dtype) else torch.float32)
    net.config.use_cache = True  # gradient checkpointing turns it off
    ends = {*template.end_ids, template.end_id}
    net.generation_config.eos_token_id = sorted(ends) if len(ends) > 1 else template.end_id
    net.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    result = {name: prepared[name] for name in ("num_rows", "num_truncated", "num_rejected")} | {
        "num_steps": trainer.state.global_step,
        "num_tokens": sum(line["tokens"] for line in files.read_jsonl(job.path("metrics.jsonl"))),
    }
    files.settle(partial, job.path("model"))
    files.write(job.path("result.json"), json.dumps(result).encode())
