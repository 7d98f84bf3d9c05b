"""The benchmark for one GPU runs here too, in a tiny shape on the CPU: the product's own steps, both stages."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--lora", "4"]])
def test_it_measures_both_stages_without_a_gpu(
    more: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(Path(__file__).parents[1] / "bench" / "gpu_train.py")
    monkeypatch.setattr("sys.argv", [script, "--steps", "1", *more])
    runpy.run_path(script, run_name="__main__")  # here, where all that it imports is there
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["stage"] for line in lines] == ["sft", "dpo"]
    assert all(line["tokens_per_s"] > 0 and line["step_s"] > 0 for line in lines)
