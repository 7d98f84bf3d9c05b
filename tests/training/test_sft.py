"""SFT under Ray Train on a tiny target: what is written, what is seen, what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import forked
import pyarrow as pa
import pytest
from forked import Forked

from fusechat.pipeline.errors import CapacityError, RecipeError, RunDirectoryError, StageError
from fusechat.pipeline.recipe import Sft, Training
from fusechat.training import checkpoints, sft
from fusechat.training.driver import StepEvent

CONFIG = Sft(
    learning_rate=1e-2,
    num_epochs=3,
    global_batch_size=4,
    micro_batch_size=2,
    max_length=128,
    bf16=False,
    save_steps=4,
)


def _train(rows: pa.Table, target: Path, output: Path, **changes: Any) -> Any:
    settings: dict[str, Any] = {"config": CONFIG, "cluster": Training(), "chat_template": None, "seed": 0}
    return sft.train(rows, model=target, output=output, **(settings | changes))


def _weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    weights: dict[str, Any] = load_file(folder / "model.safetensors")
    return weights


@pytest.mark.slow
def test_sft_learns_is_seen_live_and_writes_a_plain_folder(
    ray_cluster: None, target: Path, sft_rows: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    events: list[StepEvent] = []
    result = _train(sft_rows(14), target, tmp_path / "sft", on_step=events.append)

    steps = 3 * math.ceil(14 / 4)
    assert [e.step for e in events] == list(range(1, steps + 1))
    assert {e.num_steps for e in events} == {steps} == {result.num_steps}
    assert events[-1].loss < events[0].loss - 0.5
    assert sum(e.tokens for e in events) == result.num_tokens
    assert (result.num_rows, result.num_truncated, result.num_rejected) == (14, 0, 0)

    lines = [json.loads(line) for line in result.metrics.read_text().splitlines()]
    assert all({"loss", "learning_rate", "grad_norm", "tokens_per_s", "memory_gib"} <= set(line) for line in lines)
    # 12 steps, two of them (12 x 0.1, rounded up) warm-up: the third step has the full rate
    assert [line["learning_rate"] for line in lines[:3]] == pytest.approx([0, 5e-3, 1e-2])

    net = AutoModelForCausalLM.from_pretrained(result.model)
    tokenizer = AutoTokenizer.from_pretrained(result.model)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(target).chat_template
    assert net.generation_config.eos_token_id == tokenizer.eos_token_id
    assert next(net.parameters()).dtype == next(AutoModelForCausalLM.from_pretrained(target).parameters()).dtype
    assert not (tmp_path / "sft" / "checkpoints").exists()

    again: list[StepEvent] = []
    assert _train(sft_rows(14), target, tmp_path / "sft", on_step=again.append).num_steps == steps
    assert not again
    with pytest.raises(RunDirectoryError, match="other rows or settings"):
        _train(sft_rows(13), target, tmp_path / "sft")


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_with_its_step(
    forked_workers: Forked, target: Path, sft_rows: Any, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    net = AutoModelForCausalLM.from_pretrained(target)
    net.model.norm.weight.data.fill_(float("nan"))
    broken = tmp_path / "broken"
    net.save_pretrained(broken)
    AutoTokenizer.from_pretrained(target).save_pretrained(broken)
    with pytest.raises(
        StageError, match=r"stage sft, step 1: loss is nan.*rows of this step: row-\d, row-\d, row-\d, row-\d$"
    ):
        _train(sft_rows(8), broken, tmp_path / "sft")


@pytest.mark.slow
def test_refusals_of_the_worker_reach_the_driver(
    ray_cluster: None, target: Path, sft_rows: Any, tmp_path: Path
) -> None:
    with pytest.raises(StageError, match=r"row-1.*empty"):
        _train(sft_rows(2, ["twelve", " "]), target, tmp_path / "empty", cluster=Training(num_workers=2))
    with forked.workers(), pytest.raises(RecipeError, match=r"target\.chat_template") as caught:
        _train(sft_rows(2), target, tmp_path / "template", chat_template="no messages")
    assert caught.value.key == "target.chat_template"
    full = tmp_path / "full"
    full.mkdir()
    (full / "tokens.arrow.partial").symlink_to("/dev/full")
    with pytest.raises(StageError, match=r"stage sft, .*full: no space left"):
        _train(sft_rows(2), target, full)


@pytest.mark.slow
def test_workers_that_fit_nowhere_are_refused_at_once(
    ray_cluster: None, target: Path, sft_rows: Any, tmp_path: Path
) -> None:
    cluster = Training(num_workers=2, num_cpus=3)
    with pytest.raises(CapacityError, match=r"training\.num_workers"):
        _train(sft_rows(8), target, tmp_path / "sft", cluster=cluster)


def test_what_the_driver_refuses_needs_no_cluster(target: Path, sft_rows: Any, tmp_path: Path) -> None:
    with pytest.raises(StageError, match="selection chose no SFT row"):
        _train(sft_rows(0), target, tmp_path / "a")
    with pytest.raises(RecipeError, match=r"sft\.global_batch_size"):
        _train(sft_rows(4), target, tmp_path / "b", cluster=Training(num_workers=3))
    with pytest.raises(RecipeError, match=r"target\.model"):
        _train(sft_rows(4), tmp_path, tmp_path / "c")
    full = tmp_path / "full"
    full.mkdir()
    (full / "rows.parquet.partial").symlink_to("/dev/full")
    with pytest.raises(StageError, match=r"stage sft, .*full: no space left; free some"):
        _train(sft_rows(4), target, full)
    checkpoints.write(tmp_path / "other" / "key.json", b'{"key": "of another recipe"}')
    with pytest.raises(RunDirectoryError, match="holds a training of other rows or settings"):
        _train(sft_rows(4), target, tmp_path / "other")
