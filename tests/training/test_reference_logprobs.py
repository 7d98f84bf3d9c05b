"""DPO's reference values: computed once, found again by the next training, never used after an input changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_model import TEMPLATE

from fusechat.pipeline.recipe import Dpo
from fusechat.training import reference_logprobs

CONFIG = Dpo(
    learning_rate=1e-3, beta=10, global_batch_size=4, micro_batch_size=2, max_length=128, bf16=False, warmup_ratio=0
)
MARK = 123.0
"""No log-probability: where it shows up, the value came from the file."""


def _from_file(trainer: Any) -> bool:
    return set(trainer.train_dataset["ref_chosen_logps"]) == {MARK}


@pytest.fixture
def folder(build: Any, pairs: Any, tmp_path: Path) -> Path:
    """A folder in which one training has left its values, which then were marked."""
    kept = tmp_path / "reference"
    trainer = build(CONFIG, pairs(6), reference=kept)
    assert trainer.ref_model is None
    (file,) = kept.iterdir()
    values = pq.read_table(file)
    assert values["ref_chosen_logps"].to_pylist() == trainer.train_dataset["ref_chosen_logps"]
    marked = pa.table([[MARK] * 6, [MARK] * 6], schema=values.schema)
    pq.write_table(marked, file)
    return kept


@pytest.mark.parametrize("change", [{}, {"beta": 0.1}, {"learning_rate": 1e-5}, {"loss_type": "sigmoid"}])
def test_what_the_values_do_not_hang_on_finds_them_again(
    build: Any, pairs: Any, folder: Path, change: dict[str, Any]
) -> None:
    assert _from_file(build(CONFIG.model_copy(update=change), pairs(6), reference=folder))
    assert len(list(folder.iterdir())) == 1


def _other_weights(target: Path, folder: Path) -> dict[str, Any]:
    return {"model": _changed(target, folder, lambda net: net.model.norm.weight.data.mul_(1.0001))}


def _other_config(target: Path, folder: Path) -> dict[str, Any]:
    return {"model": _changed(target, folder, lambda net: setattr(net.config, "rms_norm_eps", 1e-5))}


def _changed(target: Path, folder: Path, change: Callable[[Any], Any]) -> Path:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    net = AutoModelForCausalLM.from_pretrained(target)
    change(net)
    net.save_pretrained(folder)
    AutoTokenizer.from_pretrained(target).save_pretrained(folder)
    return folder


CHANGES: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "weights": _other_weights,
    "config": _other_config,
    "rows": lambda *_: {"num": 5},
    "template": lambda *_: {"chat_template": TEMPLATE.replace("<|start|>", "<|start|>\n")},
    "a template of the same tokens": lambda *_: {"chat_template": "{# another #}" + TEMPLATE},
    "max_length": lambda *_: {"max_length": 127},
    "dtype": lambda *_: {"bf16": True},
    "micro-batches, and with them the padding": lambda *_: {"micro_batch_size": 1},
    "the order of the rows": lambda *_: {"seed": 1},
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_input_is_computed_anew(build: Any, pairs: Any, target: Path, folder: Path, name: str) -> None:
    changes = CHANGES[name](target, folder.parent / "changed")
    num = changes.pop("num", 6)
    fields = {key: changes.pop(key) for key in list(changes) if key in Dpo.model_fields}
    trainer = build(CONFIG.model_copy(update=fields), pairs(num), reference=folder, **changes)
    assert all(value < 0 for value in trainer.train_dataset["ref_chosen_logps"])
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize("damage", ["half", "other inputs", "fewer rows"])
def test_a_file_that_does_not_hold_is_computed_anew(build: Any, pairs: Any, folder: Path, damage: str) -> None:
    (file,) = folder.iterdir()
    if damage == "half":
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "other inputs":
        reference_logprobs.save(file, pq.read_table(file), {"weights": "others"})
    else:
        pq.write_table(pq.read_table(file).slice(0, 3), file)
    assert not _from_file(build(CONFIG, pairs(6), reference=folder))
    assert pq.read_table(file).num_rows == 6
