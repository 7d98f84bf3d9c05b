"""Deadlines: processor time counts, and the clock only far behind it."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from fusechat.pipeline.verify import CheckTask, VerifierPool
from fusechat.pipeline.verify.frames import LateError
from fusechat.pipeline.verify.sandbox import missing_layers
from fusechat.pipeline.verify.time_limits import ProcessTime

NEVER_S = 100_000.0


def test_a_process_that_waits_uses_no_time() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        time.sleep(1)
        limit = ProcessTime(process.pid, 5.0, NEVER_S)
        before = limit.wait_s()
        time.sleep(0.5)
        assert before - limit.wait_s() < 0.4
        assert process.stdin is not None
        process.stdin.close()


def test_a_process_that_works_uses_it_up() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as process:
        limit = ProcessTime(process.pid, 0.2, NEVER_S)
        with pytest.raises(LateError):
            while True:
                time.sleep(limit.wait_s())
        process.kill()


def test_the_clock_ends_what_only_waits() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        limit = ProcessTime(process.pid, NEVER_S, 0.1)
        with pytest.raises(LateError):
            while True:
                time.sleep(limit.wait_s())
        process.kill()


@pytest.mark.skipif(bool(missing_layers("basic")), reason="this machine lacks layers of the sandbox")
def test_a_response_may_wait_longer_than_its_processor_time() -> None:
    response = "import time\ndef f(x):\n    time.sleep(1.2)\n    return x + 1"
    with VerifierPool(1, timeout_s=1, sandbox="basic") as pool:
        task = CheckTask(id="c", domain="code", response=response, tests="assert f(1) == 2", entry_point="f")
        verdict = dict(pool.run([task]))["c"]
    assert verdict.reason == "passed", verdict
