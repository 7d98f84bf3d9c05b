"""How the tests share a machine when several processes run them."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from fusechat.pipeline.machine.hardware import machine_memory, num_cores

# No example fails because the machine is slow.
settings.register_profile("patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

if "PYTEST_XDIST_WORKER" in os.environ:
    # There is a process for each core already: more threads than that wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl
def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`: a process a core, and 2 GB for each. The plugin's own count knows no container's limit."""
    return max(1, min(num_cores(), int(machine_memory() / 2e9)))
