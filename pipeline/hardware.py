"""What the machine offers: cores, memory, an allocator that suits tensors."""

from __future__ import annotations

import os
from pathlib import Path


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def allocator_env() -> dict[str, str]:
    """Environment that keeps freed tensors mapped; on CPU half of a training step is the kernel's page faults.

    tcmalloc where the system has it, the jemalloc that Ray carries otherwise; glibc's own settings where neither is.
    """
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"):
        library = Path(folder, "libtcmalloc_minimal.so.4")
        if library.is_file():
            return {"LD_PRELOAD": str(library)}
    jemalloc = _ray_jemalloc()
    if jemalloc.is_file():
        return {"LD_PRELOAD": str(jemalloc), "MALLOC_CONF": "dirty_decay_ms:-1,muzzy_decay_ms:-1"}
    return {
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": "100000000000",
        "MALLOC_TOP_PAD_": "1000000000",
    }


def _ray_jemalloc() -> Path:
    from importlib.util import find_spec

    spec = find_spec("ray")
    return Path(spec.origin).parent / "core" / "libjemalloc.so" if spec and spec.origin else Path("/nonexistent")
