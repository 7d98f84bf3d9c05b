"""The global batch is met exactly or refused with a way out; workers get a fitting environment."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.pipeline.errors import RecipeError
from fusechat.pipeline.recipe import Sft, Training
from fusechat.training import ray_train


def _sft(size: int, micro: int) -> Sft:
    return Sft(learning_rate=1e-4, num_epochs=1, global_batch_size=size, micro_batch_size=micro)


@given(st.integers(1, 256), st.integers(1, 16), st.integers(1, 9))
def test_the_global_batch_is_exact_or_every_proposal_works(size: int, micro: int, workers: int) -> None:
    try:
        steps = ray_train.accumulation_steps("sft", _sft(size, micro), Training(num_workers=workers))
        assert workers * micro * steps == size
    except RecipeError as error:
        assert size % (workers * micro)
        sizes, other = error.allowed.split(": take ")[1].split(", or ")
        for proposal in sizes.split(" or "):
            assert ray_train.accumulation_steps("sft", _sft(int(proposal), micro), Training(num_workers=workers))
        if other.startswith("sft.micro_batch_size"):
            for proposal in re.findall(r"\d+", other):
                ray_train.accumulation_steps("sft", _sft(size, int(proposal)), Training(num_workers=workers))
        else:
            fewer, one = map(int, re.findall(r"\d+", other))
            ray_train.accumulation_steps("sft", _sft(size, one), Training(num_workers=fewer))


def test_a_global_batch_that_cannot_be_met_names_the_setting() -> None:
    with pytest.raises(RecipeError, match=r"dpo\.global_batch_size: .*3 x 4 = 12: take 120 or 132") as caught:
        ray_train.accumulation_steps("dpo", _sft(128, 4), Training(num_workers=3))
    assert caught.value.key == "dpo.global_batch_size"


def test_a_cpu_worker_gets_its_cores_and_an_allocator() -> None:
    env = ray_train.worker_env(Training(num_cpus=2))
    assert env["OMP_NUM_THREADS"] == "2"
    assert "LD_PRELOAD" in env or "MALLOC_TOP_PAD_" in env


def test_a_gpu_worker_keeps_the_systems_allocator() -> None:
    env = ray_train.worker_env(Training(num_gpus=1))
    assert "LD_PRELOAD" not in env
    assert "OMP_NUM_THREADS" not in env


def test_the_recipes_environment_has_the_last_word() -> None:
    assert ray_train.worker_env(Training(env={"OMP_NUM_THREADS": "7"}))["OMP_NUM_THREADS"] == "7"


def test_why_workers_failed_is_one_line_that_helps() -> None:
    killed = RuntimeError("Task was killed due to the node running low on memory.\nRefer to the documentation\n")
    assert "sft.micro_batch_size" in ray_train.failure_reason("sft", killed)
    told = RuntimeError("Traceback\n  ValueError: bad rows\nsee https://docs\n")
    assert ray_train.failure_reason("sft", told) == "ValueError: bad rows"
    assert ray_train.failure_reason("sft", RuntimeError()) == "RuntimeError"
