"""DPO: both losses against the formula, the first loss ln 2, reference values that are computed once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import pytest
from forked import Forked

from fusechat.pipeline.recipe import Dpo, Training
from fusechat.training import data, dpo
from fusechat.training.driver import StepEvent

KINDS: tuple[Literal["sigmoid", "sigmoid_norm"], ...] = ("sigmoid", "sigmoid_norm")


def _config(**changes: Any) -> Dpo:
    settings: dict[str, Any] = {"learning_rate": 1e-3, "beta": 10, "global_batch_size": 4, "micro_batch_size": 2}
    return Dpo(**(settings | {"max_length": 128, "bf16": False, "warmup_ratio": 0} | changes))


def _log_prob(net: Any, prompt: list[int], response: list[int]) -> Any:
    """Sum of the response's token log-probabilities in float64, token by token."""
    import torch

    with torch.no_grad():
        logits = net(torch.tensor([prompt + response])).logits[0]
    spread = torch.log_softmax(logits, -1)
    return sum(spread[len(prompt) + i - 1, token] for i, token in enumerate(response))


def _expected(line: dict[str, list[int]], net: Any, reference: Any, beta: float, kind: str) -> float:
    """FuseChat-3.0, equations 2 and 3, as they stand."""
    import torch

    ratios = []
    for name in ("chosen_ids", "rejected_ids"):
        ratio = _log_prob(net, line["prompt_ids"], line[name]) - _log_prob(reference, line["prompt_ids"], line[name])
        ratios.append(ratio / len(line[name]) if kind == "sigmoid_norm" else ratio)
    return float(-torch.nn.functional.logsigmoid(beta * (ratios[0] - ratios[1])))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_dpo_starts_at_ln_2_and_its_second_loss_is_the_formulas(
    forked_workers: Forked, target: Path, pairs: Any, tokenizer: Any, tmp_path: Path, kind: Any
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    rows = pairs(4)  # one global batch: the second step's loss is that of the model after one step, on the same rows
    beta = 10 if kind == "sigmoid_norm" else 0.1
    both: list[StepEvent] = []
    config = _config(beta=beta, loss_type=kind, lr_scheduler="constant_with_warmup")
    common: dict[str, Any] = {"model": target, "cluster": Training(), "chat_template": None, "seed": 0}
    two = config.model_copy(update={"num_epochs": 2})
    dpo.train(rows, output=tmp_path / "two", config=two, on_step=both.append, **common)
    assert both[0].loss == pytest.approx(math.log(2), abs=1e-5)

    one = dpo.train(rows, output=tmp_path / "one", config=config, **common)
    after = AutoModelForCausalLM.from_pretrained(one.model, dtype=torch.float64)
    before = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float64)
    lines = data.tokenize_pairs(rows, data.ChatTemplate(tokenizer), 128).table.to_pylist()
    expected = sum(_expected(line, after, before, beta, kind) for line in lines) / len(lines)
    assert abs(expected - math.log(2)) > 1e-2, "the step must have moved the loss for the test to mean something"
    assert both[1].loss == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_dpo_prefers_the_chosen_under_autocast_on_two_workers(
    forked_workers: Forked, target: Path, pairs: Any, tmp_path: Path
) -> None:
    config = _config(bf16=True, num_epochs=3)
    result = dpo.train(
        pairs(16),
        model=target,
        output=tmp_path / "dpo",
        config=config,
        cluster=Training(num_workers=2),
        chat_template=None,
        seed=0,
    )
    lines = [json.loads(line) for line in result.metrics.read_text().splitlines()]
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-2)
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.05
    assert lines[-1]["rewards/margins"] > 0
    names = {"rewards/accuracies", "logps/chosen", "logps/rejected", "learning_rate", "grad_norm"}
    assert names <= set(lines[0])
    (reference,) = (tmp_path / "dpo").glob("reference-*.parquet")
    assert pq.read_table(reference).num_rows == 16


@pytest.mark.parametrize(("bf16", "within"), [(False, 1e-3), (True, 1e-2)])
@pytest.mark.parametrize(("kind", "beta"), [("sigmoid", 0.1), ("sigmoid_norm", 10)])
def test_the_first_loss_is_ln_2(
    build: Any, pairs: Any, kind: Literal["sigmoid", "sigmoid_norm"], beta: float, bf16: bool, within: float
) -> None:
    trainer = build(_config(beta=beta, loss_type=kind, bf16=bf16), pairs(8))
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(math.log(2), abs=within)


def test_the_head_agrees_with_plain_float64(target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from fusechat.training import lm_head

    torch.manual_seed(0)
    ids = torch.randint(5, 200, (3, 20))
    labels = ids.clone()
    labels[:, :6] = -100
    labels[1, 15:] = -100
    ours = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float64)
    weight = torch.rand(3, 19)
    lm_head.patch_forward(ours)
    found = ours(input_ids=ids, labels=labels, fused_lm_head=True)
    (found.log_probs * weight).sum().backward()

    spread = torch.log_softmax(plain(input_ids=ids).logits[:, :-1], -1)
    mask = labels[:, 1:] != -100
    expected = spread.gather(-1, ids[:, 1:, None])[..., 0] * mask
    (expected * weight).sum().backward()
    assert torch.allclose(found.log_probs.double(), expected, atol=1e-5)
    assert torch.allclose(found.entropy.double(), -(spread.exp() * spread).sum(-1) * mask, atol=1e-5)
    assert torch.equal(found.is_top1, (spread.argmax(-1) == ids[:, 1:]) & mask)
    gradients = zip(ours.parameters(), plain.parameters(), strict=True)
    assert all(torch.allclose(a.grad.double(), b.grad, atol=1e-5) for a, b in gradients)
