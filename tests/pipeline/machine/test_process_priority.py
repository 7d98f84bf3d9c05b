"""Giving way: every thread of the process, those to come, and no process that was started before."""

import json
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import json, os, subprocess, threading
from fusechat.pipeline.machine.process_priority import lower_priority

def niceness(folder="self"):
    return [os.getpriority(os.PRIO_PROCESS, int(t)) for t in os.listdir(f"/proc/{folder}/task")]

def thread(work):
    t = threading.Thread(target=work, daemon=True)
    t.start()
    return t

before = niceness()
engine = subprocess.Popen(["sleep", "60"])
thread(threading.Event().wait)
lower_priority()
lower_priority()
later = []
thread(lambda: later.append(os.getpriority(os.PRIO_PROCESS, 0))).join()
print(json.dumps({"before": before, "threads": niceness(), "later": later, "engine": niceness(engine.pid)}))
engine.kill()
"""


@pytest.mark.skipif(platform.system() != "Linux", reason="priorities are set on Linux alone")
def test_all_threads_give_way_and_the_engine_does_not() -> None:
    found = json.loads(subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True).stdout)
    (before,) = found["before"]
    assert len(found["threads"]) >= 2  # a thread that was joined may still be listed
    assert set(found["threads"]) == {max(10, before)}
    assert found["later"] == [max(10, before)]
    assert found["engine"] == [before]


CHURN = """
import threading, time
from fusechat.pipeline.machine.process_priority import lower_priority

def churn():
    while time.monotonic() < end:
        for t in [threading.Thread(target=int) for _ in range(20)]:
            t.start()

end = time.monotonic() + 1.5
threading.Thread(target=churn).start()
while time.monotonic() < end:
    lower_priority()
"""


@pytest.mark.skipif(platform.system() != "Linux", reason="priorities are set on Linux alone")
def test_a_thread_that_ends_meanwhile_is_passed_over() -> None:
    subprocess.run([sys.executable, "-c", CHURN], check=True, timeout=600)
