"""Supervised fine-tuning (SFT) of the target on the selected responses (FuseChat-3.0, section 3.4)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fusechat.pipeline.recipe import Sft, Training

from . import data, lm_head, lora, packing, sharding, worker
from .driver import LoopConfig, StepEvent, TrainingJob, TrainResult
from .driver import train as _train
from .row_order import LengthGroupedSampler

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import SFTTrainer


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
    """Trains `model` on the rows with Ray Train and writes `output`/model. The caller initializes Ray.

    A second call with the same arguments resumes from the last complete checkpoint, or returns the finished result.

    Args:
        rows: SFT_ROW.
        model: a transformers folder.
        output: a folder that all workers can read and write.
        chat_template: Jinja text that replaces the model's own template.
        on_step: called on the driver, from another thread, for every logged step.

    Raises:
        RecipeError: the global batch size is not possible, or the target has no usable chat template.
        CapacityError: the cluster can't place the workers.
        StageError: there are no rows, a response is empty, the loss is not finite, or workers keep failing.
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


def _loop(config: LoopConfig) -> None:
    worker.run_worker(config["job"], data.tokenize_sft, make_trainer)


def make_trainer(
    job: TrainingJob,
    arguments: dict[str, Any],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    heldout: Dataset | None = None,
) -> SFTTrainer:
    """TRL's SFT trainer on tokenized rows (SFT_TOKENS), with packing if the recipe asks for it."""
    from trl import SFTConfig, SFTTrainer

    config = job.config
    assert isinstance(config, Sft)
    packed = config.packing
    lengths = data.token_counts(dataset, "input_ids")

    class Trainer(sharding.trainer_class(job, SFTTrainer)):  # type: ignore[misc]
        """TRL's trainer with packed rows, or with rows in an order that keeps padding low."""

        def _get_train_sampler(self, train_dataset: Dataset | None = None) -> LengthGroupedSampler:
            if packed:
                return worker.token_balanced_sampler(job, lengths, self)
            return worker.length_grouped_sampler(job, lengths, self)

    if packed:
        packing.install_attention(model)
    trainer = Trainer(
        model=model,
        # The rows are already tokenized, truncated and labeled.
        args=SFTConfig(**arguments, dataset_kwargs={"skip_prepare_dataset": True}),
        train_dataset=dataset,
        eval_dataset=heldout,
        processing_class=tokenizer,
        data_collator=packing.collate if packed else None,
        peft_config=lora.peft_config(job, model),
    )
    if not job.use_gpu and lm_head.is_plain_projection(model.config):
        lm_head.patch_forward(model)
    return trainer
