"""What the machine offers: cores and memory within a container's limits, and the precision that suits a processor."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fusechat.pipeline.machine import hardware

CORES = len(os.sched_getaffinity(0))
V2 = {"proc/self/cgroup": "0::/pod\n"}


def machine(root: Path, files: dict[str, str]) -> Path:
    """A file system with these files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({}, float("inf")),
        (V2 | {"sys/fs/cgroup/cpu.max": "max 100000\n"}, float("inf")),
        (V2 | {"sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        (V2 | {"sys/fs/cgroup/cpu.max": "max 100000\n", "sys/fs/cgroup/pod/cpu.max": "150000 100000\n"}, 1.5),
        (
            {
                "proc/self/cgroup": "4:memory:/a\n1:cpu,cpuacct:/docker/1\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "25000\n",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            },
            0.25,
        ),
        (
            {
                "proc/self/cgroup": "1:cpu:/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            float("inf"),
        ),
    ],
)
def test_a_containers_limit_is_found(files: dict[str, str], limit: float, tmp_path: Path) -> None:
    root = machine(tmp_path, files)
    assert hardware.cpu_limit(root) == limit
    assert hardware.num_cores(root) == (CORES if math.isinf(limit) else min(CORES, math.ceil(limit)))


def test_memory_is_the_machines_or_the_containers_limit(tmp_path: Path) -> None:
    here = hardware.machine_memory(tmp_path)
    assert here == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limited = machine(
        tmp_path, V2 | {"sys/fs/cgroup/memory.max": f"{4 * 2**30}\n", "sys/fs/cgroup/pod/memory.max": "max\n"}
    )
    assert hardware.machine_memory(limited) == 4 * 2**30


@pytest.mark.parametrize(
    ("machine", "capabilities", "torch_computes", "precision"),
    [
        ("x86_64", {"avx2": True}, "AVX2", "float32"),
        ("x86_64", {"avx2": True, "avx512_f": True}, "AVX512", "float32"),
        ("x86_64", {"avx512_f": True, "avx512_bf16": True}, "AVX512", "bfloat16"),
        ("x86_64", {"avx512_f": True, "amx_bf16": True}, "AVX512", "bfloat16"),
        ("x86_64", {"avx512_f": True, "avx512_bf16": True}, "AVX2", "float32"),  # torch is held below the processor
    ],
)
def test_bfloat16_is_taken_where_the_processor_computes_it(
    machine: str, capabilities: dict[str, bool], torch_computes: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: torch_computes)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", machine)))
    assert hardware.cpu_precision.__wrapped__() == precision


@pytest.mark.parametrize(("supported", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_arm_says_by_torch_whether_it_computes_bfloat16(
    supported: bool, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_arm_bfloat16", lambda: supported)
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "", "", "", "aarch64")))
    assert hardware.cpu_precision.__wrapped__() == precision


def test_torch_held_to_avx2_computes_in_float32() -> None:
    env = os.environ | {"ATEN_CPU_CAPABILITY": "avx2"}
    code = "from fusechat.pipeline.machine import hardware; print(hardware.cpu_precision())"
    assert subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True).stdout == "float32\n"


def test_the_speed_of_matrix_products_is_measured_and_threads_stay_as_they_were() -> None:
    before = torch.get_num_threads()
    assert hardware.gflops.__wrapped__("float32") > 0
    assert torch.get_num_threads() == before
