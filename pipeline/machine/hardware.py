"""This machine: cores, memory, arithmetic speed, and a memory allocator that suits tensors."""

from __future__ import annotations

import math
import os
import sys
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
GLIBC_ENV = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "1000000000"}

Precision = Literal["bfloat16", "float32"]


def num_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: its CPU affinity, but at most its container's limit, rounded up."""
    cores = len(os.sched_getaffinity(0))
    limit = cpu_limit(root)
    return cores if math.isinf(limit) else max(1, min(cores, math.ceil(limit)))


def cpu_limit(root: Path = Path("/")) -> float:
    """The container's limit in cores, e.g. 0.5; infinite if there is no limit.

    Args:
        root: root of the file system; tests pass their own.
    """
    found = [math.inf]
    for folder in _cgroups(root, "cpu"):
        quota, period = "", ""
        with suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text().split()  # version 2
        with suppress(OSError):
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period")
            )  # version 1
        if quota.isdecimal() and int(quota):  # otherwise "max", or -1 in version 1
            found.append(int(quota) / int(period))
    return min(found)


def machine_memory(root: Path = Path("/")) -> float:
    """Bytes of memory that this process may use: the machine's, but at most its container's limit."""
    found = [float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    for folder in _cgroups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):  # versions 2 and 1
            with suppress(OSError):
                limit = (folder / name).read_text().strip()
                found += [float(limit)] if limit.isdecimal() else []
    return min(found)


def _cgroups(root: Path, controller: str) -> list[Path]:
    """Folders of this process's control group and its parents, in cgroup version 1 or 2."""
    found = []
    mounts = root / "sys/fs/cgroup"
    lines = []
    with suppress(OSError):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        mount = mounts / controllers if controllers else mounts
        own = Path(path.lstrip("/"))
        found += [mount / part for part in (own, *own.parents)]
    return found


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "this processor")


@cache
def cpu_precision() -> Precision:
    """The fastest precision on this processor: bfloat16 if it multiplies bfloat16 matrices in hardware, else float32.

    Without this hardware, a product of two bfloat16 matrices takes at least five times as long as in float32.
    """
    import torch

    if os.uname().machine == "aarch64":
        return "bfloat16" if _arm_bfloat16() else "float32"
    found = torch.cpu.get_capabilities()
    in_hardware = found.get("avx512_bf16") or found.get("amx_bf16")
    # ATEN_CPU_CAPABILITY can restrict torch to less than the processor has.
    return "bfloat16" if in_hardware and torch.backends.cpu.get_cpu_capability().startswith("AVX512") else "float32"


def _arm_bfloat16() -> bool:
    import torch

    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@cache
def gflops(precision: Precision) -> float:
    """Speed of matrix products in GFLOP/s, on all cores that this process may use. Takes half a second.

    The sizes are those of a small model's layers over a batch of rows. The fastest of several products counts, because
    other work on the machine is usually brief.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(num_cores())
    try:
        a = torch.ones(256, 576, dtype=getattr(torch, precision))
        b = torch.ones(576, 1536, dtype=getattr(torch, precision))
        torch.mm(a, b)  # the first one sets up kernels and threads
        best, end = math.inf, time.perf_counter() + 0.5
        while (began := time.perf_counter()) < end or math.isinf(best):
            torch.mm(a, b)
            best = min(best, time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return 2 * a.numel() * b.shape[1] / best / 1e9


def allocator_env() -> dict[str, str]:
    """Environment variables of a memory allocator that keeps freed memory.

    On CPU, returning pages to the system takes half of a training step's time. The allocator is tcmalloc if the Python
    environment or the system has it, otherwise glibc with settings that keep its heap. A step of SFT of a 135M
    model took 2.4 s at 4.0 GB with tcmalloc, 2.9 s at 5.1 GB with glibc, 2.9 s at 9.0 GB with Ray's jemalloc.
    """
    for folder in (f"{sys.prefix}/lib", *LIBRARIES):
        library = Path(folder) / "libtcmalloc_minimal.so.4"
        if library.exists():
            return {"LD_PRELOAD": str(library)}
    return dict(GLIBC_ENV)
