"""The shipped recipe of FuseChat-3.0 from nothing to the report: published data sets on a stand-in hub, tiny models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import judged_sets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import run_fusechat
from hub_server import Hub, serve_hub
from published_sets import COMMITS, write_sets
from published_suites import SETS
from tiny_model import make_tokenizer, write_model
from tiny_reward import write_armorm

from fusechat.pipeline.recipe.load import find, load
from fusechat.pipeline.storage.run_dir import RunDir

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

RECIPE = "fusechat3-llama3.1-8b"
ROWS = 30
IMPORTED = "llama-3.1-405b"
MODERN = {"aime25", "livecodebench_v6", "ifbench"}
"""Suites of `published_suites` that the paper does not have."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("published")


@pytest.fixture(scope="module")
def hub(folder: Path) -> Iterator[Hub]:
    write_sets(folder / "hub", rows=ROWS)
    with serve_hub(folder / "hub") as server:
        for name, sha in COMMITS.items():
            server.commit(name, sha=sha)
        yield server


def write_suites(folder: Path) -> None:
    """Two rows of each of the paper's benchmarks in its published format, as `evaluate.suite_files` finds them."""
    for name, files in SETS.items():
        for file, make in {} if name in MODERN else files.items():
            path = folder / f"{file}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist([make(i).row for i in (1, 2)]), path)
    arena, arena_answers = judged_sets.arena_hard_first()
    bench, bench_answers = judged_sets.mt_bench()
    rows = {"alpaca_eval_2": judged_sets.alpaca_eval()[:2], "align_bench": judged_sets.align_bench()[:2]}
    rows |= {"arena_hard": arena[:2], "arena_hard_answers": arena_answers}
    rows |= {"mt_bench": bench[:2], "mt_bench_answers": bench_answers}
    for name, found in rows.items():
        judged_sets.write_lines(folder / f"{name}.jsonl", found)


def small(folder: Path) -> list[str]:
    """`--set` for a machine without GPUs: tiny models, few tokens, one worker."""
    tokenizer = make_tokenizer()
    write_model(folder / "model", tokenizer, hidden_size=128, max_position_embeddings=4096)
    # More than half of the tokens end an answer: random weights repeat themselves and would not end by themselves.
    ends = {"eos_token_id": [tokenizer.eos_token_id, *(i for i in range(12, len(tokenizer)) if i % 5 < 3)]}
    (folder / "model/generation_config.json").write_text(json.dumps(ends))
    (folder / "armorm").mkdir()
    write_armorm(folder / "armorm")
    config = json.loads((folder / "armorm" / "config.json").read_text())
    (folder / "armorm" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    model, engine, placement = f"{{path: {folder}/model}}", "{max_model_len: 3072}", "{num_cpus: 0.9}"
    changes = {
        "run_dir": f"{folder}/run",
        "prompts.train.1.sample": "20",
        "sample": "{buckets: 4, concurrency: 64}",
        "rewards.armorm.model": f"{{path: {folder}/armorm}}",
        "rewards.armorm.placement": placement,
        "rewards.armorm.dtype": "float32",
        "score.verify": "{num_workers: 2, timeout_s: 5, sandbox: basic}",
        "target.model": model,
        "sft.num_epochs": "1",
        "training": "{num_workers: 1, num_cpus: 1}",
        "evaluate.engine": engine,
        "evaluate.placement": placement,
        "evaluate.suite_files": f"{folder}/suites",
        "evaluate.models": "[target, dpo]",  # each model and suite takes seconds to start
    }
    for source in load(find(RECIPE)).served:
        key = f"sources.{source.name}"
        changes |= {f"{key}.model": model, f"{key}.engine": engine, f"{key}.placement": placement}
        changes[f"{key}.sampling.max_tokens"] = "64"
    for stage in ("sft", "dpo"):
        changes |= {f"{stage}.global_batch_size": "16", f"{stage}.micro_batch_size": "8"}
    return [argument for key, value in changes.items() for argument in ("--set", f"{key}={value}")]


def test_one_command_leads_from_the_published_data_sets_to_the_report(folder: Path, hub: Hub) -> None:
    write_suites(folder / "suites")
    done = run_fusechat("run", RECIPE, *small(folder), env=hub.env(folder / "home"))
    assert done.returncode == 0, done.stdout[-4000:]
    run = RunDir(str(folder / "run"))

    tables = run.read_json("prompts", "tables.json")
    assert {table["table"].rpartition("/")[0] for table in tables} == set(COMMITS) | {"greengerong/leetcode"}
    for table in tables:
        counted = table["prompts"] + table["merged"] + sum(table["left_out"].values()) + sum(table["rejected"].values())
        assert counted == table["rows"], table
    num_prompts = sum(table["prompts"] for table in tables)
    num_rejected = sum(sum(table["rejected"].values()) for table in tables)
    assert num_prompts + num_rejected == json.loads((folder / "run/select/funnel.json").read_text())["num_prompts"]

    commits = run.read_json("run.json")["commits"]
    assert commits["datasets/greengerong/leetcode@main"] == hub.commit("greengerong/leetcode")

    pairs, sft = (run.read_table("select", f"{name}.parquet").to_pylist() for name in ("pairs", "sft"))
    assert IMPORTED in {row["source"] for row in pairs}
    assert IMPORTED in {row["source"] for row in sft}
    report = (folder / "run/report/report.html").read_text()
    suites = run.read_json("evaluate", "suites.json")["suites"]
    assert len(suites) == 14
    for suite in suites:
        assert suite["name"] in report
    assert all(table["table"] in report for table in tables)
