"""Direct preference optimization (DPO), plain or length-normalized (FuseChat-3.0, section 3.4, equation 3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fusechat.pipeline.recipe import Dpo, Training

from . import data, lm_head, lora, sharding, worker
from .driver import LoopConfig, StepEvent, TrainingJob, TrainResult
from .driver import train as _train
from .reference_logprobs import add_reference_logprobs
from .row_order import LengthGroupedSampler

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from trl import DPOTrainer


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
    reference: Path | None = None,
) -> TrainResult:
    """Trains `model` on preference pairs (PAIR) with Ray Train; see `sft.train` for the arguments and errors.

    The reference model is `model` itself. Its log-probabilities are computed once, before the first step, and stored
    in the folder `reference` (default: `output`). So the reference model takes no memory during training, and another
    training of the same model on the same pairs, with another beta or learning rate, reuses the stored values.
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
        reference=reference,
    )


def _loop(config: LoopConfig) -> None:
    worker.run_worker(config["job"], data.tokenize_pairs, make_trainer)


def make_trainer(
    job: TrainingJob,
    arguments: dict[str, Any],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    heldout: Dataset | None = None,
) -> DPOTrainer:
    """TRL's DPO trainer on tokenized pairs (PAIR_TOKENS), with the reference log-probabilities from disk."""
    from trl import DPOConfig, DPOTrainer

    config = job.config
    assert isinstance(config, Dpo)
    lengths = _padded_lengths(dataset)

    class Trainer(sharding.trainer_class(job, DPOTrainer)):  # type: ignore[misc]
        """TRL's trainer with pairs in an order that keeps padding low."""

        def _prepare_dataset(self, dataset: Dataset, *_: object) -> Dataset:
            return dataset

        def _get_train_sampler(self, train_dataset: Dataset | None = None) -> LengthGroupedSampler:
            return worker.length_grouped_sampler(job, lengths, self)

        def _precompute_ref_logps(self, dataset: Dataset, name: str, batch_size: int) -> Dataset:
            if not job.use_gpu and lm_head.is_plain_projection(model.config):
                lm_head.patch_forward(model)  # the reference pass must use the same head as training
            return add_reference_logprobs(job, self, dataset, _padded_lengths(dataset), batch_size)

    settings = DPOConfig(**arguments, beta=config.beta, loss_type=[config.loss_type], precompute_ref_log_probs=True)
    with sharding.local_state_dict(job, model):
        return Trainer(
            model=model,
            args=settings,
            train_dataset=dataset,
            eval_dataset=heldout,
            processing_class=tokenizer,
            peft_config=lora.peft_config(job, model),
        )


def _padded_lengths(pairs: Dataset) -> list[int]:
    """For each pair, the tokens of the prompt with the longer response."""
    columns = (data.token_counts(pairs, name) for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    return [prompt + max(chosen, rejected) for prompt, chosen, rejected in zip(*columns, strict=True)]
