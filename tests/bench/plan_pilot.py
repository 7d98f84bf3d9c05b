"""The time that `fusechat plan --pilot` predicts, held against the time that the sampling then takes.

`.venv/bin/python tests/bench/plan_pilot.py [--prompts 400] [--samples 2] [--pilot 64]`

After its pilot, whose samples are kept, the plan says how long the samples that are still missing take: Ray's start,
the engine's, the sampling. So it is held against the wall clock of the whole `fusechat sample` that follows, which
starts both anew and brings those samples; the pilot's own time is in neither. The plan leaves out what the command does
before Ray starts and after the last sample, which takes seconds. Exits 1 where the two differ by more than a fifth.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import small

from fusechat.pipeline.planning.prompt_counts import counted
from fusechat.pipeline.planning.sampling_cost import estimate, sampled_lengths
from fusechat.pipeline.progress import Progress
from fusechat.pipeline.recipe.load import load
from fusechat.pipeline.run import Run

ALLOWED = 0.2


def main() -> None:
    """Prints what was predicted and what it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--pilot", type=int, default=64)
    options = parser.parse_args()
    print(f"{small.machine()}, `{' '.join(sys.argv)}`\n", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = small.recipe(Path(folder), small.prompts(options.prompts), samples=options.samples, source={})

        def planned() -> tuple[int, float, str]:
            """Samples that are missing, the seconds that they will take, and where those come from."""
            run = Run(load(path), path.parent, Progress())
            (one,), seconds = estimate(run, counted(run), sampled_lengths(run))
            return one.missing, seconds, one.basis

        began = time.monotonic()
        plan = [small.FUSECHAT, "plan", str(path), "--pilot", str(options.pilot)]
        subprocess.run(plan, stdout=sys.stderr, check=True)
        pilot_s = time.monotonic() - began
        missing, predicted, basis = planned()
        began = time.monotonic()
        subprocess.run([small.FUSECHAT, "sample", str(path)], check=True)
        took = time.monotonic() - began
        if left := planned()[0]:
            raise SystemExit(f"{left} samples are still missing")
    ratio = predicted / took
    print("| pilot, s | samples after it | basis | predicted, s | took, s | ratio |")
    print("| --- | --- | --- | --- | --- | --- |")
    print(f"| {pilot_s:.0f} | {missing} | {basis} | {predicted:.0f} | {took:.0f} | {ratio:.2f} |")
    sys.exit(abs(ratio - 1) > ALLOWED)


if __name__ == "__main__":
    main()
