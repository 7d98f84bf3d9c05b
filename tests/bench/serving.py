"""`fusechat serve` as a process, for benchmarks (over SmolLM2-135M) and tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import small

from fusechat.pipeline.cluster.connect import free_port
from fusechat.pipeline.recipe.load import load
from fusechat.services import auth

ROLES: tuple[auth.Role, ...] = ("sample", "score", "admin")


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    """Returns once it holds."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.25)


@dataclass
class Service:
    """A running service."""

    url: str
    model: str
    """Name of the one source."""
    folder: Path
    recipe: Path
    process: subprocess.Popen[str]
    began: float
    metrics_port: int
    keys: dict[str, str]

    def client(self, role: str = "admin") -> httpx.Client:
        """A client with the key of a role."""
        headers = {"Authorization": f"Bearer {self.keys[role]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120, trust_env=False)

    def state(self) -> str:
        """What /ready says of the model."""
        models = httpx.get(f"{self.url}/ready", timeout=60, trust_env=False).json()["models"]
        return str(models[self.model]["state"])

    def until_ready(self, seconds: float = 600) -> None:
        """Returns once the model has a replica."""
        wait_for(lambda: self.state() == "ready", seconds)

    def metrics(self) -> list[str]:
        """What Ray exports on this machine."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        return httpx.get(url, timeout=60, trust_env=False).text.splitlines()

    def logged(self) -> list[dict[str, Any]]:
        """The lines that the gateway wrote for its requests."""
        found = []
        files = Path("/tmp/ray").glob("session_2*/logs/serve/replica_fusechat_gateway*.log")
        for file in (f for f in files if f.stat().st_mtime > self.began):
            for line in file.read_text("utf-8", "replace").splitlines():
                start = line.find('{"event": "request"')
                if start >= 0:
                    found.append(json.loads(line[start:]))
        return found


def recipe(folder: Path, *, source: dict[str, Any] | None = None, **settings: Any) -> Path:
    """A recipe that serves one model, SmolLM2 where `source` names no other, and scores with it.

    Args:
        source: changes to the one source.
        settings: of its section `serve`.
    """
    rows = [{"id": "1", "domain": "math", "prompt": "What is 3 + 4?", "gold": "7"}]
    changes = {
        "name": "smollm2",
        "engine": {"dtype": "bfloat16", "max_model_len": 256},
        "sampling": {"temperature": 0.8, "max_tokens": 24},
        "samples": {"math": 2, "instruction": 1},
        **(source or {}),
    }
    rewards = [{"name": "likelihood", "kind": "likelihood", "source": changes["name"]}]
    serve = {"keys": "keys.yaml", **settings}
    return small.recipe(folder, rows, samples=1, source=changes, rewards=rewards, serve=serve)


@contextmanager
def served(
    folder: Path, *, source: dict[str, Any] | None = None, env: Mapping[str, str] | None = None, **settings: Any
) -> Iterator[Service]:
    """`fusechat serve` as a user starts it, with a key of each role, until the end of the block.

    Args:
        env: changes to its environment.
    """
    port, metrics_port = free_port(), free_port()
    path = recipe(folder, source=source, port=port, metrics_port=metrics_port, **settings)
    keys = {role: auth.add(folder / "keys.yaml", role, role) for role in ROLES}
    said = folder / "serve.log"
    with said.open("w") as log:
        command = [sys.executable, "-m", "fusechat.pipeline.cli.main", "serve", str(path)]
        process = subprocess.Popen(
            command,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
    name = load(path).served[0].name
    found = Service(f"http://127.0.0.1:{port}", name, folder, path, process, time.time(), metrics_port, keys)
    try:
        deadline = time.monotonic() + 600  # on a machine that others use too; a test has a time limit of its own
        while "serve: ready" not in said.read_text():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the service did not start: {said.read_text()}")
            time.sleep(0.5)
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
