"""The Ray that a run starts: what it says on the terminal."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys, time
from fusechat.pipeline import cluster
from fusechat.pipeline.config import Cluster

cluster.quieten()
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
    found = subprocess.run([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True, check=True)
    assert found.stdout == "told: WorkerCrashedError\n"
