"""How the tests share a machine when several processes run them, and what several folders of tests use."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, settings
from tiny_model import make_tokenizer, write_model

from fusechat.pipeline.machine.hardware import machine_memory, num_cores
from fusechat.pipeline.records import PAIR, SFT_ROW

# No example fails because the machine is slow.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

if "PYTEST_XDIST_WORKER" in os.environ:
    # There is a process for each core already: more threads than that wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: a process a core, and 2 GB for each. The plugin's own count knows no container's limit."""
    return max(1, min(num_cores(), int(machine_memory() / 2e9)))


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """The tiny target's tokenizer."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Path:
    """A random two-layer Llama in float32 with its tokenizer, as a transformers folder."""
    folder = tmp_path_factory.mktemp("target")
    write_model(folder, tokenizer)
    return folder


def _messages(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def _row(index: int) -> dict[str, Any]:
    return {
        "prompt": _messages("user", f"what is {index} and {index + 1}?"),
        "row_id": f"row-{index}",
        "prompt_id": f"prompt-{index}",
        "domain": "math",
        "source": "source",
        "revision": "revision",
        "template": "t",
        "params": "{}",
        "recipe": "r",
        "code": "c",
    }


@pytest.fixture(scope="session")
def sft_rows() -> Callable[..., pa.Table]:
    """Makes SFT rows; `responses` replaces the answers."""

    def make(count: int, responses: list[str] | None = None) -> pa.Table:
        answers = responses or ["the answer is " + "twelve " * (1 + i % 5) for i in range(count)]
        lines = [
            _row(i)
            | {"completion": _messages("assistant", answers[i]), "response_id": f"r{i}", "seed": i, "reward": 0.5}
            for i in range(count)
        ]
        return pa.Table.from_pylist(lines, schema=SFT_ROW)

    return make


@pytest.fixture(scope="session")
def pairs() -> Callable[..., pa.Table]:
    """Makes preference pairs of different lengths."""

    def make(count: int, rejected: list[str] | None = None) -> pa.Table:
        worse = rejected or ["what " * (1 + i % 7) + str(i) for i in range(count)]
        lines = [
            _row(i)
            | {
                "chosen": _messages("assistant", f"the answer is {2 * i + 1}" + " twelve" * (i % 4)),
                "rejected": _messages("assistant", worse[i]),
                "chosen_id": f"c{i}",
                "rejected_id": f"j{i}",
                "chosen_seed": i,
                "rejected_seed": i,
                "chosen_reward": 1.0,
                "rejected_reward": 0.5,
                "margin": 0.5,
            }
            for i in range(count)
        ]
        return pa.Table.from_pylist(lines, schema=PAIR)

    return make
