"""The Ray that a run starts: what it says on the terminal."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fusechat.pipeline.cluster import connect
from fusechat.pipeline.errors import FusechatError

PROGRAM = """
import sys, time
from fusechat.pipeline.cluster import connect as cluster
from fusechat.pipeline.recipe import Cluster

cluster.set_quiet_env()
import os, ray

@ray.remote(max_retries=0, num_cpus=0)
def die():
    print("a worker's last words")
    os.kill(os.getpid(), 9)

with cluster.connected(Cluster(num_cpus=1)):
    try:
        ray.get(die.remote())
    except ray.exceptions.WorkerCrashedError as error:
        print("told:", type(error).__name__)
    time.sleep(3)  # Ray's own message comes by another way
"""


@pytest.mark.slow
def test_a_worker_that_dies_is_told_by_us_alone() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert found.stdout == "told: WorkerCrashedError\n"
    assert found.stderr == ""


@pytest.mark.parametrize(("slow", "starts"), [(0, True), (2, True), (3, False)])
def test_a_ray_that_a_busy_machine_starts_slowly_is_started_again(slow: int, starts: bool) -> None:
    asked: list[dict[str, object]] = []

    def init(**options: object) -> None:
        asked.append(options)
        if len(asked) <= slow:
            raise Exception("The current node timed out during startup. This could happen because ...")

    if starts:
        connect._start(init, num_cpus=2)
    else:
        with pytest.raises(FusechatError, match="Ray did not start in 3 tries: The current node timed out"):
            connect._start(init, num_cpus=2)
    assert asked == [{"address": "local", "include_dashboard": False, "num_cpus": 2}] * min(slow + 1, 3)


def test_another_error_of_rays_start_is_raised_at_once() -> None:
    def init(**options: object) -> None:
        raise ValueError("num_cpus must be positive")

    with pytest.raises(ValueError, match="num_cpus"):
        connect._start(init, num_cpus=0)


def test_rays_line_on_its_log_level_is_left_out_and_every_other_is_kept(capfd: pytest.CaptureFixture[str]) -> None:
    line = "[2026-11-30 08:53:25,822 I 2667 2667] logging.cc:303: Set ray log level from environment variable X to 3\n"
    with pytest.raises(ValueError, match="no room"), connect._hide_log_level_message():
        os.write(2, line.encode())
        print("the disk is full", file=sys.stderr)
        raise ValueError("no room")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "the disk is full\nafterwards\n"
