"""The better of the last two checkpoints: held-out rows by the prompt, the metric's direction, the chosen weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from forked import Forked
from pydantic import ValidationError

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.recipe import Dpo, Sft, Training
from fusechat.training import best_checkpoint, checkpoints, data, dpo, worker
from fusechat.training.driver import TrainingJob

COMMON: dict[str, Any] = {"global_batch_size": 4, "micro_batch_size": 2, "max_length": 128, "bf16": False}


def test_held_out_rows_hang_on_the_prompt_alone(sft_rows: Any) -> None:
    rows = sft_rows(200)
    trained, held = best_checkpoint.split_holdout(rows, "sft", 0.2)
    assert 20 < held.num_rows < 60
    ids = [set(t.column("row_id").to_pylist()) for t in (trained, held)]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == set(rows.column("row_id").to_pylist())
    assert set(best_checkpoint.split_holdout(rows.slice(50), "sft", 0.2)[1].column("row_id").to_pylist()) <= ids[1]
    assert best_checkpoint.split_holdout(rows, "sft", 0)[1].num_rows == 0
    with pytest.raises(StageError, match=r"none of 3 rows would be held out; change dpo\.holdout"):
        best_checkpoint.split_holdout(rows.slice(0, 3), "dpo", 1e-6)


def prepare(target: Path, folder: Path, rows: pa.Table, too_long: set[str]) -> tuple[worker.Prepared, TrainingJob]:
    """Prepares an SFT training with a held-out share, on rows of which some are longer than allowed."""
    lines = rows.to_pylist()
    for line in lines:
        line["prompt"] = line["prompt"] * (40 if line["row_id"] in too_long else 1)
    config = Sft(learning_rate=1e-3, num_epochs=1, holdout=0.2, choose="loss", **COMMON)
    job = TrainingJob(
        stage="sft",
        model=str(target),
        output=str(folder),
        config=config,
        num_workers=1,
        accumulation=2,
        use_gpu=False,
        chat_template=None,
        seed=0,
    )
    checkpoints.write(job.path("rows.parquet"), checkpoints.parquet_bytes(pa.Table.from_pylist(lines, rows.schema)))
    template = data.ChatTemplate(data.load_tokenizer(target, None))
    return worker._prepare(job, data.tokenize_sft, template), job


def test_rejects_among_held_out_rows_are_kept_too(target: Path, sft_rows: Any, tmp_path: Path) -> None:
    rows = sft_rows(60)
    _, held = best_checkpoint.split_holdout(rows, "sft", 0.2)
    refused = {"row-0", held["row_id"][0].as_py()}
    prepared, job = prepare(target, tmp_path, rows, refused)
    assert prepared["num_rejected"] == 2
    assert set(pq.read_table(job.path("rejects.parquet"))["id"].to_pylist()) == refused


def test_held_out_rows_that_are_all_refused_are_told_from_training_rows(
    target: Path, sft_rows: Any, tmp_path: Path
) -> None:
    rows = sft_rows(60)
    _, held = best_checkpoint.split_holdout(rows, "sft", 0.2)
    with pytest.raises(StageError, match=r"the rows held out by sft\.holdout: .*, or change sft\.holdout$"):
        prepare(target, tmp_path, rows, set(held["row_id"].to_pylist()))


def test_a_metric_needs_held_out_rows_and_they_a_metric() -> None:
    for settings in ({"choose": "loss"}, {"holdout": 0.1}):
        with pytest.raises(ValidationError, match="go together"):
            Dpo(learning_rate=1e-3, beta=1, **settings)
    with pytest.raises(ValidationError, match="'last', 'loss' or 'accuracy'"):
        Sft(learning_rate=1e-3, num_epochs=1, holdout=0.1, choose="margin")  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", ["loss", "accuracy", "margin"])
@pytest.mark.parametrize("good", [20, 30])
def test_the_better_checkpoints_weights_are_chosen(build: Any, pairs: Any, metric: Any, good: int) -> None:
    import torch

    config = Dpo(learning_rate=1e-3, beta=0.1, num_epochs=4, holdout=0.1, choose=metric, **COMMON)
    rows = pairs(12)
    trainer = build(config, rows, heldout=rows)
    before = {name: p.clone() for name, p in trainer.model.state_dict().items()}
    trainer.train()
    after = {name: p.clone() for name, p in trainer.model.state_dict().items()}
    for step in (20, 30):
        trainer.model.load_state_dict(after if step == good else before)
        folder = trainer.job.path("checkpoints", f"checkpoint-{step}")
        trainer.save_model(str(folder))
        checkpoints.mark_complete(folder)
    assert best_checkpoint.load_best(trainer, trainer.job) == good
    assert all(torch.equal(after[name], p) for name, p in trainer.model.state_dict().items())
    said = json.loads(trainer.job.path("evaluation.json").read_text())
    assert (said["metric"], said["chosen"]) == (metric, good)
    assert set(said["values"]) == {"20", "30"}


@pytest.mark.slow
def test_a_training_ends_with_the_better_of_its_last_two(
    forked_workers: Forked, target: Path, pairs: Any, tmp_path: Path
) -> None:
    config = Dpo(learning_rate=1e-3, beta=0.1, num_epochs=2, holdout=0.2, choose="accuracy", save_steps=3, **COMMON)
    rows: pa.Table = pairs(20)
    trained, held = best_checkpoint.split_holdout(rows, "dpo", 0.2)
    result = dpo.train(
        rows,
        model=target,
        output=tmp_path / "dpo",
        config=config,
        cluster=Training(num_workers=2),
        chat_template=None,
        seed=0,
    )
    assert result.num_rows == trained.num_rows == 20 - held.num_rows
    said = json.loads((tmp_path / "dpo" / "evaluation.json").read_text())
    steps = [int(step) for step in said["values"]]
    assert steps[-1] == result.num_steps
    assert len(steps) == 2
    assert said["chosen"] == max(steps, key=lambda s: (said["values"][str(s)], s))
