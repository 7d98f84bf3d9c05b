"""LoRA on a tiny target: what is trained, what is written, what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from forked import Forked
from pydantic import ValidationError

from fusechat.pipeline.errors import RecipeError, StageError
from fusechat.pipeline.planning.memory import LLAMAS, memory
from fusechat.pipeline.recipe import Dpo, Lora, Sft, Training
from fusechat.training import checkpoints, mfu, ray_train, sft

COMMON: dict[str, Any] = {
    "num_epochs": 3,
    "global_batch_size": 4,
    "micro_batch_size": 2,
    "max_length": 128,
    "bf16": False,
    "save_steps": 4,
    "lora": Lora(r=4, alpha=8),
}
SFT = Sft(learning_rate=5e-2, **COMMON)
DPO = Dpo(learning_rate=1e-2, beta=0.5, **COMMON)


def trained(net: Any) -> dict[str, Any]:
    return {name: p for name, p in net.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("packing", [False, True])
def test_only_the_matrices_learn(build: Any, sft_rows: Any, packing: bool) -> None:
    trainer = build(SFT.model_copy(update={"packing": packing}), sft_rows(16))
    net = trainer.model
    frozen = {name: p.detach().clone() for name, p in net.named_parameters() if not p.requires_grad}
    layers = 2 * ((32 + 32) * 2 + (32 + 16) * 2 + (32 + 64) * 3)  # q and o, k and v, gate, up and down
    assert sum(p.numel() for p in trained(net).values()) == 4 * layers
    trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    assert losses[-1] < losses[0] - 0.1
    for name, p in net.named_parameters():
        assert name not in frozen or bool((p == frozen[name]).all()), name


def test_dpo_starts_at_ln_2_and_learns_to_prefer(build: Any, pairs: Any) -> None:
    trainer = build(DPO, pairs(16))
    trainer.train()
    lines = [line for line in trainer.state.log_history if "loss" in line]
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-3)  # the matrices add nothing yet
    assert lines[-1]["loss"] < math.log(2) - 0.01
    assert lines[-1]["rewards/margins"] > 0


@pytest.mark.slow
def test_the_result_is_a_plain_folder_through_a_kill(
    forked_workers: Forked, target: Path, sft_rows: Any, tmp_path: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    # the last two checkpoints are loaded and held against each other as well
    config = SFT.model_copy(update={"holdout": 0.3, "choose": "loss"})
    common: dict[str, Any] = {
        "model": target,
        "config": config,
        "cluster": Training(),
        "chat_template": None,
        "seed": 0,
    }
    calm = sft.train(sft_rows(20), output=tmp_path / "calm", **common)
    forked_workers.dies = (0, 6)
    with pytest.raises(StageError, match="training workers"):
        sft.train(sft_rows(20), output=tmp_path / "killed", **common)
    assert checkpoints.step_of(checkpoints.latest_complete(tmp_path / "killed" / "checkpoints")) == 4
    result = sft.train(sft_rows(20), output=tmp_path / "killed", **common)

    folder, other = (tmp_path / name / "model" for name in ("killed", "calm"))
    net, same = (AutoModelForCausalLM.from_pretrained(f) for f in (folder, other))
    weights, expected = net.state_dict(), same.state_dict()
    assert max(float((weights[name] - expected[name]).abs().max()) for name in expected) < 1e-6
    losses = [json.loads(line)["loss"] for line in result.metrics.open()]
    assert losses == pytest.approx([json.loads(line)["loss"] for line in calm.metrics.open()], abs=1e-5)
    base = AutoModelForCausalLM.from_pretrained(target)
    ids = torch.arange(5, 45)[None]
    before = base(ids).logits
    adapted = PeftModel.from_pretrained(base, tmp_path / "killed" / "adapter")
    assert float((net(ids).logits - adapted(ids).logits).abs().max()) < 1e-4
    assert float((net(ids).logits - before).abs().max()) > 0.1
    assert not list(folder.glob("adapter*"))


def test_a_target_that_matches_nothing_is_named_with_what_there_is(build: Any, sft_rows: Any, pairs: Any) -> None:
    lora = Lora(target_modules=("q_proj", "w_pack"))
    with pytest.raises(RecipeError) as caught:
        build(SFT.model_copy(update={"lora": lora}), sft_rows(4))
    allowed = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    assert str(caught.value) == f"sft.lora.target_modules: the target's linear layers are {allowed} (given: 'w_pack')"
    with pytest.raises(RecipeError, match=r"dpo\.lora\.target_modules"):
        build(DPO.model_copy(update={"lora": Lora(target_modules=("lm_head",))}), pairs(4))


def test_settings_that_mean_nothing_are_refused() -> None:
    for changes in ({"r": 0}, {"dropout": 1}, {"target_modules": []}, {"rank": 8}):
        with pytest.raises(ValidationError):
            Lora.model_validate(changes)
    with pytest.raises(ValidationError, match="kernels needs num_gpus above 0"):
        Training(kernels="hub")
    with pytest.raises(RecipeError, match=r"training\.kernels: .*liger_kernel is not installed here"):
        ray_train.check_packages(Training(kernels="liger", num_gpus=1))


def test_the_plan_counts_what_is_trained() -> None:
    eight, one_gpu = LLAMAS[2], Training(num_gpus=1)
    config = Sft(learning_rate=1e-4, num_epochs=1, lora=Lora(r=16))
    need = memory(eight, config, one_gpu)
    assert need.weights == pytest.approx(2 * eight.parameters, rel=0.02)
    assert need.gradients + need.moments < 0.04 * need.weights  # 42 million matrices' weights, 12 bytes each
    assert need.total < memory(eight, config.model_copy(update={"lora": None}), one_gpu).total / 3


def test_what_is_not_trained_costs_two_thirds(build: Any, sft_rows: Any, target: Path) -> None:
    from transformers import AutoModelForCausalLM

    whole = mfu.matmul_parameters(AutoModelForCausalLM.from_pretrained(target))
    net = build(SFT, sft_rows(4)).model
    matrices = sum(p.numel() for p in trained(net).values())
    assert mfu.matmul_parameters(net) == pytest.approx(whole * 2 / 3 + matrices)
