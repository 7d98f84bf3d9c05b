"""The whole demo: wall-clock time, peak memory, and what changed on the held-out prompts.

`.venv/bin/python tests/bench/demo.py [fusechat's own options]` runs `fusechat run demo` with those options in a run
directory of its own, e.g. `--set seed=1`. Memory is the proportional set size of the driver and all that it started,
sampled every two seconds.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from fusechat.pipeline.machine import hardware

GIB = 2**30


def resident(root: psutil.Process) -> int:
    """Proportional set size of a process and its descendants, bytes."""
    total = 0
    for process in (root, *root.children(recursive=True)):
        try:
            total += process.memory_full_info().pss
        except psutil.Error:  # it ended meanwhile
            continue
    return total


class Watch:
    """Peak memory of a process tree and the stage in which it came."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.peak, self.stage, self.at_peak = 0, "", ""
        self._process = process
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        root = psutil.Process(self._process.pid)
        while self._process.poll() is None:
            try:
                found = resident(root)
            except psutil.Error:
                return
            if found > self.peak:
                self.peak, self.at_peak = found, self.stage
            time.sleep(2)


def main() -> int:
    """Runs the demo and prints the figures as Markdown."""
    options = sys.argv[1:]
    fusechat = Path(sys.executable).with_name("fusechat")
    with tempfile.TemporaryDirectory(dir=".") as folder:
        run = Path(folder, "demo")
        command = [str(fusechat), "run", "demo", "--set", f"run_dir={run.resolve()}", *options]
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        watch, stages = Watch(process), []
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            words = line.split()
            if len(words) > 2 and words[1].endswith(":"):
                watch.stage = words[1].rstrip(":")
                if words[2] == "done":
                    stages.append(line.strip())
        seconds = time.monotonic() - began
        if process.wait():
            return process.returncode
        metrics = json.loads((run / "evaluate" / "metrics.json").read_text())
    precision = hardware.cpu_precision()
    machine = f"{hardware.num_cores()} cores of {hardware.processor()}, {hardware.machine_memory() / GIB:.0f} GiB, "
    machine += f"{precision}: {hardware.gflops(precision):.0f} GFLOP/s"
    limits = {name: os.environ[name] for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA") if name in os.environ}
    machine += "".join(f", {name}={value}" for name, value in limits.items())
    print(f"\n{datetime.date.today()}, {machine}, `{' '.join(['fusechat run demo', *options])}`")
    print(f"\n- wall clock {seconds / 60:.1f} minutes; peak memory {watch.peak / GIB:.1f} GiB, in {watch.at_peak}")
    print("\n".join(f"- {line}" for line in stages))
    rule = "| --- | --- | --- | --- | --- |"
    print(f"\n| model | domain | prompts | accuracy | 95% interval |\n{rule}")
    for model, domains in metrics["models"].items():
        for domain, m in domains.items():
            interval = f"{100 * m['low']:.1f} to {100 * m['high']:.1f}"
            print(f"| {model} | {domain} | {m['num_items']} | {100 * m['accuracy']:.1f}% | {interval} |")
    print(f"\n| models | domain | prompts | difference, points | 95% interval |\n{rule}")
    for c in metrics["comparisons"]:
        interval = f"{100 * c['low']:+.1f} to {100 * c['high']:+.1f}"
        pair = f"{c['model']} - {c['baseline']}"
        print(f"| {pair} | {c['domain']} | {c['num_items']} | {100 * c['difference']:+.1f} | {interval} |")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
