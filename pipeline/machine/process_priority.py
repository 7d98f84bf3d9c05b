"""Priority of processes when engines run on CPUs."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from pathlib import Path

NICENESS = 10
SLICE_NS = 100_000_000
"""Time slice of a process with lowered priority: how long it may wait for a core and then keep it. It is long because
each time the process interrupts one thread of an engine, all other threads wait for that one at their next barrier."""

SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""Number of the system call that sets a time slice; glibc has a function for it only since 2.41."""


def lower_priority() -> None:
    """Lowers the priority of this process's present and future threads, so that engines on this machine go first.

    SmolLM2-135M generates a tenth more tokens on two cores when the processes around the engine have lower priority. A
    process of lower priority still gets a tenth of a core when engines use all of them. Linux before 6.12 applies only
    the niceness. Other systems are left unchanged.
    """
    number = SCHED_SETATTR.get(platform.machine())
    if platform.system() != "Linux" or number is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for task in Path("/proc/self/task").iterdir():
        thread = int(task.name)
        try:
            niceness = max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread))
        except ProcessLookupError:  # the thread ended after it was listed
            continue
        # struct sched_attr, first version: size, policy, flags, nice, priority, runtime, deadline, period.
        attributes = struct.pack("=IIQiIQQQ", 48, os.SCHED_OTHER, 0, niceness, 0, SLICE_NS, 0, 0)
        if libc.syscall(number, thread, attributes, 0) and (error := ctypes.get_errno()) != errno.ESRCH:
            raise OSError(error, f"sched_setattr: {os.strerror(error)}")
