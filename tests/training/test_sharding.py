"""FSDP2 on two workers: the curve and the weights of two whole copies, through a kill as well."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fusechat.pipeline.config import Dpo, Sft, Training
from fusechat.training import cluster, dpo, sft, sharding
from fusechat.training.loop import Job

from .conftest import training_workers

COMMON: dict[str, Any] = {
    "num_epochs": 3,
    "global_batch_size": 4,
    "micro_batch_size": 2,
    "max_length": 128,
    "bf16": False,
    "save_steps": 3,
}


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_sharded_training_is_that_of_whole_copies(
    ray_cluster: None, target: Path, sft_rows: Any, pairs: Any, tmp_path: Path, stage: str
) -> None:
    from safetensors.torch import load_file

    def run(name: str, shard: bool, on_step: Any = None) -> tuple[list[float], dict[str, Any], dict[str, Any]]:
        common: dict[str, Any] = {
            "model": target,
            "output": tmp_path / name,
            "cluster": Training(num_workers=2, shard=shard),
            "chat_template": None,
            "seed": 0,
            "on_step": on_step,
        }
        if stage == "sft":
            result = sft.train(sft_rows(14), config=Sft(learning_rate=1e-2, packing=True, **COMMON), **common)
        else:
            result = dpo.train(pairs(14), config=Dpo(learning_rate=1e-3, beta=0.1, **COMMON), **common)
        losses = [json.loads(line)["loss"] for line in result.metrics.open()]
        config = json.loads((result.model / "config.json").read_text())
        return losses, load_file(result.model / "model.safetensors"), config

    killed: list[int] = []

    def kill(event: Any) -> None:
        if not killed and event.step >= 4:
            killed.append(event.step)
            training_workers()[0].kill()

    losses, weights, config = run("whole", shard=False)
    sharded_losses, sharded, sharded_config = run("sharded", shard=True, on_step=kill)
    assert killed
    assert len(losses) == 12
    assert sharded_losses == pytest.approx(losses, abs=1e-5)
    assert sharded.keys() == weights.keys()
    assert max(float((weights[name] - sharded[name]).abs().max()) for name in weights) < 1e-5
    assert sharded_config == config


def test_offloading_is_asked_of_transformers_and_has_a_group_on_cpus() -> None:
    job = Job(
        stage="sft",
        model="m",
        output="o",
        config=Sft(learning_rate=1e-2, packing=True, **COMMON),
        num_workers=2,
        accumulation=1,
        use_gpu=True,
        chat_template=None,
        seed=0,
        shard=True,
        cpu_offload=True,
    )
    asked = sharding.loading(job)["distributed_config"]
    assert (asked.fsdp_size, asked.fsdp_cpu_offload, asked.fsdp_mixed_precision) == (2, True, False)
    assert sharding.loading(replace(job, shard=False)) == {}
    on_gpus = {"num_workers": 2, "num_gpus": 1, "shard": True}
    assert cluster._backend(Training(**on_gpus, cpu_offload=True)) == "cpu:gloo,cuda:nccl"
    assert cluster._backend(Training(**on_gpus)) == "nccl"


def test_sharding_needs_workers() -> None:
    with pytest.raises(ValidationError, match="set num_workers to 2 or more"):
        Training(shard=True)
    with pytest.raises(ValidationError, match="cpu_offload needs shard"):
        Training(num_workers=2, cpu_offload=True)
