"""What the start of an engine takes on CPUs, in CPU seconds of the processes concerned, each way beside the other.

`.venv/bin/python tests/bench/startup.py [--rounds 3]` starts vLLM's engine with the demo's SmolLM2 in a process of its
own and forked from one that has imported vLLM; imports vLLM with and without compiled bytecode; and starts the process
to which ray.serve.llm would report each start. The ways take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections import defaultdict
from statistics import median

import psutil

from fusechat.pipeline.models import resolve
from fusechat.pipeline.recipe import Placement, load
from fusechat.services.engine_args import cpu_env, engine_kwargs

WAYS = ("engine of its own", "engine forked", "import, no bytecode", "import", "report of a start")


def engine(forked: bool) -> float:
    """Of vLLM's engine process, until it can be asked."""
    from vllm import AsyncEngineArgs
    from vllm.v1.engine import utils
    from vllm.v1.engine.async_llm import AsyncLLM

    from fusechat.services.cpu_engine import EngineContext

    if forked:
        utils.get_mp_context = EngineContext
    source = load.load(load.find("demo")).source("smollm2-135m")
    folder = str(resolve.resolve(source.model))
    config = AsyncEngineArgs(folder, **engine_kwargs(source.engine, 0)).create_engine_config()
    config.parallel_config.distributed_executor_backend = "uni"  # vLLM has changed it for CPUs
    running = AsyncLLM.from_vllm_config(config)
    found = sum(sum(child.cpu_times()[:2]) for child in psutil.Process().children(recursive=True))
    running.shutdown()
    return found


def importing(bytecode: bool) -> float:
    """Of a Python that imports what an engine's process needs."""
    with tempfile.TemporaryDirectory() as empty:
        own = [] if bytecode else ["-X", f"pycache_prefix={empty}"]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        command = [sys.executable, *own, "-c", "import vllm.v1.engine.core"]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, env=env, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def reporting() -> float:
    """Of the process that ray.serve.llm reports a start to, until it has answered."""
    import ray
    from ray.llm._internal.serve.observability.usage_telemetry.usage import TelemetryAgent

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    agent = TelemetryAgent.remote()
    ray.get(agent.generate_report.remote())
    (process,) = [p for p in psutil.Process().children(recursive=True) if "TelemetryAgent" in " ".join(p.cmdline())]
    found = sum(process.cpu_times()[:2])
    ray.shutdown()
    return float(found)


def measure(way: str) -> float:
    """CPU seconds of one way."""
    if way.startswith("engine"):
        return engine(forked=way == "engine forked")
    return importing(bytecode=way == "import") if way.startswith("import") else reporting()


def main() -> None:
    """A row a way, as Markdown."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--way", choices=WAYS)
    args = arguments.parse_args()
    if args.way:
        print("\n" + json.dumps(measure(args.way)))
        return
    env = os.environ | cpu_env(Placement(num_cpus=1)) | {"VLLM_LOGGING_LEVEL": "ERROR"}
    found = defaultdict(list)
    for _ in range(args.rounds):
        for way in WAYS:
            command = [sys.executable, __file__, "--way", way]
            output = subprocess.run(command, env=env, check=True, text=True, stdout=subprocess.PIPE).stdout
            found[way].append(json.loads(output.strip().splitlines()[-1]))
    print("| | CPU seconds, median | from | to |\n| --- | --- | --- | --- |")
    for way, seconds in found.items():
        print(f"| {way} | {median(seconds):.1f} | {min(seconds):.1f} | {max(seconds):.1f} |")


if __name__ == "__main__":
    main()
