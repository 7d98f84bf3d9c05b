"""Stage `evaluate` on ready-made suites from local files: one line in the recipe, and scores for each model."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import endpoints
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from command_line import run_fusechat
from example_recipe import source_tree, write_jsonl, write_model, write_recipe
from published_suites import SETS, Case

NAMES = ("gsm8k", "mmlu_pro", "humaneval", "livecodebench", "livebench")


def written(folder: Path) -> dict[str, Case]:
    """Writes ten rows of each suite. Returns a text that only one row's request has -> its case."""
    cases: dict[str, Case] = {}
    for name in NAMES:
        for file, make in SETS[name].items():
            made = [make(i) for i in range(1, 11)]
            path = folder / f"{file}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_pylist([case.row for case in made]), path)
            for case in made:
                row = case.row
                text = row.get("question") or row.get("question_content") or row.get("prompt") or row["turns"][0]
                cases["\n".join(line.rstrip() for line in text.strip().splitlines())] = case
    return cases


@pytest.mark.slow
def test_ready_made_suites_are_evaluated_from_local_files(tmp_path: Path) -> None:
    cases = written(tmp_path / "data")

    def reply(body: dict[str, Any]) -> endpoints.Reply:
        text = body["messages"][-1]["content"]
        case = next(case for known, case in cases.items() if known in text)
        return endpoints.good(case.right if body["model"] == "strong" else case.wrong, model=body["model"])

    service = endpoints.Service()
    service.replies = reply
    try:
        write_jsonl(tmp_path / "train.jsonl", [{"id": "t", "domain": "instruction", "prompt": "Describe a town."}])
        write_model(tmp_path / "model")
        model, half = {"path": "model"}, {"num_cpus": 0.5}
        endpoint = {"kind": "endpoint", "url": service.url, "samples": {"instruction": 1}, "max_attempts": 1}
        path = write_recipe(
            tmp_path / "r.yaml",
            run_dir=str(tmp_path / "run"),
            prompts={"train": ["train.jsonl"]},
            sources=[
                {**endpoint, "name": "weak", "model": "weak"},
                {**endpoint, "name": "strong", "model": "strong"},
                source_tree("hosted", model=model, placement=half),
            ],
            rewards=[{"kind": "likelihood", "name": "l", "source": "hosted"}],
            target={"model": model},
            score={"verify": {"num_workers": 1, "sandbox": "basic"}},
            evaluate={
                "models": ["weak", "strong"], "suites": list(NAMES), "suite_files": "data", "suite_limit": 4,
            },
        )  # fmt: skip
        env = os.environ | {"RAY_ADDRESS": "127.0.0.1:1"}
        assert run_fusechat("prompts", path, env=env).returncode == 0
        done = run_fusechat("evaluate", path, env=env)
        assert done.returncode == 0, done.stdout
        again = run_fusechat("evaluate", path, env=env)
        assert "evaluate: up to date" in again.stdout
    finally:
        service.close()
    found = json.loads((tmp_path / "run" / "evaluate" / "suites.json").read_text())
    scores = {s["name"]: [s["scores"][m]["score"]["value"] for m in ("weak", "strong")] for s in found["suites"]}
    assert scores == {name: [0.0, 1.0] for name in NAMES}
    num = {s["name"]: s["num_items"] for s in found["suites"]}
    assert num == {**dict.fromkeys(NAMES, 4), "livebench": 28}
    assert list(found["groups"]) == ["mathematics", "general", "coding"]
