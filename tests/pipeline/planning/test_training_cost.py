"""The plan of training: memory computed by hand, suggested settings that do fit, and a run's rows and hours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from example_recipe import make_run, source_tree

from fusechat.pipeline.errors import CapacityError, RecipeError
from fusechat.pipeline.machine import accelerators as assumed
from fusechat.pipeline.planning import training_cost
from fusechat.pipeline.planning.memory import LLAMAS, Memory, check, memory, shape_by_size, shape_of
from fusechat.pipeline.planning.prompt_counts import counted
from fusechat.pipeline.planning.sampling_cost import sampled_lengths
from fusechat.pipeline.recipe import Dpo, Model, Optimization, Sft, Training
from fusechat.pipeline.run import Run
from fusechat.pipeline.stages.walk import walk

ONE_B, _, EIGHT_B, SEVENTY_B = LLAMAS
SFT = Sft(learning_rate=1e-5, num_epochs=3, micro_batch_size=2)
ONE_ROW = SFT.model_copy(update={"micro_batch_size": 1})
DPO = Dpo(learning_rate=1e-6, beta=10, micro_batch_size=2)


def test_states_take_16_bytes_a_parameter_and_their_share_where_sharded() -> None:
    whole = memory(EIGHT_B, SFT, Training(num_workers=8, num_gpus=1))
    assert whole.weights + whole.gradients + whole.moments == 16 * EIGHT_B.parameters
    assert whole.copies == 2 * EIGHT_B.parameters
    sharded = memory(EIGHT_B, SFT, Training(num_workers=8, num_gpus=1, shard=True))
    assert sharded.weights + sharded.gradients + sharded.moments == 2 * EIGHT_B.parameters
    offloaded = memory(EIGHT_B, SFT, Training(num_workers=8, num_gpus=1, shard=True, cpu_offload=True))
    assert offloaded.total == sharded.total - 2 * EIGHT_B.parameters


def test_activations_grow_with_the_pass_and_shrink_with_checkpointing() -> None:
    def kept(config: Optimization) -> float:
        return memory(ONE_B, config, Training(num_gpus=1)).activations

    assert kept(SFT.model_copy(update={"micro_batch_size": 4})) == 2 * kept(SFT)
    assert kept(DPO) == 2 * kept(SFT)  # both responses of a pair
    assert kept(SFT.model_copy(update={"gradient_checkpointing": True})) < kept(SFT) / 3
    assert kept(SFT.model_copy(update={"bf16": False})) > kept(SFT)


@pytest.mark.parametrize(
    ("shape", "config", "cluster", "device", "setting"),
    [
        (ONE_B, SFT, Training(num_gpus=1), 30e9, "--set sft.micro_batch_size=1 "),
        (
            ONE_B,
            SFT.model_copy(update={"micro_batch_size": 1}),
            Training(num_gpus=1),
            26e9,
            "sft.gradient_checkpointing",
        ),
        (EIGHT_B, DPO, Training(num_gpus=1, num_workers=8), 80e9, "--set training.shard=true "),
        (EIGHT_B, DPO, Training(num_gpus=1, num_workers=2), 80e9, "training.cpu_offload=true"),
        (EIGHT_B, SFT, Training(num_gpus=1), 80e9, "--set training.num_workers=2 --set training.shard=true"),
        (SEVENTY_B, SFT, Training(num_gpus=1), 24e9, "training.accelerator_type to a larger device"),
    ],
)
def test_what_cannot_fit_is_refused_with_the_setting_that_fits(
    shape: Any, config: Any, cluster: Training, device: float, setting: str
) -> None:
    stage = "dpo" if isinstance(config, Dpo) else "sft"
    with pytest.raises(CapacityError) as caught:
        check(stage, shape, config, cluster, device, "a device")
    assert setting in str(caught.value)
    changes = dict(part.split("=") for part in caught.value.setting.split() if "=" in part)
    sections = {stage: config, "training": cluster}
    for key, value in changes.items():
        section, name = key.split(".")
        sections[section] = sections[section].model_copy(update={name: json.loads(value)})
    if changes:
        assert isinstance(check(stage, shape, sections[stage], sections["training"], device, "a device"), Memory)


def test_a_shape_is_read_without_weights_or_guessed_by_size(target: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    shape = shape_of(target)
    assert shape.parameters == sum(p.numel() for p in AutoModelForCausalLM.from_pretrained(target).parameters())
    assert (shape.layers, shape.hidden, shape.kv_width) == (2, 32, 16)
    guessed = shape_by_size(9e9)
    assert (guessed.parameters, guessed.layers, guessed.exact) == (9e9, 32, False)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(RecipeError, match=r"target\.model: its config\.json does not describe a language model"):
        shape_of(tmp_path)


def test_devices_are_known_by_their_type() -> None:
    h100 = training_cost.device_of(Training(num_gpus=1, accelerator_type="H100"), None)
    assert (h100.memory, h100.peak) == (80e9, 989e12)
    assert training_cost.device_of(Training(num_gpus=1), None).memory is None
    assert training_cost.device_of(Training(), "auto").memory is None
    here = training_cost.device_of(Training(num_workers=2), None)
    assert here.memory == pytest.approx(training_cost.machine_memory() / 2)


def test_hours_are_operations_over_what_the_devices_reach() -> None:
    work = training_cost.TrainingWork(rows=1000, tokens=500, basis="")
    cluster = Training(num_gpus=1, num_workers=4)
    # 6 operations a parameter, token and epoch
    expected = 6 * 3 * ONE_B.parameters * 1000 * 500 / (1e12 * 0.5 * 4) / 3600
    assert training_cost.hours(ONE_B, SFT, cluster, work, 1e12, 0.5) == pytest.approx(expected)
    recomputed = SFT.model_copy(update={"gradient_checkpointing": True})
    assert training_cost.hours(ONE_B, recomputed, cluster, work, 1e12, 0.5) == pytest.approx(expected * 4 / 3)


def run(folder: Path, target: Path, **changes: Any) -> Run:
    """A run of 50 prompts with two samples each, whose prompts have been read."""
    rows = [{"id": str(i), "domain": "instruction", "prompt": f"{i} " + "x" * 200} for i in range(50)]
    model = {"path": str(target)}
    made = make_run(
        folder,
        rows,
        sources=[source_tree(model=model, samples={"instruction": 2})],
        target={"model": model},
        sft={"learning_rate": 1e-5, "num_epochs": 2},
        **changes,
    )
    walk(made, ("prompts",))
    return made


def inputs(run: Run) -> tuple[Any, ...]:
    return run.recipe, run.dir, counted(run).train, sampled_lengths(run)


def work_of(run: Run, config: Optimization) -> training_cost.TrainingWork:
    return training_cost.work_of(config, *inputs(run))


def describe(run: Run) -> str:
    recipe, *others = inputs(run)
    costs = training_cost.training_costs(recipe, run.base, *others)
    return "\n".join(training_cost.describe(recipe, run.base, costs))


def test_the_plan_counts_what_selection_takes_at_most(target: Path, tmp_path: Path) -> None:
    work = run(tmp_path, target)
    sft, dpo = work_of(work, work.recipe.sft), work_of(work, work.recipe.dpo)
    assert (sft.rows, dpo.rows) == (pytest.approx(20), pytest.approx(30))  # 4 : 6
    guess = assumed.SHARE_OF_MAX_TOKENS * 2048
    assert sft.tokens == pytest.approx(guess + 203 / assumed.CHARS_PER_TOKEN, abs=1)
    assert dpo.tokens == pytest.approx(2 * sft.tokens)
    text = describe(work)
    assert "sft: " in text and "2 epochs" in text and "30 pairs" in text


def test_the_plan_reads_the_rows_that_were_selected(target: Path, tmp_path: Path, sft_rows: Any, pairs: Any) -> None:
    work = run(tmp_path, target)
    work.dir.write_table(sft_rows(7), "select", "sft.parquet")
    work.dir.write_table(pairs(5), "select", "pairs.parquet")
    assert work_of(work, work.recipe.sft).rows == 7
    assert work_of(work, work.recipe.dpo).rows == 5
    assert "7 rows" in describe(work)


def test_the_plan_refuses_before_anything_starts(target: Path, tmp_path: Path) -> None:
    training = {"num_gpus": 1, "accelerator_type": "L4", "num_workers": 2}
    work = run(tmp_path, target, training=training)
    llama = Model(hub="meta-llama/Llama-3.1-8B-Instruct", revision="main")
    work.recipe = work.recipe.model_copy(update={"target": work.recipe.target.model_copy(update={"model": llama})})
    with pytest.raises(CapacityError, match=r"the sft training of 8.03G parameters needs .* has 22\.4 GiB \(L4 each\)"):
        describe(work)
