"""FSDP2: shards weights, gradients and Adam's moments over the workers (ZeRO stage 3, arXiv 1910.02054).

transformers loads only each worker's shard from the target's folder, so no worker ever holds the whole model. States
that a checkpoint or the saved model needs in full are gathered in the memory of worker 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .driver import TrainingJob

if TYPE_CHECKING:
    import torch
    from torch.distributed.checkpoint.state_dict import StateDictOptions
    from transformers import PreTrainedModel, Trainer, TrainingArguments

OPTIMIZER_FILE = "optimizer_whole.pt"
"""File in a checkpoint that holds Adam's moments, gathered from all workers."""


def from_pretrained_arguments(job: TrainingJob) -> dict[str, Any]:
    """Arguments of `from_pretrained` that shard the model while loading."""
    if not job.shard:
        return {}
    from transformers.distributed import DistributedConfig

    return {"distributed_config": DistributedConfig(fsdp_size=job.num_workers, fsdp_cpu_offload=job.cpu_offload)}


def trainer_class(job: TrainingJob, base: type[Trainer]) -> type[Trainer]:
    """The trainer class; if the training is sharded, a subclass that saves and loads sharded states."""
    if not job.shard:
        return base

    import torch
    from safetensors.torch import load_file
    from torch.distributed.checkpoint import state_dict as states
    from torch.distributed.tensor import DTensor

    class ShardedTrainer(base):  # type: ignore[misc]
        def __init__(self, *positional: Any, args: TrainingArguments, **others: Any) -> None:
            # The Trainer can't save a sharded optimizer and refuses to try. This class can.
            args.save_only_model = True
            super().__init__(*positional, args=args, **others)
            self.args.save_only_model = False

        def create_optimizer(self, *arguments: Any, **others: Any) -> torch.optim.Optimizer:
            reshard(job, self.model)
            optimizer: torch.optim.Optimizer = super().create_optimizer(*arguments, **others)
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            if not all(isinstance(p, DTensor) for p in parameters):  # those weights would not be trained
                raise RuntimeError("the optimizer holds a full weight instead of this worker's shard")
            return optimizer

        def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
            options = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
            state = states.get_optimizer_state_dict(self.model, _unwrap(self.optimizer), options=options)
            if self.args.should_save:
                torch.save(state, Path(output_dir, OPTIMIZER_FILE))
                torch.save(self.lr_scheduler.state_dict(), Path(output_dir, "scheduler.pt"))

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            if checkpoint is None:
                return
            leader, folder = self.args.process_index == 0, Path(checkpoint)
            state = torch.load(folder / OPTIMIZER_FILE, map_location="cpu", weights_only=True) if leader else {}
            states.set_optimizer_state_dict(self.model, _unwrap(self.optimizer), state, options=_broadcast_options())
            self.lr_scheduler.load_state_dict(torch.load(folder / "scheduler.pt", weights_only=True))

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: PreTrainedModel | None = None) -> None:
            leader, files = self.args.process_index == 0, sorted(Path(resume_from_checkpoint).glob("*.safetensors"))
            weights = {name: tensor for file in files for name, tensor in load_file(file).items()} if leader else {}
            # Of two tied weights, the file holds only one.
            options = _broadcast_options(strict=False)
            states.set_model_state_dict(self.model, weights, options=options)

    return ShardedTrainer


def _broadcast_options(strict: bool = True) -> StateDictOptions:
    """Worker 0 holds the full state; the other workers receive their shards from it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=strict)


def _unwrap(optimizer: Any) -> torch.optim.Optimizer:
    """torch's optimizer, without accelerate's wrapper."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


@contextmanager
def local_state_dict(job: TrainingJob, model: PreTrainedModel) -> Iterator[None]:
    """Makes `model.state_dict` return this worker's shard as plain tensors. TRL hashes them in its constructor."""
    if not job.shard:
        yield
        return
    original = model.state_dict
    model.state_dict = lambda *a, **k: {name: local_shard(tensor) for name, tensor in original(*a, **k).items()}
    try:
        yield
    finally:
        del model.state_dict


def local_shard(tensor: Any) -> torch.Tensor:
    """This worker's shard of a tensor that may be sharded."""
    shard: torch.Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return shard


def full_tensor(tensor: Any) -> Any:
    """The full tensor of one that may be sharded, or None for None. Gradients flow back to the shards."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def reshard(job: TrainingJob, model: PreTrainedModel) -> None:
    """Frees the full weights that a forward pass without a backward pass leaves in memory. An optimizer created before
    that would hold the full weights instead of the shards."""
    if not job.shard:
        return
    from torch.distributed.fsdp import FSDPModule

    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def full_state_dict(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The full state in the memory of worker 0, and an empty dict on the others. All workers must call it."""
    from torch.distributed.checkpoint import state_dict as states

    options = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
    state: dict[str, Any] = states.get_model_state_dict(model, options=options)
    return state
