"""The CPU sampler: the right distribution, and a seed that holds whatever else is in the batch."""

from __future__ import annotations

from typing import Any

import torch
from scipy.stats import chisquare, kstest


def sample(*arguments: Any) -> Any:
    """The CPU worker's; it imports vLLM, which takes seconds in each process that collects tests."""
    from fusechat.services import cpu_worker

    return cpu_worker.sample(*arguments)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Sampler:
    logprobs_mode = "raw_logprobs"


def draw(logits: torch.Tensor, seeds: dict[int, int]) -> list[int]:
    tokens, _ = sample(Sampler(), logits.clone(), {row: generator(s) for row, s in seeds.items()}, None, None)
    return tokens.tolist()


def test_noise_is_exponential_and_never_zero() -> None:
    from fusechat.services.cpu_worker import exponential_noise

    torch.manual_seed(0)
    noise = exponential_noise(torch.Size((4, 500_000)), {1: generator(1)})
    assert noise.min() > 0
    assert noise.isfinite().all()
    for row in noise:
        assert kstest(row[:20_000].double().numpy(), "expon").pvalue > 1e-3


def test_tokens_follow_their_probabilities() -> None:
    probs = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    num = 20_000
    tokens = draw(probs.log().float().repeat(num, 1), {row: row for row in range(num)})
    counts = torch.bincount(torch.tensor(tokens), minlength=4)
    assert chisquare(counts.numpy(), (probs * num).numpy()).pvalue > 1e-3


def test_a_seed_decides_its_row_whatever_stands_beside_it() -> None:
    logits = torch.randn(3, 1000, generator=generator(3))
    alone = [draw(logits[row : row + 1], {0: seed})[0] for row, seed in enumerate((7, 8, 9))]
    assert draw(logits, {0: 7, 1: 8, 2: 9}) == alone
    assert [draw(logits, {0: 7, 2: 9})[row] for row in (0, 2)] == [alone[0], alone[2]]


def test_top_k_leaves_no_other_token() -> None:
    logits = torch.randn(200, 50, generator=generator(4))
    best = logits.topk(2).indices
    k = torch.full((200,), 2)
    tokens, _ = sample(Sampler(), logits.clone(), {row: generator(row) for row in range(200)}, k, None)
    assert all(token in row for token, row in zip(tokens.tolist(), best.tolist(), strict=True))
