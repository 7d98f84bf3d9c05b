"""The command `fusechat` in a process of its own, which a test may kill in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path


def run_fusechat(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    kill_when: Callable[[], bool] | None = None,
    terminate_when: Callable[[], bool] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs the command in a process group of its own. Its stdout contains stderr too.

    Args:
        env: its environment; by default this process's.
        kill_when: once it returns true, the whole process group gets SIGKILL.
        terminate_when: once it returns true, the command alone gets SIGTERM.
    """
    command = [sys.executable, "-m", "fusechat.pipeline.cli", *map(str, arguments)]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env=env,
    )
    stop_when = kill_when or terminate_when
    if stop_when is not None:
        while process.poll() is None and not stop_when():
            time.sleep(0.02)
        assert process.poll() is None, f"it ended before it could be stopped: {process.communicate()[0][-2000:]}"
        if kill_when is not None:
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.terminate()
    output, _ = process.communicate()
    return subprocess.CompletedProcess(command, process.returncode, output)
