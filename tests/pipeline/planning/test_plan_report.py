"""The whole plan on a machine without the data: the recipe's counts, and every number that follows from them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from example_recipe import make_recipe, quiet_run, recipe_tree, source_tree, write_jsonl
from pydantic import ValidationError
from typer.testing import CliRunner, Result

from fusechat.pipeline.cli.main import app
from fusechat.pipeline.errors import InputError, RecipeError, RunDirectoryError
from fusechat.pipeline.planning import disk_cost, engine_memory, prompt_counts, stage_costs, suite_counts
from fusechat.pipeline.planning.sampling_cost import estimate
from fusechat.pipeline.planning.training_cost import training_costs
from fusechat.pipeline.recipe import PromptTable
from fusechat.pipeline.recipe.load import find, load, packaged_recipes
from fusechat.pipeline.run import Run

SETS = [
    ("openbmb/UltraFeedback", "instruction", 51098),
    ("Magpie-Align/Magpie-Pro-DPO-100K-v0.1", "instruction", 20374),
    ("nvidia/HelpSteer2", "instruction", 9435),
    ("nvidia/OpenMathInstruct-2", "math", 51803),
    ("greengerong/leetcode", "code", 3113),
    ("bigcode/self-oss-instruct-sc2-exec-filter-50k", "code", 12892),
    ("llamafactory/alpaca_gpt4_zh", "chinese", 2471),
    ("Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese", "chinese", 7481),
]
"""The paper's data sets: hub id, domain, and prompts."""
UNREACHABLE = InputError("openbmb/UltraFeedback@main", 0, "the data set can't be loaded")
UNREACHABLE.__cause__ = ConnectionError("no route")
GPU = {"num_cpus": 1, "num_gpus": 1}


def hub_table(hub: str, domain: str | None = None, rows: int | None = None, **more: Any) -> dict[str, Any]:
    """A table of a data set on the hub."""
    table = {"hub": hub, "revision": "0" * 40, "columns": {"prompt": "text"}, "id": "generated", **more}
    return table | ({} if domain is None else {"domain": domain}) | ({} if rows is None else {"expected_rows": rows})


def source(name: str, hub: str, gpus: int, **samples: int) -> dict[str, Any]:
    """A source on GPUs."""
    model = {"hub": hub, "revision": "main"}
    return source_tree(name, model=model, engine={"tensor_parallel_size": gpus}, placement=GPU, samples=samples)


def paper(folder: Path, **changes: Any) -> dict[str, Any]:
    """A recipe of the paper's sets and two of its sources, with mathematics imported as well."""
    tables = [hub_table(hub, domain, rows) for hub, domain, rows in SETS]
    tables[3]["responses"] = {"llama-3.1-405b": "generated_solution"}
    every = {"instruction": 5, "code": 8}
    tree = recipe_tree(
        run_dir=str(folder / "run"),
        prompts={"train": tables},
        sources=[
            source("gemma-2-27b-it", "google/gemma-2-27b-it", 2, **every),
            source("qwen2.5-72b", "Qwen/Qwen2.5-72B-Instruct", 4, **every, chinese=1),
            {"kind": "imported", "name": "llama-3.1-405b"},
        ],
        rewards=[
            {
                "name": "armorm",
                "kind": "armorm",
                "model": {"hub": "RLHFlow/ArmoRM-Llama3-8B-v0.1", "revision": "main"},
                "placement": GPU,
            }
        ],
        score={"reward": "armorm"},
        target={"model": {"hub": "meta-llama/Llama-3.1-8B-Instruct", "revision": "main"}},
        sft={"learning_rate": 5e-6, "num_epochs": 3, "gradient_checkpointing": True},
        training={"num_workers": 8, **GPU, "shard": True},
        evaluate={"placement": GPU},
    )
    return tree | changes


def plan(tree: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """`fusechat plan` of a recipe, without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    path = folder / "r.yaml"
    path.write_text(yaml.safe_dump(tree), "utf-8")
    return CliRunner().invoke(app, ["plan", str(path)])


def unread(folder: Path, **changes: Any) -> Run:
    """A run of the paper's recipe whose prompts were not read."""
    return quiet_run(make_recipe(**paper(folder, **changes)), folder)


def table(text: str, first: str) -> dict[str, list[str]]:
    """The table that begins with this word: first cell of a line -> its other cells."""
    block = next(b for b in text.split("\n\n") if b.startswith(first))
    rows = [re.split(r"\s{2,}", line.strip()) for line in block.splitlines()]
    return {row[0]: row[1:] for row in rows}


# --- the plan as text


def test_the_plan_works_without_data_models_and_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = plan(paper(tmp_path), tmp_path, monkeypatch)
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert text.startswith("prompts: 158667 (80907 instruction, 51803 math, 16005 code, 9952 chinese)\n")
    assert "these are counts of the recipe (expected_rows), not of the data" in text
    assert "Couldn't reach 'openbmb/UltraFeedback' on the Hub" in " ".join(text.split())
    for hub, domain, rows in SETS:
        tokens = {"instruction": 185, "math": 60, "code": 150, "chinese": 40}[domain]
        assert re.search(rf"^  {hub}/train +{domain} +{rows} +{tokens} +the recipe$", text, re.MULTILINE)
    samples = 5 * 80907 + 8 * 16005
    assert table(text, "sampling")["gemma-2-27b-it"][:2] == [str(samples)] * 2
    assert table(text, "sampling")["qwen2.5-72b"][0] == str(samples + 9952)
    # Without held-out prompts and suites, nothing is evaluated.
    assert list(table(text, "stage"))[1:6] == ["sample", "score", "sft", "dpo", "all"]
    assert "8.03G parameters (as published)" in text
    assert "  prompts, tokens: instruction as UltraFeedback's" in text
    assert max(map(len, text.splitlines())) <= 120


PAPER = sorted(path.stem for path in packaged_recipes().glob("fusechat3-*.yaml"))


def test_five_recipes_are_of_the_paper() -> None:
    assert len(PAPER) == 5


@pytest.mark.parametrize("name", PAPER)
def test_every_recipe_of_the_paper_is_planned(name: str, tmp_path: Path) -> None:
    run = quiet_run(load(find(name), (f"run_dir={tmp_path}",)), packaged_recipes())
    found = prompt_counts.expected(run, UNREACHABLE)
    assert sum(c.rows for c in found.train.values()) == sum(rows for _, _, rows in SETS)


def test_a_sample_bounds_what_a_table_is_expected_to_give(tmp_path: Path) -> None:
    change = (f"run_dir={tmp_path}", "prompts.train.3.sample=1000")
    found = prompt_counts.expected(quiet_run(load(find(PAPER[0]), change), packaged_recipes()), UNREACHABLE)
    assert found.train["math"].rows == 1000


def test_a_set_without_data_and_count_is_named_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [hub_table("owner/known", "instruction", 10), hub_table("owner/unknown", "instruction")]
    result = plan(paper(tmp_path, prompts={"train": tables}), tmp_path, monkeypatch)
    assert isinstance(result.exception, RecipeError)
    assert str(result.exception).startswith(
        "prompts.train.1.expected_rows: owner/unknown/train can't be read on this machine"
    )


def test_a_table_without_a_count_is_dumped_as_by_earlier_versions() -> None:
    assert "expected_rows" not in PromptTable(path="a.jsonl").model_dump()
    assert PromptTable(path="a.jsonl", expected_rows=3).model_dump()["expected_rows"] == 3
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        PromptTable(path="a.jsonl", expected_rows=0)


# --- what is counted


def test_sets_on_this_machine_are_read_and_the_others_expected(tmp_path: Path) -> None:
    write_jsonl(
        tmp_path / "here.jsonl",
        [{"id": str(i), "domain": "math", "prompt": f"{i}" + "x" * 79, "gold": "1"} for i in range(8)],
    )
    run = quiet_run(
        make_recipe(
            run_dir=str(tmp_path / "run"),
            prompts={
                "train": ["here.jsonl", {"path": "gone.jsonl", "domain": "math", "expected_rows": 24}],
                "heldout": [hub_table("owner/heldout", rows=5)],
            },
        ),
        tmp_path,
    )
    found = prompt_counts.expected(run, UNREACHABLE)
    assert found.train["math"].rows == 32
    assert found.train["math"].tokens == pytest.approx((8 * 20 + 24 * 60) / 32)
    assert [s.basis for s in found.sets] == ["the data", "the recipe", "the recipe, instruction by its columns"]
    assert found.heldout["instruction"].rows == 5
    assert not (tmp_path / "run" / "prompts").exists()


def test_the_run_directorys_prompts_count_where_they_have_been_read(tmp_path: Path) -> None:
    from fusechat.pipeline.stages.walk import walk

    write_jsonl(tmp_path / "train.jsonl", [{"id": "1", "domain": "instruction", "prompt": "x" * 40}])
    run = quiet_run(make_recipe(run_dir=str(tmp_path / "run")), tmp_path)
    walk(run, ("prompts",))
    (tmp_path / "train.jsonl").unlink()
    with pytest.raises(InputError) as caught:
        walk(run, ("prompts",))
    assert prompt_counts.is_unreachable(caught.value)
    found = prompt_counts.expected(run, caught.value)
    assert (found.train["instruction"], found.expected) == (prompt_counts.DomainCount(1, 10), False)
    assert "these are the run directory's prompts; their data can't be read here:" in prompt_counts.describe(found)


def test_only_data_that_is_not_here_is_replaced_by_a_count(tmp_path: Path) -> None:
    from datasets.exceptions import DatasetNotFoundError

    assert prompt_counts.is_unreachable(UNREACHABLE)
    gated = InputError("owner/gated@main", 0, "the data set can't be loaded")
    gated.__cause__ = DatasetNotFoundError("a gated data set")
    assert prompt_counts.is_unreachable(gated)
    assert not prompt_counts.is_unreachable(InputError("a.jsonl", 3, "id is missing"))
    unwritable = RunDirectoryError("run: read-only")
    unwritable.__cause__ = PermissionError()
    assert not prompt_counts.is_unreachable(unwritable)
    write_jsonl(tmp_path / "train.jsonl", [{"id": "1", "domain": "instruction", "prompt": "x"}])
    with pytest.raises(InputError, match="can't be loaded"):
        prompt_counts.expected(quiet_run(make_recipe(run_dir=str(tmp_path / "run")), tmp_path), UNREACHABLE)


# --- what follows from the counts


def test_rewards_read_prompts_and_responses_of_all_sources(tmp_path: Path) -> None:
    run = unread(tmp_path)
    counts = prompt_counts.expected(run, UNREACHABLE)
    cost = stage_costs.scoring_cost(run.recipe, run.base, counts, {})
    instruction, code = 2 * 5 * 80907, 2 * 8 * 16005
    expected = instruction * (185 + 1024) + code * (150 + 1024) + 9952 * (40 + 1024) + 51803 * (60 + 1024)
    assert cost.tokens == pytest.approx(expected)
    assert cost.work == f"{instruction + code + 9952 + 51803} responses at most, by armorm; 0.4 CPU-hours of verdicts"
    # two operations a parameter and token, at 40% of an H100; of code and the imported mathematics also verdicts
    checks_s = (8 * 2 * 16005 * 0.006 + 51803 * 0.001) / 2
    assert cost.seconds == pytest.approx(3600 * cost.gpu_hours + checks_s)
    assert 3600 * cost.gpu_hours == pytest.approx(2 * 7_511_316_861 * expected / (0.4 * 989e12), rel=0.01)


def test_sources_take_turns_on_the_smallest_cluster(tmp_path: Path) -> None:
    run = unread(tmp_path, training={"num_workers": 4, **GPU, "shard": True})
    counts = prompt_counts.expected(run, UNREACHABLE)
    estimates, total = estimate(run, counts, {})
    sample = stage_costs.stage_costs(run, counts, estimates, total, [], [], {})[0]
    gemma, qwen = estimates
    assert (stage_costs.smallest_cluster(run.recipe), sample.gpus) == (4, 6)
    assert sample.seconds == pytest.approx(max(gemma.seconds, qwen.seconds), abs=10)
    assert sample.seconds_in_turns == pytest.approx(gemma.seconds + qwen.seconds, abs=10)
    assert sample.gpu_hours == pytest.approx((2 * gemma.seconds + 4 * qwen.seconds) / 3600)


def test_the_disk_holds_weights_checkpoints_and_models(tmp_path: Path) -> None:
    run = unread(tmp_path)
    counts = prompt_counts.expected(run, UNREACHABLE)
    estimates, _ = estimate(run, counts, {})
    trainings = training_costs(run.recipe, tmp_path, run.dir, counts.train, {})
    evaluation = stage_costs.evaluation_cost(run, counts, [])
    uses = {u.what: u.num_bytes for u in disk_cost.disk_uses(run.recipe, tmp_path, estimates, trainings, evaluation)}
    models = 27_227_128_320 + 72_706_203_648 + 7_511_316_861 + (target := 8_030_261_248)
    assert uses["models' cache"] == 2 * models
    # float32 weights and Adam's two moments; two are kept, a third is written
    assert uses["sft checkpoints"] == uses["dpo checkpoints"] == 3 * 12 * target
    assert uses["trained models"] == 2 * 2 * target
    assert uses["samples"] == pytest.approx(sum(2 * e.tokens + 160 * e.missing for e in estimates))
    both = [disk_cost.DiskUse("sft checkpoints", 5, ""), disk_cost.DiskUse("dpo checkpoints", 7, "")]
    assert disk_cost.most_at_once([disk_cost.DiskUse("samples", 1, ""), *both]) == 8


def test_suites_count_by_their_files_the_recipe_or_the_public_set(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "here.jsonl", [{"id": str(i)} for i in range(3)])
    suites = [
        {"kind": "verified", "name": "here", "files": ["here.jsonl"]},
        {"kind": "verified", "name": "table", "files": [hub_table("owner/aime", rows=30)], "samples": 4},
        {"kind": "verified", "name": "gsm8k", "files": ["gone.jsonl"], "form": "gsm8k"},
        {"kind": "judged", "name": "turns", "files": ["gone.jsonl"], "form": "mt_bench"},
        {"kind": "verified", "name": "gone", "files": ["gone.jsonl"]},
        {"kind": "harness", "name": "mmlu", "tasks": ["mmlu_pro"], "limit": 7},
    ]
    suites[3] |= {"judge": "gemma-2-27b-it", "baseline": "reference"}
    sampling = {"temperature": 0.6, "max_tokens": 2000}
    run = unread(tmp_path, evaluate={"placement": GPU, "sampling": sampling, "suites": suites})
    counts = [suite_counts.suite_count(s, run.recipe.evaluate, tmp_path) for s in run.recipe.evaluate.suites]
    assert [c.rows for c in counts] == [3, 30, 1319, 80, None, None]
    assert [c.answers for c in counts] == [3, 120, 1319, 160, 0, 0]
    lines = list(suite_counts.describe(counts, 3))
    assert lines[1] == "suite table: 30 rows (expected_rows) x 4 answers x 3 models, 360.0k tokens"
    assert lines[3].endswith("; 960 judgements by gemma-2-27b-it")
    rated = run.recipe.evaluate.suites[3].model_copy(update={"method": "rating", "baseline": None})
    (line,) = suite_counts.describe([suite_counts.suite_count(rated, run.recipe.evaluate, tmp_path)], 3)
    assert line.endswith("; 480 judgements by gemma-2-27b-it")
    assert lines[4] == "suite gone: unknown number of rows: its files can't be read here"
    assert "at most 7 questions each" in lines[5]
    cost = stage_costs.evaluation_cost(run, prompt_counts.expected(run, UNREACHABLE), counts)
    assert cost.tokens == 3 * 1000 * (3 + 120 + 1319 + 160)
    assert cost.work == "1602 answers of each of 3 models; 2 suites not counted"


def test_the_memory_of_each_engine_is_stated(tmp_path: Path) -> None:
    run = unread(tmp_path)
    estimates, _ = estimate(run, prompt_counts.expected(run, UNREACHABLE), {})
    rows = table("\n".join(engine_memory.describe(run.recipe, tmp_path, estimates)), "memory")
    gpus, weights, most, tokens, fit = rows["gemma-2-27b-it"]
    assert (gpus, weights, most) == ("2", f"{27.227e9 / 2**30:.1f}", f"{0.9 * 80e9 / 2**30:.1f}")
    # keys and values of 46 layers, 2048 wide, in two bytes
    assert int(fit) == pytest.approx(2 * (72e9 - 27.227e9) / (2 * 2 * 46 * 2048 * int(tokens)), abs=1)
