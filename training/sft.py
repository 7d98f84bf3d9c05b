"""Supervised fine-tuning: the target learns the selected responses (FuseChat-3.0, section 3.4)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from fusechat.pipeline.recipe import Sft, Training

from . import data, lm_head, lora, packing, sharding, worker
from .driver import Job, StepEvent, TrainResult
from .driver import train as _train


def train(
    rows: pa.Table,
    *,
    model: Path,
    output: Path,
    config: Sft,
    cluster: Training,
    chat_template: str | None,
    seed: int,
    on_step: Callable[[StepEvent], None] | None = None,
) -> TrainResult:
    """Trains `model` on the rows under Ray Train and writes `output`/model; Ray is initialised by the caller.

    Called again with the same arguments it goes on from the last whole checkpoint, or returns what had ended.

    Args:
        rows: SFT_ROW.
        model: a transformers folder.
        output: a folder that all workers see.
        chat_template: Jinja text in place of the model's own template.
        on_step: called on the driver, from another thread, for every logged step.

    Raises:
        RecipeError: the global batch can't be met, or the target has no usable chat template.
        CapacityError: the cluster can't place the workers.
        StageError: no rows, an empty response, a loss that is no number, workers that keep failing.
        RunDirectoryError: `output` holds another training.
    """
    return _train(
        "sft",
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
    worker.work(config["job"], data.tokenize_sft, _trainer)


def _trainer(job: Job, arguments: dict[str, Any], net: Any, tokenizer: Any, dataset: Any, heldout: Any = None) -> Any:
    from trl import SFTConfig, SFTTrainer

    config = job.config
    assert isinstance(config, Sft)
    packed = config.packing
    lengths = data.num_tokens(dataset, "input_ids")

    class Trainer(sharding.trainer_class(job, SFTTrainer)):  # type: ignore[misc]
        """TRL's trainer with rows ordered for little padding, or packed."""

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            if packed:
                return worker.rows_dealt(job, lengths, self)
            return worker.rows_in_order(job, lengths, self)

    if packed:
        packing.install(net)
    trainer = Trainer(
        model=net,
        # rows come tokenized, cut and labelled
        args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=dataset,
        eval_dataset=heldout,
        processing_class=tokenizer,
        data_collator=packing.collate if packed else None,
        peft_config=lora.peft_config(job, net),
    )
    if not job.use_gpu and lm_head.fits(net.config):
        lm_head.install(net)
    return trainer
