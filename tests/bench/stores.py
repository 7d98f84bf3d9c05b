"""An S3 server on this machine, moto's over HTTP, for benchmarks and tests."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx


@contextlib.contextmanager
def served() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The server's address and process, until the end of the block.

    Raises:
        RuntimeError: it did not start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    endpoint, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 300
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                if process.poll() is not None:
                    raise RuntimeError("the S3 server ended at its start")
                if time.monotonic() > deadline:
                    raise RuntimeError("the S3 server does not answer")
                with contextlib.suppress(httpx.TransportError):
                    httpx.get(endpoint).raise_for_status()
                    break
                time.sleep(0.1)
            yield endpoint, process
        finally:
            process.kill()


def environment(endpoint: str, folder: Path) -> dict[str, str]:
    """What leads a process and its children to the server, and to no settings of whoever runs it.

    Args:
        folder: where no settings lie.
    """
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(folder / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none"),
    }
