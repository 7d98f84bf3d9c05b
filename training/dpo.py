"""Direct preference optimisation, plain or length-normalised (FuseChat-3.0, section 3.4, equation 3)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa

from fusechat.pipeline.recipe import Dpo, Training

from . import data, lm_head, lora, sharding, worker
from .driver import Job, StepEvent, TrainResult
from .driver import train as _train
from .reference_logprobs import with_reference


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
    """Trains `model` on preference pairs (PAIR) under Ray Train; arguments and errors as `sft.train`.

    The reference is `model` itself. Its log-probabilities are computed once, before the first step, and kept
    in the folder `reference` (else in `output`), so it is not in memory while training, and another training of
    the same model on the same pairs, with another beta or learning rate, finds them there.
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


def _loop(config: dict[str, Any]) -> None:
    worker.work(config["job"], data.tokenize_pairs, _trainer)


def _trainer(job: Job, arguments: dict[str, Any], net: Any, tokenizer: Any, dataset: Any, heldout: Any = None) -> Any:
    from trl import DPOConfig, DPOTrainer

    config = job.config
    assert isinstance(config, Dpo)
    lengths = _lengths(dataset)

    class Trainer(sharding.trainer_class(job, DPOTrainer)):  # type: ignore[misc]
        """TRL's trainer on tokenized pairs, ordered for little padding; reference values stay on disk."""

        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset

        def _get_train_sampler(self, train_dataset: Any = None) -> Any:
            return worker.rows_in_order(job, lengths, self)

        def _precompute_ref_logps(self, dataset: Any, name: str, batch_size: int) -> Any:
            if not job.use_gpu and lm_head.fits(net.config):
                lm_head.install(net)  # the reference goes through the head that training uses
            return with_reference(job, self, dataset, _lengths(dataset), batch_size)

    settings = DPOConfig(**arguments, beta=config.beta, loss_type=[config.loss_type], precompute_ref_log_probs=True)
    with sharding.hashable(job, net):
        return Trainer(
            model=net,
            args=settings,
            train_dataset=dataset,
            eval_dataset=heldout,
            processing_class=tokenizer,
            peft_config=lora.peft_config(job, net),
        )


def _lengths(pairs: Any) -> list[int]:
    """Tokens that a pair is padded to."""
    columns = (data.num_tokens(pairs, name) for name in ("prompt_ids", "chosen_ids", "rejected_ids"))
    return [prompt + max(chosen, rejected) for prompt, chosen, rejected in zip(*columns, strict=True)]
