"""FSDP2 on two workers: the curve and the weights of two whole copies, through a kill as well."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import forked
import pytest
from forked import Forked
from pydantic import ValidationError

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.recipe import Dpo, Sft, Training
from fusechat.training import checkpoints, dpo, ray_train, sft, sharding
from fusechat.training.driver import TrainingJob

from .conftest import training_workers

COMMON: dict[str, Any] = {
    "num_epochs": 10,
    "global_batch_size": 4,
    "micro_batch_size": 2,
    "max_length": 128,
    "bf16": False,
    "save_steps": 3,
}
STEPS = 40


@pytest.fixture
def train(target: Path, sft_rows: Any, pairs: Any) -> Callable[..., Path]:
    """Trains on two workers: `train(stage, output, shard)`, and returns the output."""

    def run(stage: str, output: Path, shard: bool, on_step: Any = None) -> Path:
        common: dict[str, Any] = {
            "model": target,
            "output": output,
            "cluster": Training(num_workers=2, shard=shard),
            "chat_template": None,
            "seed": 0,
            "on_step": on_step,
        }
        if stage == "sft":
            sft.train(sft_rows(14), config=Sft(learning_rate=1e-2, packing=True, **COMMON), **common)
        else:
            dpo.train(pairs(14), config=Dpo(learning_rate=1e-3, beta=0.1, **COMMON), **common)
        return output

    return run


def check_same(whole: Path, sharded: Path) -> None:
    from safetensors.torch import load_file

    losses, found = ([line["loss"] for line in checkpoints.read_metrics(o / "metrics.jsonl")] for o in (whole, sharded))
    assert len(losses) == STEPS
    assert found == pytest.approx(losses, abs=1e-5)
    weights, shares = (load_file(output / "model" / "model.safetensors") for output in (whole, sharded))
    assert shares.keys() == weights.keys()
    assert max(float((weights[name] - shares[name]).abs().max()) for name in weights) < 1e-5
    configs = [json.loads((output / "model" / "config.json").read_text()) for output in (whole, sharded)]
    assert configs[0] == configs[1]


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_sharded_training_is_that_of_whole_copies(
    forked_workers: Forked, train: Callable[..., Path], tmp_path: Path, stage: str
) -> None:
    whole = train(stage, tmp_path / "whole", shard=False)
    forked_workers.dies = (random.randrange(2), random.randrange(4, STEPS))
    with pytest.raises(StageError, match="training workers"):
        train(stage, tmp_path / "sharded", shard=True)
    assert checkpoints.latest_complete(tmp_path / "sharded" / "checkpoints")
    check_same(whole, train(stage, tmp_path / "sharded", shard=True))


@pytest.mark.slow
def test_ray_train_starts_both_workers_anew_when_one_is_killed(
    ray_cluster: None, train: Callable[..., Path], tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(event: Any) -> None:
        if not killed and event.step >= 4:
            killed.append(event.step)
            training_workers()[0].kill()

    with forked.workers():
        whole = train("sft", tmp_path / "whole", shard=False)
    sharded = train("sft", tmp_path / "sharded", shard=True, on_step=kill)
    assert killed
    check_same(whole, sharded)


def test_offloading_is_asked_of_transformers_and_has_a_group_on_cpus() -> None:
    job = TrainingJob(
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
    asked = sharding.from_pretrained_arguments(job)["distributed_config"]
    assert (asked.fsdp_size, asked.fsdp_cpu_offload, asked.fsdp_mixed_precision) == (2, True, False)
    assert sharding.from_pretrained_arguments(replace(job, shard=False)) == {}
    on_gpus = {"num_workers": 2, "num_gpus": 1, "shard": True}
    assert ray_train.process_group_backend(Training(**on_gpus, cpu_offload=True)) == "cpu:gloo,cuda:nccl"
    assert ray_train.process_group_backend(Training(**on_gpus)) == "nccl"


def test_sharding_needs_workers() -> None:
    with pytest.raises(ValidationError, match="set num_workers to 2 or more"):
        Training(shard=True)
    with pytest.raises(ValidationError, match="cpu_offload needs shard"):
        Training(num_workers=2, cpu_offload=True)
