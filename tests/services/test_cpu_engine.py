"""The process of an engine on CPUs: forked, and without its parent's connections."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest


def test_who_is_connected_to_the_parent_hears_of_its_end_while_the_engine_runs() -> None:
    pytest.importorskip("vllm")
    from fusechat.services.cpu_engine import EngineContext

    context = EngineContext()
    ours, theirs = socket.socketpair()
    theirs.settimeout(60)
    # A pipe of one direction, as multiprocessing's queues have it, is kept: it is no socket.
    told, telling = context.Pipe(duplex=False)
    process = context.Process(target=telling.send, args=("kept",))
    process.start()
    assert told.recv() == "kept"
    process.join()

    read, write = os.pipe()

    def wait() -> None:
        os.write(write, str(Path(f"/proc/self/fd/{number}").readlink()).encode())
        os.read(go, 1)

    number = ours.fileno()
    go, end = os.pipe()
    process = context.Process(target=wait)
    process.start()
    assert os.read(read, 100) == os.devnull.encode()
    ours.close()
    assert theirs.recv(1) == b"", "the process still holds the parent's socket"
    os.write(end, b".")
    process.join()
    assert process.exitcode == 0


def test_the_process_ends_with_a_parent_that_is_killed() -> None:
    pytest.importorskip("vllm")
    script = """
import time
from fusechat.services.cpu_engine import EngineContext

process = EngineContext().Process(target=time.sleep, args=(100_000,))
process.start()
print(process.pid, flush=True)
process.join()
"""
    env = os.environ | {"VLLM_LOGGING_LEVEL": "ERROR"}
    with subprocess.Popen([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            engine = psutil.Process(int(parent.stdout.readline()))
        finally:
            parent.kill()
    deadline = time.monotonic() + 300
    while engine.is_running() and engine.status() != psutil.STATUS_ZOMBIE:  # for which nobody here waits
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(("threads", "forks"), [("1", True), ("2", False), (None, False)])
def test_only_an_engine_of_one_thread_is_forked(
    threads: str | None, forks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("vllm")
    from fusechat.services import cpu_engine

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if threads is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    assert cpu_engine.can_fork() is forks
