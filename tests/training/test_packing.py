"""Packed rows see only themselves: the losses and gradients of unpacked training, and micro-batches of like size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.pipeline.errors import RecipeError
from fusechat.pipeline.recipe import Sft
from fusechat.training import packing

CONFIG = Sft(
    learning_rate=1e-2, num_epochs=2, global_batch_size=8, micro_batch_size=4, max_length=128, bf16=False, packing=True
)


def _gradients(trainer: Any) -> tuple[float, dict[str, Any]]:
    """Loss and gradients of the first step, as the Trainer makes them, accumulation included."""
    net = trainer.model
    net.train()
    batches, items = trainer.get_batch_samples(
        iter(trainer.get_train_dataloader()), trainer.args.gradient_accumulation_steps, "cpu"
    )
    trainer.current_gradient_accumulation_steps = len(batches)
    losses = [trainer.training_step(net, batch, items) for batch in batches]
    return float(sum(losses)), {name: p.grad.clone() for name, p in net.named_parameters()}


def _windowed(folder: Path, target: Path) -> Path:
    """A target whose layers look back 16 tokens: transformers' own mask has to keep the rows apart."""
    import torch
    from transformers import AutoTokenizer, MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(target)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    config = MistralConfig(
        vocab_size=len(tokenizer), num_key_value_heads=2, max_position_embeddings=256, sliding_window=16, **sizes, **ids
    )
    MistralForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", ["plain", "windowed"])
def test_packed_loss_and_gradients_are_those_of_unpacked_rows(
    build: Any, sft_rows: Any, target: Path, tmp_path: Path, kind: str
) -> None:
    model = target if kind == "plain" else _windowed(tmp_path / "windowed", target)
    packed = build(CONFIG, sft_rows(8), model=model)
    batch = next(iter(packed.get_train_dataloader()))
    assert batch["input_ids"].shape[0] == 1
    assert (batch["position_ids"] == 0).sum() == 4
    loss, gradients = _gradients(packed)
    expected_loss, expected = _gradients(build(CONFIG.model_copy(update={"packing": False}), sft_rows(8), model=model))
    assert loss == pytest.approx(expected_loss, abs=1e-5)
    assert max(float(g.abs().max()) for g in expected.values()) > 1e-2
    assert max(float((gradients[name] - expected[name]).abs().max()) for name in expected) < 1e-5


def test_a_neighbour_changes_nothing(build: Any, sft_rows: Any) -> None:
    import torch

    net = build(CONFIG, sft_rows(8)).model.eval()
    row, long, other = ({"input_ids": ids, "labels": ids} for ids in ([5, 9, 7], [11] * 30, [8, 4] * 9))
    with torch.no_grad():
        found = [
            net(**{k: v for k, v in packing.collate(rows).items() if k != "labels"}).logits[0, start : start + 3]
            for rows, start in (([row], 0), ([long, row], 30), ([other, row, long], 18))
        ]
    assert torch.allclose(found[0], found[1], atol=1e-6)
    assert torch.allclose(found[0], found[2], atol=1e-6)


def test_packed_training_walks_the_curve_of_unpacked(build: Any, sft_rows: Any) -> None:
    curves = []
    for packed in (True, False):
        trainer = build(CONFIG.model_copy(update={"packing": packed}), sft_rows(20))
        trainer.train()
        curves.append([line["loss"] for line in trainer.state.log_history if "loss" in line])
    assert len(curves[0]) == 6
    assert curves[0] == pytest.approx(curves[1], abs=1e-4)


@given(st.lists(st.integers(1, 100), min_size=1, max_size=40), st.integers(1, 9))
def test_a_deal_holds_every_row_once_in_full_groups(lengths: list[int], micro: int) -> None:
    rows = list(range(len(lengths)))
    dealt = packing.balanced_order(rows, lengths, micro)
    assert sorted(dealt) == rows
    totals = [sum(lengths[i] for i in dealt[g : g + micro]) for g in range(0, len(dealt) - micro + 1, micro)]
    if len(dealt) % micro == 0:
        assert max(totals) - min(totals) <= micro * max(lengths)


def test_a_deal_is_level() -> None:
    lengths = [(37 * i) % 101 + 1 for i in range(64)]
    dealt = packing.balanced_order(range(64), lengths, 8)
    totals = [sum(lengths[i] for i in dealt[g : g + 8]) for g in range(0, 64, 8)]
    assert max(totals) < 1.05 * min(totals)


def test_a_target_that_carries_state_past_a_row_is_refused(build: Any, sft_rows: Any) -> None:
    net = build(CONFIG.model_copy(update={"packing": False}), sft_rows(8)).model
    net.config.layer_types = ["full_attention", "linear_attention"]
    with pytest.raises(RecipeError, match=r"sft\.packing: .*linear_attention"):
        packing.install_attention(net)
