"""Sampling onto S3: what a kill costs there, and what becomes of a run whose store stops answering.

`.venv/bin/python tests/bench/sampling_s3.py [--prompts 300] [--samples 2] [--pauses 20,150]`

The store is moto's server, a process on loopback; the engine is real. `kill`: SIGKILL to the run's whole process group
at half of the rows, then the same command again until the dead process's hold on the run directory has ended. `pause`:
the store's process is stopped at half of the rows and goes on so many seconds later; where the run ended with an error,
the same command again. Durable is what is when the first process has ended. Identities are held against those that the
recipe asks for, which take no other run to know; a broken file is one that is listed and can't be read as a whole
table. Tokens are counted as by sampling_kills.py.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import small
import stores
from sampling_kills import Job, durable

from fusechat.pipeline.errors import FusechatError
from fusechat.pipeline.progress import Progress
from fusechat.pipeline.recipe.load import load
from fusechat.pipeline.run import Run
from fusechat.pipeline.sampling.plan import wanted_ids
from fusechat.pipeline.storage.run_dir import RunDir

EVERY_S = 3.0
"""Seconds between looks at the store, which has better things to do."""
HOLD_S = 120.0
"""Longest wait for a dead process's hold to end."""


@contextlib.contextmanager
def store() -> Iterator[subprocess.Popen[bytes]]:
    """An S3 server with the bucket `bench`; this process and its children find it."""
    with tempfile.TemporaryDirectory() as folder, stores.served() as (endpoint, process):
        os.environ.update(stores.environment(endpoint, Path(folder)))
        httpx.put(f"{endpoint}/bench").raise_for_status()
        yield process


def broken(run: str) -> list[str]:
    """Tables of the run directory that are listed and can't be read."""
    found = []
    for file in RunDir(run).files():
        try:
            RunDir(run).read_table(file)
        except (ValueError, OSError, FusechatError):
            found.append(file)
    return found


def again(path: Path) -> tuple[float, str]:
    """The same command until it works; returns the seconds for which it was refused, and how."""
    began, refused_s, said = time.monotonic(), 0.0, "was not refused"
    while (code := Job(path).process.wait()) == 2:
        refused_s, said = time.monotonic() - began, last_line(path)
        if refused_s > HOLD_S:
            break
        time.sleep(EVERY_S)
    if code:
        raise SystemExit(f"exit code {code}: {last_line(path)}")
    return refused_s, said


def last_line(path: Path) -> str:
    """The last thing that was said."""
    return (path.parent / "log.txt").read_text("utf-8", "replace").splitlines()[-1]


def main() -> None:
    """Prints a row for each event, and what was said on the way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=300)
    parser.add_argument("--samples", type=int, default=2)
    parser.add_argument("--pauses", default="20,150")
    options = parser.parse_args()
    print(f"{small.machine()}, `{' '.join(sys.argv)}`\n", flush=True)
    pauses = [f"pause {seconds}" for seconds in options.pauses.split(",") if seconds]
    rows, said = small.prompts(options.prompts), []
    print("| event | durable | broken files | tokens again | of all | identities as planned | s |", flush=True)
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as top, store() as server:
        for event in ("kill", *pauses):
            folder = Path(top, event.replace(" ", "-"))
            folder.mkdir()
            run = f"s3://bench/{folder.name}"
            source = {"sampling": {"temperature": 0.8, "max_tokens": 64}}
            path = small.recipe(
                folder, rows, samples=options.samples, source=source, run_dir=run, sample={"concurrency": 16}
            )
            subprocess.run([small.FUSECHAT, "prompts", str(path)], check=True, stderr=subprocess.DEVNULL)
            plan = Run(load(path), folder, Progress())
            wanted = wanted_ids(plan.pinned_sources, plan.train_prompts)
            began, job = time.monotonic(), Job(path)
            job.watch(run, len(wanted) // 2, EVERY_S)
            assert job.counter is not None
            if event == "kill":
                os.killpg(job.process.pid, signal.SIGKILL)
                code = job.process.wait()
            else:
                server.send_signal(signal.SIGSTOP)
                time.sleep(float(event.split()[1]))
                server.send_signal(signal.SIGCONT)
                code = job.process.wait()
                said.append(f"{event}: exit code {code}: {last_line(path)}")
            generated = job.counter.stop()
            first, torn = durable(run), broken(run)
            if code:
                refused_s, how = again(path)
                said.append(f"{event}: the same command was refused for {refused_s:.0f} s: {how}")
            final = durable(run)
            tokens = sum(t for _, t in final.values())
            more = generated - sum(t for _, t in first.values())
            cells = (
                event,
                len(first),
                ", ".join([*torn, *broken(run)]) or "none",
                f"{more:.0f}",
                f"{100 * more / tokens:.2f}%",
                "yes" if final.keys() == wanted else "NO",
                f"{time.monotonic() - began:.0f}",
            )
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print("\n" + "\n".join(said))


if __name__ == "__main__":
    main()
