"""Operations by hand, devices by their names, and what a training shows of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fusechat.pipeline.errors import RecipeError
from fusechat.pipeline.recipe import Dpo, Training
from fusechat.training import mfu, ray_train


def test_operations_are_those_counted_by_hand(target: Path) -> None:
    from transformers import AutoModelForCausalLM

    net = AutoModelForCausalLM.from_pretrained(target)
    layer = 32 * 32 + 2 * 32 * 16 + 32 * 32 + 3 * 32 * 64 + 2 * 32  # q, k and v, o, MLP, two norms
    head = net.config.vocab_size * 32
    assert mfu.matmul_parameters(net) == 2 * layer + 32 + head
    # a product of n tokens with a matrix of p values takes 2np operations forward, twice that backward; scores and
    # their product with the values take 2 x 2 x width x n^2 in each layer, causal half of it
    expected = sum(6 * (2 * layer + 32 + head) * n + 3 * 2 * (2 * 2 * 32 * n * n) / 2 for n in (10, 100))
    assert mfu.training_flops(net.config, mfu.matmul_parameters(net), [10, 100]) == expected
    net.config.tie_word_embeddings = True
    assert mfu.matmul_parameters(net) == sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("NVIDIA H100 80GB HBM3", 989), ("NVIDIA L40S", 362), ("NVIDIA L4", 121), ("Tesla T4", None), ("CPU", None)],
)
def test_a_device_is_known_by_its_name(name: str, tflops: float | None) -> None:
    assert mfu.peak_flops(name) == (tflops * 1e12 if tflops else None)


def test_a_tracker_whose_package_is_missing_is_refused() -> None:
    ray_train.check_packages(Training(report_to=("tensorboard",)))
    with pytest.raises(RecipeError, match=r"training\.report_to: the package mlflow is not installed"):
        ray_train.check_packages(Training(report_to=("tensorboard", "mlflow")))


def test_a_dpo_shows_its_lengths_in_jsonl_and_in_tensorboard(
    build: Any, pairs: Any, tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    config = Dpo(learning_rate=1e-3, beta=0.1, global_batch_size=4, micro_batch_size=2, max_length=128, bf16=False)
    rows = pairs(8)
    build(config.model_copy(update={"logging_steps": 2}), rows, report_to=("tensorboard",)).train()
    (line,) = [json.loads(line) for line in (tmp_path / "output" / "metrics.jsonl").open()]
    for name in ("chosen", "rejected"):  # both steps together hold all rows; a response ends with its end-of-turn token
        ids = [tokenizer(row[name][0]["content"])["input_ids"] for row in rows.to_pylist()]
        assert line[f"lengths/{name}"] == sum(len(x) + 1 for x in ids) / 8
    assert line["tokens"] == pytest.approx(line["tokens_per_s"] * line["seconds"])
    assert line["memory_gib"] > 0.1
    (events,) = (tmp_path / "board").iterdir()
    content = events.read_bytes()
    for tag in (b"train/lengths/chosen", b"train/tokens_per_s", b"train/rewards/margins", b"train/logps/rejected"):
        assert tag in content
