"""Prompt loading, expansion and the resume anti-join at 100,000 and 1,000,000 prompts: rows/s, and memory.

`.venv/bin/python tests/bench/million_prompts.py [--rows 100000 1000000]`

A run directory is filled from a JSONL file by the stage `prompts`; the plan is made (one sample a prompt); everything
is sampled through Ray Data's worker by an engine that echoes, in the worker's process; the plan is made again, which
finds all of it durable. Memory is the largest resident set of the driver and of the worker.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import small

from fusechat.pipeline.cluster import connect
from fusechat.pipeline.progress import Progress
from fusechat.pipeline.recipe import Cluster
from fusechat.pipeline.recipe.load import load
from fusechat.pipeline.records import RESPONSE
from fusechat.pipeline.run import Run
from fusechat.pipeline.sampling import plan as sampling
from fusechat.pipeline.sampling.batch_worker import sample_units
from fusechat.pipeline.sampling.messages import Generated, GenerateRequest
from fusechat.pipeline.stages.walk import walk
from fusechat.pipeline.storage.parts import Parts

TEXT = "How many minutes does a train of {} carriages take for {} kilometres at {} kilometres an hour, and why? "


class Echo:
    """An engine that answers at once."""

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generated]:
        """See SamplingBackend."""
        for sample in request["samples"]:
            yield Generated(
                response_id=sample["response_id"],
                text=request["messages"][0]["content"],
                finish_reason="stop",
                reject="",
                prompt_tokens=60,
                completion_tokens=60,
            )

    async def failure_reason(self) -> str:
        """See SamplingBackend."""
        return "an echo has none"

    async def counters(self) -> None:
        """See SamplingBackend."""


def write_prompts(path: Path, num: int) -> None:
    """Rows of some 300 characters."""
    with path.open("w") as out:
        for i in range(num):
            out.write(
                json.dumps({"id": str(i), "domain": "instruction", "prompt": 3 * TEXT.format(i, i % 977, i % 331)})
                + "\n"
            )


class Memory:
    """Largest resident set of Ray Data's worker."""

    def __init__(self) -> None:
        self.worker = 0
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self) -> None:
        while True:
            for process in psutil.Process().children(recursive=True):
                try:
                    if "MapWorker" in " ".join(process.cmdline()):
                        self.worker = max(self.worker, process.memory_info().rss)
                except psutil.Error:  # it ended meanwhile
                    continue
            time.sleep(1)


def measure(num: int) -> dict[str, float]:
    """Seconds of each step, and bytes."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = small.recipe(Path(folder), [], samples=1, source={})
        write_prompts(Path(folder, "train.jsonl"), num)
        run = Run(load(path, ("sample.buckets=64", "sample.concurrency=8192")), Path(folder), Progress())

        def timed(name: str, began: float) -> None:
            found[name] = time.monotonic() - began

        began = time.monotonic()
        walk(run, ("prompts",))
        timed("load", began)
        done, (asked,) = Parts(run.dir, "sample", RESPONSE, "response_id"), run.pinned_sources
        began = time.monotonic()
        (plan,) = sampling.plan([asked], run.prompts("train"), done, run.recipe.sample.buckets)
        timed("plan", began)
        assert plan.missing == num
        memory = Memory()
        with connect.connected(Cluster()):
            began = time.monotonic()
            config = run.recipe.sample
            prompts = "prompts/train"
            sample_units(run.dir, prompts, "sample", asked, Echo(), plan.units, config, lambda rows, tokens: None)
            timed("sample", began)
        began = time.monotonic()
        (plan,) = sampling.plan([asked], run.prompts("train"), done, run.recipe.sample.buckets)
        timed("anti-join", began)
        assert plan.missing == 0
        found["driver"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        found["worker"] = memory.worker
    return found


def main() -> None:
    """A row for each number of prompts, each measured in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--one", type=int)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    print(f"{small.machine()}, `{' '.join(sys.argv)}`\n")
    steps = ("load", "plan", "sample", "anti-join")
    print(f"| rows | {', s | '.join(steps)}, s | rows/s | driver, GiB | worker, GiB |\n{'| --- ' * 8}|", flush=True)
    for num in options.rows:
        command = [sys.executable, __file__, "--one", str(num)]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
        found = json.loads(out.splitlines()[-1])
        total = sum(found[s] for s in steps)
        cells = [f"{num:,}", *(f"{found[s]:.1f}" for s in steps), f"{num / total:,.0f}"]
        cells += [f"{found[m] / 2**30:.2f}" for m in ("driver", "worker")]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
