"""FSDP2: what is asked of transformers, and what it needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from fusechat.pipeline.config import Sft, Training
from fusechat.training import cluster, sharding
from fusechat.training.loop import Job

COMMON: dict[str, Any] = {
    "num_epochs": 3,
    "global_batch_size": 4,
    "micro_batch_size": 2,
    "max_length": 128,
    "bf16": False,
    "save_steps": 3,
}


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
