"""A second replica of a source, started by Ray Serve while the first one has more to do than it should.

`.venv/bin/python tests/bench/autoscaling.py [--prompts 300] [--samples 2]`

SmolLM2-135M with half a CPU and one thread a replica, one replica at the start and two at most. Prints what
`fusechat sample` says, then tokens/s with one replica and with two, from what is durable. Exits 1 where the second one
never came.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import small

from fusechat.pipeline.recipe.load import load
from fusechat.pipeline.records import RESPONSE
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

EVENTS = {"one": "smollm2: ready after", "two": "smollm2: 1 -> 2 replicas", "end": " rows in "}


def tokens(parts: Parts) -> tuple[float, int]:
    """Now, and the tokens that are durable."""
    return time.monotonic(), sum(parts.read(columns=["completion_tokens"]).column("completion_tokens").to_pylist())


def main() -> None:
    """Prints the lines of the run and a row for each number of replicas."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--samples", type=int, default=2)
    options = parser.parse_args()
    print(f"{small.machine()}, `{' '.join(sys.argv)}`\n", flush=True)
    num = options.prompts * options.samples
    seen: dict[str, tuple[float, int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = small.recipe(
            Path(folder),
            small.prompts(options.prompts),
            samples=options.samples,
            source={"placement": {"num_cpus": 0.5, "min_replicas": 1, "max_replicas": 2}},
        )
        subprocess.run([small.FUSECHAT, "prompts", str(path)], check=True, stderr=subprocess.DEVNULL)
        parts = Parts(RunDir(load(path).run_dir), "sample", RESPONSE, "response_id")
        with subprocess.Popen([small.FUSECHAT, "sample", str(path)], stderr=subprocess.PIPE, text=True) as job:
            assert job.stderr is not None
            for line in job.stderr:
                print(line, end="", flush=True)
                for event, words in EVENTS.items():
                    if words in line:
                        seen[event] = tokens(parts)
        if job.returncode:
            raise SystemExit(f"the job failed: exit code {job.returncode}")
        if (there := len(parts.ids())) != num:
            raise SystemExit(f"{there} samples, {num} were asked for")
    if seen.keys() != EVENTS.keys():
        raise SystemExit(f"never seen: {', '.join(EVENTS[e] for e in EVENTS.keys() - seen.keys())}")
    print("\n| replicas | s | tokens | tokens/s |\n| --- | --- | --- | --- |")
    for replicas, first, last in ((1, seen["one"], seen["two"]), (2, seen["two"], seen["end"])):
        seconds, made = last[0] - first[0], last[1] - first[1]
        print(f"| {replicas} | {seconds:.0f} | {made} | {made / seconds:.0f} |")


if __name__ == "__main__":
    main()
