"""Walls around model-written code, raised in the process itself just before it runs.

Levels: `basic` needs no_new_privs, rlimits and seccomp; `strict` needs an unprivileged user and Landlock as well. A
level that lost a layer is refused (`missing_layers`), never quietly weakened.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import platform
import resource
import struct
import sys
import sysconfig
from collections.abc import Callable

NOBODY = 65534
LAYERS = {"basic": ("no_new_privs", "seccomp"), "strict": ("unprivileged", "no_new_privs", "landlock", "seccomp")}

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_SET_DUMPABLE, PR_SET_PDEATHSIG = 38, 22, 4, 1
SECCOMP_MODE_FILTER, ALLOW, DENY, KILL = 2, 0x7FFF0000, 0x00050001, 0x80000000
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
READ_FILE, READ_DIR = 1 << 2, 1 << 3
ALL_ACCESS = (1 << 13) - 1  # every right of Landlock's first version

ARCH_X86_64, ARCH_AARCH64 = 0xC000003E, 0xC00000B7
# Processes, privileges, other processes' memory, sockets, signals, kernel surfaces, and changes to the file system.
DENIED_X86_64 = (
    41, 42, 43, 44, 45, 46, 47, 49, 50, 53, 56, 57, 58, 59, 62, 101, 129, 200, 234, 297, 288, 299, 307, 310, 311, 312,
    435, 322, 272, 308, 165, 166, 155, 161, 321, 298, 319, 425, 426, 427, 323, 424, 434, 438, 29, 30, 31, 64, 65, 66,
    68, 69, 70, 71, 240, 241, 242, 243, 248, 249, 250, 246, 320, 175, 313, 176, 105, 106, 113, 114, 116, 117, 119, 122,
    123, 126, 76, 77, 82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 132, 133, 188, 189, 190, 197, 198, 199, 235, 258,
    259, 260, 261, 263, 264, 265, 266, 268, 280, 285, 316, 437, 452, 253, 254, 294, 300, 303, 304, 428, 429, 430, 431,
    432, 433, 442, 169, 160, 302, 157, 317, 203, 314, 144, 142,
)  # fmt: skip
OPEN, OPENAT = 2, 257
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
DENIED_AARCH64 = (
    198, 199, 200, 201, 202, 203, 204, 205, 206, 207, 211, 212, 220, 221, 129, 117, 138, 130, 131, 240, 269, 243, 242,
    270, 271, 272, 435, 281, 97, 268, 40, 39, 51, 261, 280, 241, 279, 425, 426, 427, 282, 424, 434, 438, 194, 195, 196,
    190, 191, 192, 193, 186, 187, 188, 189, 180, 181, 182, 183, 184, 185, 217, 218, 219, 104, 294, 105, 273, 106, 144,
    146, 143, 145, 147, 149, 159, 45, 46, 38, 34, 35, 36, 37, 33, 52, 53, 54, 55, 88, 5, 6, 7, 14, 15, 16, 276, 437,
    452, 26, 27, 262, 263, 264, 265, 428, 429, 430, 431, 432, 433, 442, 164, 261, 167, 277, 122, 274, 119,
)  # fmt: skip


def missing_layers(level: str) -> list[str]:
    """Layers of the level that this machine does not give, each probed in a process of its own."""
    probes: dict[str, Callable[[], None]] = {
        "unprivileged": drop_privileges,
        "no_new_privs": no_new_privileges,
        "landlock": _probe_landlock,
        "seccomp": _probe_seccomp,
    }
    with contextlib.suppress(OSError):
        _filter()
        if "landlock" in LAYERS[level]:
            _ruleset()
    return [name for name in LAYERS[level] if not _holds(probes[name])]


def confine(level: str, timeout_s: float, memory_mb: int) -> None:
    """Raises the walls around the calling process, for good.

    Raises:
        OSError: a wall could not be raised; the caller must not run the code then.
    """
    _prctl(PR_SET_PDEATHSIG, 9)
    size = _size()
    # Made by root, if not before: the library may lie in a folder that the other user can't enter.
    ruleset = _ruleset() if level == "strict" else None
    if level == "strict" or os.geteuid() == 0:
        drop_privileges()
    no_new_privileges()
    _prctl(PR_SET_DUMPABLE, 0)
    limits = {
        resource.RLIMIT_AS: size + (memory_mb << 20),
        resource.RLIMIT_CPU: int(timeout_s) + 2,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NPROC: 0,
        resource.RLIMIT_NOFILE: 32,
    }
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))
    if ruleset is not None:
        _restrict(ruleset)
    seccomp()


def keep_only(*fds: int) -> None:
    """Closes all descriptors but these and Landlock's, which `confine` uses up; stdio becomes /dev/null."""
    if _ruleset.cache_info().currsize:
        fds = (*fds, _ruleset())
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    low = 3
    for fd in sorted(fds):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, min(resource.getrlimit(resource.RLIMIT_NOFILE)[0], 65536))


def drop_privileges() -> None:
    """Another user without groups and capabilities, where the process is root; nothing to drop otherwise.

    Raises:
        OSError: privileges are left.
    """
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    with open("/proc/self/status", "rb") as status:
        fields = dict(line.split(b":", 1) for line in status.read().splitlines() if b":" in line)
    if os.geteuid() == 0 or int(fields.get(b"CapEff", b"1"), 16):
        raise OSError("privileges are left")


def no_new_privileges() -> None:
    """exec can't raise privileges from here on."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def landlock() -> None:
    """No file may be opened but for reading Python's own library.

    Raises:
        OSError: the kernel has no Landlock.
    """
    _restrict(_ruleset())


@functools.cache
def _ruleset() -> int:
    """Descriptor of the rules; made once, before the forks, which costs more than all other walls together."""
    attributes = struct.pack("Q", ALL_ACCESS)
    ruleset = _syscall(LANDLOCK_CREATE, attributes, len(attributes), 0)
    for folder in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        handle = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", READ_FILE | READ_DIR, handle)
        _syscall(LANDLOCK_ADD, ruleset, 1, rule, 0)
        os.close(handle)
    return ruleset


def _restrict(ruleset: int) -> None:
    _syscall(LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)


def seccomp() -> None:
    """Refuses the system calls that a computation does not need, with EPERM.

    Raises:
        OSError: the kernel or the machine has no filter for it.
    """
    program = _filter()
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header)


@functools.cache
def _filter() -> bytes:
    """The filter's program; made once, before the forks.

    Raises:
        OSError: nobody wrote one for this machine.
    """
    machine = platform.machine()
    if machine == "x86_64":
        return b"".join(_program(ARCH_X86_64, DENIED_X86_64, ((OPEN, 1), (OPENAT, 2)), x32=True))
    if machine == "aarch64":
        return b"".join(_program(ARCH_AARCH64, DENIED_AARCH64, ((56, 2),), x32=False))
    raise OSError(f"no system call filter for {machine}")


def _program(arch: int, denied: tuple[int, ...], opens: tuple[tuple[int, int], ...], *, x32: bool) -> list[bytes]:
    """A BPF program over struct seccomp_data: number at 0, architecture at 4, arguments from 16 in steps of 8."""

    def load(offset: int) -> bytes:
        return struct.pack("HBBI", 0x20, 0, 0, offset)

    def equal(value: int, yes: int, no: int) -> bytes:
        return struct.pack("HBBI", 0x15, yes, no, value)

    def end(action: int) -> bytes:
        return struct.pack("HBBI", 0x06, 0, 0, action)

    program = [load(4), equal(arch, 1, 0), end(KILL), load(0)]
    if x32:  # the same calls under other numbers
        program += [struct.pack("HBBI", 0x35, 0, 1, 0x40000000), end(KILL)]
    for number in denied:
        program += [equal(number, 0, 1), end(DENY)]
    for number, argument in opens:
        program += [
            equal(number, 0, 4),
            load(16 + 8 * argument),
            struct.pack("HBBI", 0x45, 0, 1, WRITES),  # any of these bits
            end(DENY),
            end(ALLOW),
        ]
    return [*program, end(ALLOW)]


def _holds(probe: Callable[[], None]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            probe()
        except BaseException:  # noqa: BLE001 - whatever it is, the layer does not hold
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _probe_landlock() -> None:
    no_new_privileges()
    landlock()
    try:
        os.close(os.open("/etc/hostname", os.O_RDONLY))
    except PermissionError:
        return
    raise OSError("files can still be opened")


def _probe_seccomp() -> None:
    no_new_privileges()
    seccomp()
    try:
        os.fork()
    except PermissionError:
        return
    raise OSError("processes can still be started")


def _size() -> int:
    """Address space of this process, bytes."""
    with open("/proc/self/statm", "rb") as statm:
        return int(statm.read().split()[0]) * resource.getpagesize()


_LIBC = ctypes.CDLL(None, use_errno=True)


def _prctl(*arguments: int | bytes) -> None:
    padded = (*arguments, *(0,) * (5 - len(arguments)))
    values = [a if isinstance(a, bytes) else ctypes.c_ulong(a) for a in padded]
    if _LIBC.prctl(*values) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {arguments[0]!r}")


def _syscall(number: int, *arguments: int | bytes) -> int:
    values = [a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    result: int = _LIBC.syscall(ctypes.c_long(number), *values)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


if sys.platform != "linux":
    raise ImportError("the sandbox needs Linux")
