"""The benchmark for one GPU runs here too, in a tiny shape on the CPU: the product's own steps, both stages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("more", [[], ["--lora", "4"]])
def test_it_measures_both_stages_without_a_gpu(more: list[str]) -> None:
    script = Path(__file__).parents[1] / "bench" / "gpu_train.py"
    done = subprocess.run([sys.executable, script, "--steps", "1", *more], capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [line["stage"] for line in lines] == ["sft", "dpo"]
    assert all(line["tokens_per_s"] > 0 and line["step_s"] > 0 for line in lines)
