"""The private attributes of TRL's and transformers' trainers that fusechat reads, in one place.

Neither library has a public equivalent for these three. They were checked against trl 1.16.0 and transformers 5.19.0;
check them again when either version changes. (The trainers in `sft`, `dpo` and `sharding` also override private
methods, under the same names.)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .row_order import LengthGroupedSampler

if TYPE_CHECKING:
    from transformers import Trainer
    from trl import DPOTrainer


def load_checkpoint_weights(trainer: Trainer, checkpoint: Path) -> None:
    """Loads the weights of a checkpoint into the trainer's model. The public API does this only at the start of a
    training (`resume_from_checkpoint`) or at its end (`load_best_model_at_end`)."""
    trainer._load_from_checkpoint(str(checkpoint))


def train_sampler(trainer: Trainer) -> LengthGroupedSampler:
    """The sampler that the trainer's data loader uses; `sft` and `dpo` override the method that makes it."""
    sampler: LengthGroupedSampler = trainer._get_train_sampler()
    return sampler


def reference_model_hash(trainer: DPOTrainer) -> str:
    """TRL's hash of the untrained weights. TRL computes it in its constructor, where the weights are still unchanged;
    hashing them a second time would take as long again."""
    weights_hash: str = trainer._precompute_model_hash
    return weights_hash
