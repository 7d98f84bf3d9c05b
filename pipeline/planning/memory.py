"""Estimates the memory of a training on each worker before it starts, and finds settings with which it would fit.

Bytes per parameter: 4 for float32 weights, 4 for gradients, 8 for Adam's two moments (ZeRO, arXiv 1910.02054, section
3.1, with float32 instead of float16 copies), and 2 for the bfloat16 copies that autocast keeps during a forward pass.
Activations are counted for a Llama layer under autocast, in the manner of arXiv 2205.05198, section 4, with a float32
residual stream and an attention that stores no scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import CapacityError, RecipeError
from ..recipe import Dpo, Optimization, Training
from ..recipe.precision import of_training

if TYPE_CHECKING:
    from transformers import PretrainedConfig

WORKSPACE = {"gpu": 2e9, "cpu": 0.5e9}
"""Bytes for the runtime, buffers of libraries, and fragmentation."""
GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The dimensions of a model that its memory and training time depend on."""

    parameters: float
    layers: int
    hidden: int
    intermediate: int
    kv_width: int
    """Number of key-value heads times the head dimension."""
    vocabulary: int
    exact: bool = True
    """Whether it was read from the target's config.json. Otherwise it is that of a Llama of about the same size."""


LLAMAS = (
    Shape(parameters=1.24e9, layers=16, hidden=2048, intermediate=8192, kv_width=512, vocabulary=128256, exact=False),
    Shape(parameters=3.21e9, layers=28, hidden=3072, intermediate=8192, kv_width=1024, vocabulary=128256, exact=False),
    Shape(parameters=8.03e9, layers=32, hidden=4096, intermediate=14336, kv_width=1024, vocabulary=128256, exact=False),
    Shape(parameters=70.6e9, layers=80, hidden=8192, intermediate=28672, kv_width=1024, vocabulary=128256, exact=False),
)


@cache
def shape_of(folder: Path) -> Shape:
    """The shape of the model in a transformers folder. Does not load the weights.

    Raises:
        RecipeError: its config.json does not describe a causal language model.
    """
    from transformers import AutoConfig

    try:
        return shape(AutoConfig.from_pretrained(folder))
    except (ValueError, OSError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise RecipeError(
            "target.model", str(folder), f"its config.json does not describe a language model: {reason}"
        ) from error


def shape(config: PretrainedConfig) -> Shape:
    """The shape that a transformers configuration describes."""
    import torch
    from transformers import AutoModelForCausalLM

    text = config.get_text_config()
    with torch.device("meta"):
        net = AutoModelForCausalLM.from_config(text)
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Shape(
        parameters=sum(p.numel() for p in net.parameters()),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        kv_width=(getattr(text, "num_key_value_heads", None) or text.num_attention_heads) * width,
        vocabulary=text.vocab_size,
    )


def shape_by_size(parameters: float) -> Shape:
    """The shape of the Llama of the nearest size, with the given number of parameters."""
    nearest = min(LLAMAS, key=lambda s: abs(s.parameters / parameters - 1))
    return dataclasses.replace(nearest, parameters=parameters)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes per worker, by use."""

    weights: float
    gradients: float
    moments: float
    copies: float
    """bfloat16 copies under autocast; with sharding, the layers that are gathered at a time."""
    activations: float
    workspace: float
    offloaded: float = 0.0
    """Bytes of the above that are in the node's memory instead of the device's."""

    @property
    def total(self) -> float:
        """Bytes on the device."""
        parts = (self.weights, self.gradients, self.moments, self.copies, self.activations, self.workspace)
        return sum(parts) - self.offloaded


def memory(shape: Shape, config: Optimization, cluster: Training) -> Memory:
    """Peak memory of a training step on each worker."""
    config = of_training(config, cluster.num_gpus)
    share = 1 / cluster.num_workers if cluster.shard else 1.0
    p = shape.parameters
    if config.lora:
        a = adapter_parameters(shape, config.lora.r)
        return Memory(
            weights=(2 if config.bf16 else 4) * p + 4 * a,
            gradients=4 * a,
            moments=8 * a,
            copies=2 * a if config.bf16 else 0.0,
            activations=_activations(shape, config),
            workspace=WORKSPACE["gpu" if cluster.num_gpus else "cpu"],
        )
    states = {"weights": 4 * p * share, "gradients": 4 * p * share, "moments": 8 * p * share}
    copies = 2 * p if config.bf16 else 0.0
    if cluster.shard:
        # two layers are gathered at a time, and the head and the embedding
        body = p - 2 * shape.vocabulary * shape.hidden
        copies = (6 if config.bf16 else 4) * (2 * body / shape.layers + 2 * shape.vocabulary * shape.hidden)
    return Memory(
        **states,
        copies=copies,
        activations=_activations(shape, config),
        workspace=WORKSPACE["gpu" if cluster.num_gpus else "cpu"],
        offloaded=sum(states.values()) if cluster.cpu_offload else 0.0,
    )


def adapter_parameters(shape: Shape, r: int) -> float:
    """Upper bound of LoRA's parameters: for every linear layer of a Llama, r times its input and output widths."""
    attention = 4 * shape.hidden + 2 * (shape.hidden + shape.kv_width)
    return float(r * shape.layers * (attention + 3 * (shape.hidden + shape.intermediate)))


def _activations(shape: Shape, config: Optimization) -> float:
    sequences = config.micro_batch_size * (2 if isinstance(config, Dpo) else 1)
    tokens = sequences * config.max_length
    low = 2 if config.bf16 else 4
    # Residual and norm twice, in float32; the inputs of the projections, the queries and the attention's output; keys
    # and values; gate, up, the activation and their product.
    layer = 16 * shape.hidden + low * (4 * shape.hidden + 2 * shape.kv_width + 4 * shape.intermediate)
    stored = 4 * shape.hidden * shape.layers + layer if config.gradient_checkpointing else layer * shape.layers
    head = (4 + low) * shape.hidden + (0 if config.bf16 else 2) * shape.vocabulary + 2 * shape.vocabulary
    return float(tokens * (stored + head))


def memory_savings(config: Optimization, cluster: Training) -> Iterator[tuple[str, Optimization, Training]]:
    """Changes of settings that lower the memory, the cheapest first: the settings as text, and the changed sections."""
    smaller = [config.micro_batch_size // 2**k for k in range(1, 8) if config.micro_batch_size // 2**k]
    recomputed = config.model_copy(update={"gradient_checkpointing": True})
    lowest = recomputed.model_copy(update={"micro_batch_size": 1})
    stage = "dpo" if isinstance(config, Dpo) else "sft"
    for size in smaller:
        yield f"{stage}.micro_batch_size={size}", config.model_copy(update={"micro_batch_size": size}), cluster
    if not config.gradient_checkpointing:
        yield f"{stage}.gradient_checkpointing=true", recomputed, cluster
    yield f"{stage}.gradient_checkpointing=true {stage}.micro_batch_size=1", lowest, cluster
    if config.lora:
        return
    if cluster.num_workers > 1:
        sharded = cluster.model_copy(update={"shard": True})
        yield "training.shard=true", config, sharded
        yield f"training.shard=true {stage}.gradient_checkpointing=true", recomputed, sharded
        offloaded = sharded.model_copy(update={"cpu_offload": True})
        yield (
            f"training.shard=true training.cpu_offload=true {stage}.gradient_checkpointing=true",
            recomputed,
            offloaded,
        )
    for workers in (2, 4, 8, 16, 32, 64):
        if workers > cluster.num_workers:
            more = cluster.model_copy(update={"shard": True, "num_workers": workers})
            changes = f"training.num_workers={workers} training.shard=true {stage}.gradient_checkpointing=true"
            yield changes, recomputed, more


def check(stage: str, shape: Shape, config: Optimization, cluster: Training, device: float, name: str) -> Memory:
    """Checks that a training fits on its devices; returns the memory that each worker needs.

    Args:
        device: bytes that one worker may use.
        name: name of the device, for the message.

    Raises:
        CapacityError: it does not fit; the message names the cheapest change with which it would fit.
    """
    need = memory(shape, config, cluster)
    if need.total <= device:
        return need
    fitting = (changes for changes, c, t in memory_savings(config, cluster) if memory(shape, c, t).total <= device)
    cheapest = next(fitting, "")
    setting = " ".join(f"--set {change}" for change in cheapest.split())
    raise CapacityError(
        f"the {stage} training of {shape.parameters / 1e9:.3g}G parameters",
        f"{need.total / GIB:.1f} GiB per worker ({describe_memory(need)})",
        f"{device / GIB:.1f} GiB ({name})",
        f"the recipe: {setting} would fit" if cheapest else "training.accelerator_type to a larger device",
    )


def describe_memory(need: Memory) -> str:
    """The largest parts as text, in GiB."""
    parts = [
        f"{label} {value / GIB:.1f}"
        for label, value in (
            ("weights", need.weights),
            ("gradients", need.gradients),
            ("Adam", need.moments),
            ("copies", need.copies),
            ("activations", need.activations),
        )
    ]
    return ", ".join(parts) + (f"; {need.offloaded / GIB:.1f} in the node's memory" if need.offloaded else "")
