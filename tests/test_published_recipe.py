"""The shipped recipe of FuseChat-3.0 from nothing to the report: published data sets on a stand-in hub, tiny models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import run_fusechat
from hub_server import Hub, serve_hub
from published_sets import COMMITS, write_sets
from tiny_model import make_tokenizer, write_model
from tiny_reward import write_armorm

from fusechat.pipeline.recipe.load import find, load
from fusechat.pipeline.storage.run_dir import RunDir

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

RECIPE = "fusechat3-llama3.1-8b"
ROWS = 30
IMPORTED = "llama-3.1-405b"


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


def small(folder: Path) -> list[str]:
    """`--set` for a machine without GPUs: tiny models, few tokens, one worker."""
    write_model(folder / "model", make_tokenizer(), hidden_size=128, max_position_embeddings=2048)
    (folder / "armorm").mkdir()
    write_armorm(folder / "armorm")
    config = json.loads((folder / "armorm" / "config.json").read_text())
    (folder / "armorm" / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 2048}))
    model, engine, placement = f"{{path: {folder}/model}}", "{max_model_len: 1536}", "{num_cpus: 0.9}"
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
        "evaluate.sampling": "{temperature: 0, max_tokens: 8}",
    }
    for source in load(find(RECIPE)).served:
        key = f"sources.{source.name}"
        changes |= {f"{key}.model": model, f"{key}.engine": engine, f"{key}.placement": placement}
        changes[f"{key}.sampling.max_tokens"] = "8"
    for domain in ("instruction", "chinese"):  # every response ends at its maximum number of tokens
        changes[f"select.{domain}.keep_truncated"] = "true"
    for stage in ("sft", "dpo"):
        changes |= {f"{stage}.global_batch_size": "16", f"{stage}.micro_batch_size": "8"}
    return [argument for key, value in changes.items() for argument in ("--set", f"{key}={value}")]


def test_one_command_leads_from_the_published_data_sets_to_the_report(folder: Path, hub: Hub) -> None:
    done = run_fusechat("run", RECIPE, *small(folder), env=hub.env(folder / "home"))
    assert done.returncode == 0, done.stdout[-4000:]
    run = RunDir(str(folder / "run"))

    tables = run.read_json("prompts", "tables.json")
    assert {table["table"].rpartition("/")[0] for table in tables} == set(COMMITS) | {"greengerong/leetcode"}
    for table in tables:
        counted = table["prompts"] + table["merged"] + sum(table["left_out"].values()) + sum(table["rejected"].values())
        assert counted == table["rows"], table
    num_prompts = sum(table["prompts"] for table in tables)
    assert num_prompts == json.loads((folder / "run/select/funnel.json").read_text())["num_prompts"]

    commits = run.read_json("run.json")["commits"]
    assert commits["datasets/greengerong/leetcode@main"] == hub.commit("greengerong/leetcode")

    pairs, sft = (run.read_table("select", f"{name}.parquet").to_pylist() for name in ("pairs", "sft"))
    assert IMPORTED in {row["source"] for row in pairs}
    assert IMPORTED in {row["source"] for row in sft}
    assert (folder / "run/report/report.html").stat().st_size > 10_000
