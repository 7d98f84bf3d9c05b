"""A source behind an OpenAI endpoint of this machine, and a recipe that asks it: whole stages without an engine.

`python tests/bench/distant.py HOST PORT DELAY_S` answers chat completions, each after so many seconds.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import endpoints
import small
import yaml

from fusechat.pipeline.progress import Progress
from fusechat.pipeline.recipe.load import load
from fusechat.pipeline.records import RESPONSE
from fusechat.pipeline.run import Run
from fusechat.pipeline.sampling.plan import wanted_ids
from fusechat.pipeline.storage.parts import Parts

WORDS = ("alpha", "beta", "gamma", "delta", "one", "two", "three")


def recipe(folder: Path, url: str, num: int, **sections: Any) -> Path:
    """A recipe of one source, asked for two samples of each of `num` prompts; a classifier is the reward model.

    Args:
        sections: changes to sections of the recipe.
    """
    rows = [{"id": str(i), "domain": "instruction", "prompt": f"alpha {i} {WORDS[i % 7]}"} for i in range(num)]
    (folder / "train.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), "utf-8")
    optimization = {"learning_rate": 1e-5, "num_epochs": 1}
    source = {"name": "distant", "kind": "endpoint", "url": url, "model": "m", "samples": {"instruction": 2}}
    tree: dict[str, Any] = {
        "name": "distant",
        "run_dir": str(folder / "run"),
        "prompts": {"train": ["train.jsonl"]},
        "sources": [source | {"sampling": {"temperature": 1, "max_tokens": 16}, "system": "keep"}],
        "sample": {"buckets": 4, "concurrency": 4},
        "rewards": [
            {
                "name": "tiny",
                "kind": "classifier",
                "model": {"path": "/models/tiny"},
                "placement": {"num_cpus": 0.5},
                "max_length": 128,
            }
        ],
        "select": {"instruction": {"sft_fraction": 0.5, "margin": {"min": 0}}},
        "target": {"model": small.SMOLLM2},
        "sft": optimization,
        "dpo": {**optimization, "beta": 10},
        "training": {"num_cpus": 1},
        "evaluate": {"placement": {"num_cpus": 0.5}},
        **sections,
    }
    path = folder / "distant.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False), "utf-8")
    return path


def lost(path: Path, *changes: str) -> set[str]:
    """Identities that the recipe asks for and that are not durable as samples; none may be there twice.

    Args:
        changes: `section.key=value` each.
    """
    run = Run(load(path, changes), path.parent, Progress())
    wanted = wanted_ids(run.pinned_sources, run.prompts("train").read())
    assert wanted
    rows = Parts(run.dir, "sample", RESPONSE, "response_id").read(columns=["response_id", "reject"]).to_pylist()
    there = [r["response_id"] for r in rows if not r["reject"]]
    assert len(there) == len(set(there)) and set(there) <= wanted
    return wanted - set(there)


def serve(host: str, port: int, delay_s: float) -> None:
    """Answers with words that hang on the request."""

    def reply(body: dict[str, Any]) -> endpoints.Reply:
        time.sleep(delay_s)
        number = zlib.crc32(json.dumps([body["messages"], body["seed"]]).encode())
        text = " ".join(WORDS[number >> shift & 7 if number >> shift & 7 < 7 else 0] for shift in range(0, 24, 3))
        return endpoints.good(text, usage={"prompt_tokens": 3, "completion_tokens": 8, "total_tokens": 11})

    endpoints.Service(host, port).replies = reply
    threading.Event().wait()


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
