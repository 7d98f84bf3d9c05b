"""What the machine offers: cores, and an allocator that suits tensors."""

from __future__ import annotations

import os
from pathlib import Path

LIBRARIES = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib")
GLIBC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "1000000000"}


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def allocator_env() -> dict[str, str]:
    """A memory allocator that keeps what it was given: on CPU, returning pages is half of a training step's time.

    tcmalloc where the system has it, else glibc told to keep its heap. The jemalloc that Ray brings, with long
    decay times, spent 13 s in the kernel over six SFT steps of a 135M model; glibc with these settings, 3 s.
    """
    for folder in LIBRARIES:
        library = Path(folder) / "libtcmalloc_minimal.so.4"
        if library.exists():
            return {"LD_PRELOAD": str(library)}
    return dict(GLIBC)
