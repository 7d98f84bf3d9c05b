"""vLLM's worker on a CPU, with noise for sampling that is drawn in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from vllm.v1.sample.ops.topk_topp_sampler import TopKTopPSampler, apply_top_k_top_p
from vllm.v1.worker.cpu_worker import CPUWorker

if TYPE_CHECKING:
    from collections.abc import Mapping

SMALLEST = 2.0**-25
"""Half of the step of a float32 uniform below 1: a draw of 0 would make its token win against any other."""


def exponential_noise(shape: torch.Size, generators: Mapping[int, torch.Generator]) -> torch.Tensor:
    """Exponential noise with mean 1, float32.

    Args:
        shape: rows, vocabulary.
        generators: row -> its own generator; rows without one share torch's.

    Returns:
        (rows, vocabulary); a row with a generator depends on that generator alone.
    """
    noise = torch.empty(shape, dtype=torch.float32)
    if len(generators) != shape[0]:
        noise.uniform_()
    for row, generator in generators.items():
        noise[row].uniform_(generator=generator)
    return noise.clamp_(min=SMALLEST).neg_().log1p_().neg_()


def sample(
    sampler: TopKTopPSampler,
    logits: torch.Tensor,
    generators: dict[int, torch.Generator],
    k: torch.Tensor | None,
    p: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """One token a row, drawn by the exponential race; in place of `TopKTopPSampler.forward_cpu`."""
    logits = apply_top_k_top_p(logits, k, p)
    processed = None
    if sampler.logprobs_mode == "processed_logits":
        processed = logits
    elif sampler.logprobs_mode == "processed_logprobs":
        processed = logits.log_softmax(dim=-1, dtype=torch.float32)
    probs = logits.softmax(dim=-1, dtype=torch.float32)
    return probs.div_(exponential_noise(probs.shape, generators)).argmax(dim=-1), processed


class CpuWorker(CPUWorker):  # type: ignore[misc]
    """vLLM's CPU worker; its sampler takes an eighth of the time for requests with a seed.

    torch draws exponential noise on CPUs in float64, one number at a time, and vLLM draws it twice for a row with a
    seed: with a vocabulary of 150,000 that is 5 ms a token, more than a model of half a billion weights takes.
    """

    def __init__(self, *args: object, **kwargs: object) -> None:
        TopKTopPSampler.forward_cpu = sample
        super().__init__(*args, **kwargs)
