"""What a kill costs: tokens that are generated again, and whether the final set is that of an undisturbed run.

`.venv/bin/python tests/bench/sampling_kills.py [--prompts 700] [--samples 3] [--kills 5] [--only engine,node]`

`everything`: SIGKILL to the run's whole process group at a random moment around half of the rows, then the same command
again. `engine`: only vLLM's engine process. `replica`: only the replica actor's. `node`: one of two Ray nodes that hold
the work (three raylets on this machine, the first of which has no CPUs), the one with the engine on it.
Tokens generated are vLLM's own counter, asked ten times a second, plus what it counts after the kill; tokens generated
again are those beyond the final set's.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import small

from fusechat.pipeline.errors import FusechatError
from fusechat.pipeline.recipe.load import load
from fusechat.pipeline.records import RESPONSE
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

WATCH = """
import sys, time
import ray
from ray import serve
ray.init(address=sys.argv[1], namespace="serve", log_to_driver=False, logging_level="ERROR")
handle = None
while True:
    try:
        handle = handle or serve.get_app_handle("smollm2")
        print("tokens", handle.counters.remote().result(timeout_s=3)["generation"], flush=True)
    except Exception as error:
        print(f"no counter: {type(error).__name__}", file=sys.stderr, flush=True)
    time.sleep(0.1)
"""


def durable(run: str) -> dict[str, tuple[str, int]]:
    """Identity -> text and tokens of what is durable."""
    rows = Parts(RunDir(run), "sample", RESPONSE, "response_id").read().to_pylist()
    return {r["response_id"]: (r["text"], r["completion_tokens"]) for r in rows}


def num_durable(run: str) -> int:
    """How many; a part that is compacted meanwhile is counted at the next look."""
    try:
        return len(Parts(RunDir(run), "sample", RESPONSE, "response_id").ids())
    except FusechatError as error:
        print(f"looked at a moment of change: {error}", file=sys.stderr)
        return 0


class Counter:
    """vLLM's count of generated tokens, by lives of the engine."""

    def __init__(self, address: str) -> None:
        self.lives = [0.0]
        self._process = subprocess.Popen(
            [sys.executable, "-c", WATCH, address], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            word, _, number = line.partition(" ")
            if word != "tokens":  # what Ray has to say
                continue
            value = float(number)
            if value < self.lives[-1]:
                self.lives.append(0.0)
            self.lives[-1] = value

    def stop(self) -> float:
        """Ends the watching process; returns the tokens of all lives."""
        self._process.kill()
        self._process.wait()
        if not any(self.lives):
            raise SystemExit("the engine's counter was never read")
        return sum(self.lives)


class Job:
    """`fusechat sample` in a process group of its own."""

    def __init__(self, path: Path, address: str | None = None) -> None:
        log = open(path.parent / "log.txt", "ab")  # noqa: SIM115
        self.process = subprocess.Popen(
            [small.FUSECHAT, "sample", str(path)], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        self._address = address
        self.counter: Counter | None = None

    def watch(self, run: str, at_least: int, every_s: float = 0.3) -> None:
        """Returns when so many rows are durable; counts tokens meanwhile."""
        while self.process.poll() is None and num_durable(run) < at_least:
            if self.counter is None and num_durable(run):
                self.counter = Counter(self._address or self._own())
            time.sleep(every_s)
        if self.process.poll() is not None:
            raise SystemExit(f"the job ended with {self.process.returncode} before it could be killed")

    def _own(self) -> str:
        """Address of the Ray that the run started; other runs may have theirs on this machine."""
        started = psutil.Process(self.process.pid).children(recursive=True)
        words = [word for p in started if p.name() == "raylet" for word in p.cmdline()]
        return next(word.partition("=")[2] for word in words if word.startswith("--gcs-address="))

    def engines(self) -> list[psutil.Process]:
        """vLLM's engine processes that belong to the run or its cluster, which both descend from this process."""
        return [p for p in psutil.Process().children(recursive=True) if p.name().startswith("VLLM::Engine")]

    def finish(self) -> None:
        """Waits for a good end."""
        if self.process.wait(timeout=1800):
            raise SystemExit(f"the job failed: exit code {self.process.returncode}")


def undisturbed(path: Path, run: str) -> tuple[dict[str, tuple[str, int]], float]:
    """The set that every other run must bring."""
    began = time.monotonic()
    Job(path).finish()
    return durable(run), time.monotonic() - began


def disturbed(kind: str, path: Path, run: str, at: int, cluster: Cluster | None) -> float:
    """One run with one kill; returns the tokens that were generated, all lives together."""
    job = Job(path, cluster.address if cluster else None)
    job.watch(run, at)
    assert job.counter is not None
    if kind == "everything":
        os.killpg(job.process.pid, signal.SIGKILL)
        job.process.wait()
        generated = job.counter.stop()
        first = durable(run)
        time.sleep(5)  # what Ray started notices that its parent is gone
        Job(path).finish()
        final = durable(run)
        # The second life wastes nothing: it generates what was not durable, each once.
        return generated + sum(tokens for i, (_, tokens) in final.items() if i not in first)
    if kind == "node":
        assert cluster is not None
        cluster.kill_node_of(job.engines()[0])
    else:
        engine = job.engines()[0]
        victim = engine if kind == "engine" else engine.parent()
        assert victim is not None
        victim.kill()
    job.finish()
    time.sleep(1)
    return job.counter.stop()


class Cluster:
    """Three raylets on this machine: a head without CPUs and two nodes with one each."""

    def __init__(self) -> None:
        from ray.cluster_utils import Cluster as Raylets

        os.environ.update(RAY_worker_niceness="0")
        memory = 200_000_000
        self._raylets = Raylets(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": memory})
        for _ in range(2):
            self._raylets.add_node(num_cpus=1, object_store_memory=memory)
        self._raylets.wait_for_nodes()
        self.address = self._raylets.address

    def kill_node_of(self, engine: psutil.Process) -> None:
        """SIGKILL to the raylet under which the engine runs, and to all that this raylet started."""
        raylet = next(p for p in engine.parents() if p.name() == "raylet")
        for process in [raylet, *raylet.children(recursive=True)]:
            process.kill()

    def stop(self) -> None:
        """Stops the three."""
        self._raylets.shutdown()


def main() -> None:
    """Prints a row for each kill."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=700)
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="everything,engine,replica,node")
    options = parser.parse_args()
    os.environ["RAY_AUTH_MODE"] = "disabled"  # of the three raylets on loopback, and of those who join them
    generator = random.Random(options.seed)
    kinds = [k for k in options.only.split(",") for _ in range(options.kills if k == "everything" else 1)]
    source = {"sampling": {"temperature": 0.8, "max_tokens": 32}, "placement": {"num_cpus": 0.8}}
    source["engine"] = {"dtype": "bfloat16", "max_model_len": 1024, "env": {"OMP_NUM_THREADS": "2"}}
    sections = {"sample": {"concurrency": 16}}
    print(f"{small.machine()}, `{' '.join(sys.argv)}`\n", flush=True)
    with tempfile.TemporaryDirectory() as top:
        rows = small.prompts(options.prompts)

        def fresh(name: str, **more: object) -> tuple[Path, str]:
            folder = Path(top, name)
            folder.mkdir()
            path = small.recipe(folder, rows, samples=options.samples, source=source, **sections, **more)
            subprocess.run([small.FUSECHAT, "prompts", str(path)], check=True, stderr=subprocess.DEVNULL)
            return path, load(path).run_dir

        expected, seconds = undisturbed(*fresh("undisturbed"))
        tokens = sum(t for _, t in expected.values())
        print(f"undisturbed: {len(expected)} samples, {tokens} tokens, {seconds:.0f} s\n", flush=True)
        print("| killed | at rows | tokens again | of all | same identities | same texts | s |", flush=True)
        print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
        for number, kind in enumerate(kinds):
            cluster = Cluster() if kind == "node" else None
            try:
                more = {"cluster": {"address": cluster.address}} if cluster else {}
                path, run = fresh(f"{number}", **more)
                at = int(len(expected) * generator.uniform(0.35, 0.65))
                began = time.monotonic()
                generated = disturbed(kind, path, run, at, cluster)
                final = durable(run)
                again = generated - sum(t for _, t in final.values())
                same = sum(final[i][0] == expected[i][0] for i in final.keys() & expected.keys()) / len(expected)
                cells = (
                    kind,
                    at,
                    f"{again:.0f}",
                    f"{100 * again / tokens:.2f}%",
                    "yes" if final.keys() == expected.keys() else "NO",
                    f"{100 * same:.1f}%",
                    f"{time.monotonic() - began:.0f}",
                )
                print(f"| {' | '.join(map(str, cells))} |", flush=True)
            finally:
                if cluster is not None:
                    cluster.stop()


if __name__ == "__main__":
    main()
