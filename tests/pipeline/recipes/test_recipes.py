"""The recipes that ship: every number of FuseChat-3.0 held against a table written down here."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fusechat.pipeline.planning.dry_run import describe
from fusechat.pipeline.recipe import ArmoRMReward, PromptTable, Recipe
from fusechat.pipeline.recipe import load as recipes
from fusechat.pipeline.recipe.load import packaged_recipes

# target: SFT learning rate, DPO learning rate, beta, length-normalised
TARGETS = {
    "fusechat3-llama3.1-8b": ("meta-llama/Llama-3.1-8B-Instruct", 5e-6, 8e-7, 10, True),
    "fusechat3-qwen2.5-7b": ("Qwen/Qwen2.5-7B-Instruct", 2e-6, 3e-7, 0.01, False),
    "fusechat3-gemma2-9b": ("google/gemma-2-9b-it", 2e-6, 5e-7, 0.01, False),
    "fusechat3-llama3.2-3b": ("meta-llama/Llama-3.2-3B-Instruct", 5e-6, 1e-6, 10, True),
    "fusechat3-llama3.2-1b": ("meta-llama/Llama-3.2-1B-Instruct", 5e-6, 1e-6, 10, True),
}

# source: temperature, top-p, repetition penalty, samples a prompt
EVERY = {"instruction": 5, "code": 8}
SOURCES: dict[str, tuple[float, float, float, dict[str, int]]] = {
    "google/gemma-2-27b-it": (0.8, 0.95, 1.0, EVERY),
    "mistralai/Mistral-Large-Instruct-2407": (0.8, 0.95, 1.0, EVERY),
    "Qwen/Qwen2.5-72B-Instruct": (0.7, 0.8, 1.05, {**EVERY, "chinese": 1}),
    "Qwen/Qwen2.5-Math-72B-Instruct": (0.7, 0.8, 1.05, {"math": 8}),
    "meta-llama/Llama-3.1-70B-Instruct": (0.8, 0.95, 1.0, EVERY),
}

# domain: share of the prompts for SFT alone, by yield, window of margins
RULES: dict[str, tuple[float, bool, float, float | None]] = {
    "instruction": (0.4, False, 0.01, 0.1),
    "math": (0, True, 0.01, 0.1),
    "code": (0, True, 0, None),
    "chinese": (1, False, 0, None),
}

GPU_MEMORY_GB = 80
WEIGHTS_GB = {"27b": 54, "Large": 246, "72B": 146, "70B": 141}
"""bfloat16, in the order of the sources' hub ids."""


# data set: prompts that the paper took of it
DATA_SETS = {
    "openbmb/UltraFeedback": 51_098,
    "Magpie-Align/Magpie-Pro-DPO-100K-v0.1": 20_374,
    "nvidia/HelpSteer2": 9_435,
    "nvidia/OpenMathInstruct-2": 51_803,
    "greengerong/leetcode": 3_113,
    "bigcode/self-oss-instruct-sc2-exec-filter-50k": 12_892,
    "llamafactory/alpaca_gpt4_zh": 2_471,
    "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese": 7_481,
}


def is_commit(revision: str | None) -> bool:
    return revision is not None and re.fullmatch("[0-9a-f]{40}", revision) is not None


def load(name: str) -> Recipe:
    return recipes.load(recipes.find(name))


def test_a_recipe_ships_for_each_target_and_the_demo() -> None:
    shipped = {p.stem for p in packaged_recipes().glob("*.yaml")}
    assert {name for name in shipped if not name.startswith("begin-")} == {"demo", *TARGETS}


@pytest.mark.parametrize("name", TARGETS)
def test_target_and_training_have_the_numbers_of_the_paper(name: str) -> None:
    hub, sft_rate, dpo_rate, beta, normalised = TARGETS[name]
    recipe = load(name)
    assert recipe.name == name
    assert recipe.target.model.hub == hub
    assert is_commit(recipe.target.model.revision)
    assert (recipe.sft.learning_rate, recipe.dpo.learning_rate, recipe.dpo.beta) == (sft_rate, dpo_rate, beta)
    assert recipe.dpo.loss_type == ("sigmoid_norm" if normalised else "sigmoid")
    assert (recipe.sft.num_epochs, recipe.dpo.num_epochs, recipe.dpo.save_steps) == (3, 1, 100)
    for stage in (recipe.sft, recipe.dpo):
        numbers = (stage.global_batch_size, stage.max_length, stage.lr_scheduler, stage.warmup_ratio)
        assert numbers == (128, 2048, "cosine", 0.1)
        assert stage.global_batch_size % (stage.micro_batch_size * recipe.training.num_workers) == 0


@pytest.mark.parametrize("name", TARGETS)
def test_sources_are_asked_as_the_paper_asks_them(name: str) -> None:
    recipe = load(name)
    assert {s.model.hub for s in recipe.served} == set(SOURCES)
    assert [s.name for s in recipe.sources if s.kind == "imported"] == ["llama-3.1-405b"]
    for source in recipe.served:
        temperature, top_p, penalty, samples = SOURCES[source.model.hub or ""]
        asked = source.sampling
        assert (asked.temperature, asked.top_p, asked.repetition_penalty) == (temperature, top_p, penalty)
        assert (asked.top_k, asked.min_p, asked.max_tokens) == (0, 0.0, 2048)
        assert dict(source.samples) == samples
        if source.name != "mistral-large-2407":  # its newest commit is not known
            assert is_commit(source.model.revision)
        assert source.system == ("merge" if source.name == "gemma-2-27b-it" else "keep")


@pytest.mark.parametrize("name", TARGETS)
def test_the_prompts_are_the_papers_data_sets_by_commit(name: str) -> None:
    tables = [entry for entry in load(name).prompts.train if isinstance(entry, PromptTable)]
    assert {table.hub: table.expected_rows for table in tables} == DATA_SETS
    for table in tables:
        assert table.sample in (None, table.expected_rows)
        if table.hub != "greengerong/leetcode":  # its commit is not known
            assert is_commit(table.revision)
    (math,) = (table for table in tables if table.domain == "math")
    assert math.responses == {"llama-3.1-405b": "generated_solution"}


@pytest.mark.parametrize("name", TARGETS)
def test_every_source_fits_gpus_of_80_gb(name: str) -> None:
    for source in load(name).served:
        weights = next(gb for key, gb in WEIGHTS_GB.items() if key in (source.model.hub or ""))
        workers = source.engine.tensor_parallel_size * source.engine.pipeline_parallel_size
        assert source.placement.num_gpus == 1
        assert weights / workers < 0.6 * GPU_MEMORY_GB, f"{source.name} leaves no room for a cache"
        assert source.engine.max_model_len >= 2 * source.sampling.max_tokens


@pytest.mark.parametrize("name", TARGETS)
def test_selection_has_the_splits_and_windows_of_the_paper(name: str) -> None:
    recipe = load(name)
    (reward,) = recipe.rewards
    assert isinstance(reward, ArmoRMReward)
    assert (reward.model.hub, recipe.score.reward) == ("RLHFlow/ArmoRM-Llama3-8B-v0.1", reward.name)
    for domain, (fraction, by_yield, low, high) in RULES.items():
        rule: Any = getattr(recipe.select, domain)
        assert (rule.sft_fraction, rule.fallback_to_sft) == (fraction, by_yield), domain
        assert (rule.margin.min, rule.margin.max, rule.keep_truncated) == (low, high, False), domain


def test_the_recipes_differ_in_the_target_and_its_training_only() -> None:
    sections: dict[str, Any] = dict.fromkeys(("name", "run_dir", "target", "sft", "dpo"), True)
    trees = [load(name).model_dump(exclude={**sections, "training": {"shard"}}) for name in TARGETS]
    assert all(tree == trees[0] for tree in trees)


@pytest.mark.parametrize("name", TARGETS)
def test_a_dry_run_names_every_source_and_the_target_without_weights_or_prompts(name: str) -> None:
    text = describe(load(name))
    for hub in (*SOURCES, TARGETS[name][0], "RLHFlow/ArmoRM-Llama3-8B-v0.1"):
        assert hub in text


@pytest.mark.parametrize("size", ["small", "full"])
def test_the_demo_loads_and_its_files_are_there(size: str) -> None:
    recipe = recipes.load(recipes.find("demo"), (f"size={size}",))
    templates = [s.chat_template for s in recipe.sources if s.chat_template]
    for file in (*recipe.prompts.train, *recipe.prompts.heldout, *templates):
        name = file if isinstance(file, str) else str(file.path)
        assert (packaged_recipes() / name).is_file(), name


def test_every_key_of_the_recipe_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs" / "recipe.md").read_text("utf-8")
    schema = Recipe.model_json_schema()
    keys = {k for node in (schema, *schema["$defs"].values()) for k in node.get("properties", {})}
    missing = sorted(k for k in keys if f"`{k}`" not in page)
    assert not missing


def test_the_example_of_the_page_loads(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "recipe.md").read_text("utf-8")
    path = tmp_path / "example.yaml"
    path.write_text(page.split("```yaml\n")[1].split("```")[0], "utf-8")
    assert recipes.load(path, ("sources.qwen2.5-7b.sampling.temperature=0.6",)).sources[0].sampling.temperature == 0.6
