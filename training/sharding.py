"""FSDP2: weights, gradients and Adam's moments spread over the workers (ZeRO stage 3, arXiv 1910.02054).

transformers loads each worker's share from the target's folder, so no worker ever holds the whole model. What a
checkpoint or the result needs whole is gathered in the first worker's memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .driver import Job

OPTIMIZER = "optimizer_whole.pt"
"""Adam's moments in a checkpoint, gathered."""


def loading(job: Job) -> dict[str, Any]:
    """Arguments of `from_pretrained`."""
    if not job.shard:
        return {}
    from transformers.distributed import DistributedConfig

    return {"distributed_config": DistributedConfig(fsdp_size=job.num_workers, fsdp_cpu_offload=job.cpu_offload)}


def trainer_class(job: Job, base: Any) -> Any:
    """The Trainer, with checkpoints of sharded states where they are sharded."""
    if not job.shard:
        return base

    import torch
    from safetensors.torch import load_file
    from torch.distributed.checkpoint import state_dict as states
    from torch.distributed.tensor import DTensor

    class Sharded(base):  # type: ignore[misc]
        def __init__(self, *positional: Any, args: Any, **others: Any) -> None:
            args.save_only_model = True  # else the Trainer refuses, since it knows no checkpoint of a sharded optimizer
            super().__init__(*positional, args=args, **others)
            self.args.save_only_model = False  # this class does

        def create_optimizer(self, *arguments: Any, **others: Any) -> Any:
            reshard(job, self.model)
            made = super().create_optimizer(*arguments, **others)
            held = [p for group in made.param_groups for p in group["params"]]
            if not all(isinstance(p, DTensor) for p in held):  # training would leave those weights as they are
                raise RuntimeError("the optimizer holds a whole weight in place of this worker's share")
            return made

        def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
            options = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
            whole = states.get_optimizer_state_dict(self.model, _plain(self.optimizer), options=options)
            if self.args.should_save:
                torch.save(whole, Path(output_dir, OPTIMIZER))
                torch.save(self.lr_scheduler.state_dict(), Path(output_dir, "scheduler.pt"))

        def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
            if checkpoint is None:
                return
            leads, folder = self.args.process_index == 0, Path(checkpoint)
            found = torch.load(folder / OPTIMIZER, map_location="cpu", weights_only=True) if leads else {}
            states.set_optimizer_state_dict(self.model, _plain(self.optimizer), found, options=_from_first())
            self.lr_scheduler.load_state_dict(torch.load(folder / "scheduler.pt", weights_only=True))

        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            leads, files = self.args.process_index == 0, sorted(Path(resume_from_checkpoint).glob("*.safetensors"))
            found = {name: tensor for file in files for name, tensor in load_file(file).items()} if leads else {}
            # one of two tied weights stands in the file for both
            options = _from_first(strict=False)
            states.set_model_state_dict(self.model, found, options=options)

    return Sharded


def _from_first(strict: bool = True) -> Any:
    """The first worker has the whole state; the others get their shares from it."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    return StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=strict)


def _plain(optimizer: Any) -> Any:
    return getattr(optimizer, "optimizer", optimizer)


@contextmanager
def hashable(job: Job, net: Any) -> Iterator[None]:
    """While it lasts, the model's state is this worker's share as plain tensors: TRL hashes that in its constructor."""
    if not job.shard:
        yield
        return
    original = net.state_dict
    net.state_dict = lambda *a, **k: {name: local(tensor) for name, tensor in original(*a, **k).items()}
    try:
        yield
    finally:
        del net.state_dict


def local(tensor: Any) -> Any:
    """This worker's share of a tensor that may be sharded."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def whole(tensor: Any) -> Any:
    """All of a tensor that may be sharded; gradients find their way back."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def reshard(job: Job, net: Any) -> None:
    """Lets go of weights that a forward pass without a backward one left whole: an optimizer made then would hold them
    in place of the shares."""
    if not job.shard:
        return
    from torch.distributed.fsdp import FSDPModule

    for module in net.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def gathered(net: Any) -> dict[str, Any]:
    """The whole state in the first worker's memory, nothing on the others; all workers call it."""
    from torch.distributed.checkpoint import state_dict as states

    options = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
    found: dict[str, Any] = states.get_model_state_dict(net, options=options)
    return found
