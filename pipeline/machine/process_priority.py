"""Who gets the cores first where engines run on CPUs."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from pathlib import Path

NICENESS = 10
SLICE_NS = 100_000_000
"""How long a process that gives way may wait for a core and then keep it: it is seldom in a hurry, and each time that
it interrupts one thread of an engine, all the others wait for that one at their next barrier."""

SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
"""Number of the system call that sets a slice; glibc has had a function for it since 2.41 alone."""


def lower_priority() -> None:
    """Lets an engine's threads on this machine go before all threads that this process has and will have.

    SmolLM2-135M generates a tenth more on two cores when what feeds it gives way. A process of lower priority still
    gets a tenth of a core when engines want all of them. Linux before 6.12 takes the niceness alone; other systems
    are left as they are.
    """
    number = SCHED_SETATTR.get(platform.machine())
    if platform.system() != "Linux" or number is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for task in Path("/proc/self/task").iterdir():
        thread = int(task.name)
        try:
            niceness = max(NICENESS, os.getpriority(os.PRIO_PROCESS, thread))
        except ProcessLookupError:  # it ended since the list was made
            continue
        # struct sched_attr, first version: size, policy, flags, nice, priority, runtime, deadline, period.
        attributes = struct.pack("=IIQiIQQQ", 48, os.SCHED_OTHER, 0, niceness, 0, SLICE_NS, 0, 0)
        if libc.syscall(number, thread, attributes, 0) and (error := ctypes.get_errno()) != errno.ESRCH:
            raise OSError(error, f"sched_setattr: {os.strerror(error)}")
