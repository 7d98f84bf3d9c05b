"""The sandbox for model-written code. It is set up in two steps.

`confine_worker` restricts a worker once. All processes that the worker forks inherit these restrictions and can't
remove them. `confine_process` then restricts each process that is forked for a check: it switches to another user, sets
resource limits, and also blocks the system calls that the worker itself needs.

Levels: `basic` needs no_new_privs, rlimits and seccomp; `strict` also needs an unprivileged user and Landlock. If a
layer of the level is not available (`missing_layers`), checks are refused; the sandbox is never silently weaker.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import resource
import struct
import sys
import sysconfig
from collections.abc import Callable
from typing import NamedTuple

from .syscalls import filters

NOBODY = 65534
LAYERS = {"basic": ("no_new_privs", "seccomp"), "strict": ("unprivileged", "no_new_privs", "landlock", "seccomp")}

PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, PR_SET_SECCOMP, PR_GET_SECCOMP = 38, 39, 22, 21
PR_SET_DUMPABLE, PR_SET_PDEATHSIG = 4, 1
SECCOMP_MODE_FILTER = 2
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
READ_FILE, READ_DIR = 1 << 2, 1 << 3
ALL_ACCESS = (1 << 13) - 1  # every access right of Landlock's first version
CAPABILITY_VERSION_3 = 0x20080522
MAX_DESCRIPTORS = 32


class ResourceLimits(NamedTuple):
    """The resource limits of a check, and the level of its sandbox."""

    level: str
    timeout_s: float
    memory_mb: int
    statm: int
    """Descriptor of the worker's /proc/self/statm, opened before Landlock blocks /proc."""

    def address_space(self) -> int:
        """Address space in bytes for a process that is forked now: what it inherits, plus the memory of a check."""
        return int(os.pread(self.statm, 64, 0).split()[0]) * _PAGE + (self.memory_mb << 20)


def missing_layers(level: str) -> list[str]:
    """The layers of the level that do not work on this machine. Each is tested in its own process."""
    probes: dict[str, Callable[[], None]] = {
        "unprivileged": drop_privileges,
        "no_new_privs": no_new_privileges,
        "landlock": _probe_landlock,
        "seccomp": _probe_seccomp,
    }
    with contextlib.suppress(OSError):
        load_filters()
    names = LAYERS[level]
    if os.geteuid() == 0 and "unprivileged" not in names:  # no level runs code as root
        names = ("unprivileged", *names)
    return [name for name in names if not _probe_succeeds(probes[name])]


def confine_worker(level: str) -> None:
    """Applies, irreversibly, the restrictions that a worker shares with all its forked processes.

    Afterwards only Python's own library can be imported, and no file can be written.

    Raises:
        OSError: a restriction could not be applied; the caller must not run any code.
    """
    _drop_groups()
    no_new_privileges()
    _prctl(PR_SET_DUMPABLE, 0)
    limits = {resource.RLIMIT_FSIZE: 0, resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: MAX_DESCRIPTORS}
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))
    if level == "strict":
        landlock()
    install_filter(filters()[0])


def require_confinement(level: str) -> None:
    """Checks, in a worker that `confine_worker` has restricted, that the restrictions hold for all that it forks.

    Raises:
        OSError: one is missing; the caller must not run any code.
    """
    if _prctl(PR_GET_NO_NEW_PRIVS) != 1 or _prctl(PR_GET_SECCOMP) != SECCOMP_MODE_FILTER:
        raise OSError("the worker is not confined")
    if os.geteuid() == 0 and (os.getgroups() or os.getresgid() != (NOBODY, NOBODY, NOBODY)):
        raise OSError("the worker has groups")
    if level == "strict":
        _require_no_read_access("/")


def confine_process(limits: ResourceLimits, address_space: int) -> None:
    """Restricts the calling process, irreversibly, in addition to the restrictions of its worker.

    Raises:
        OSError: a restriction could not be applied; the caller must not run the code.
    """
    if limits.level == "strict" or os.geteuid() == 0:
        drop_privileges()
    _prctl(PR_SET_PDEATHSIG, 9)  # after the change of user, which resets this and PR_SET_DUMPABLE
    _prctl(PR_SET_DUMPABLE, 0)
    cpu_s = int(limits.timeout_s) + 2
    resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    install_filter(filters()[1])


def keep_only(*fds: int) -> None:
    """Closes all descriptors except these. stdin and stdout become the worker's stderr, which is /dev/null."""
    for fd in (0, 1):
        os.dup2(2, fd)
    low = 3
    for fd in sorted(fds):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, MAX_DESCRIPTORS)


def drop_privileges() -> None:
    """If the process is root, switches to a user without capabilities. `confine_worker` has dropped its groups.

    Raises:
        OSError: the process still has privileges.
    """
    if os.geteuid() == 0:
        os.setresuid(NOBODY, NOBODY, NOBODY)
    if _CAPGET(_CAPABILITY_HEADER, _CAPABILITIES) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    if os.geteuid() == 0 or _CAPABILITIES[0] or _CAPABILITIES[3]:  # the effective ones, in two words
        raise OSError("privileges are left")


def _drop_groups() -> None:
    if os.geteuid() == 0 and (os.getgroups() or os.getresgid() != (NOBODY, NOBODY, NOBODY)):
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)


def no_new_privileges() -> None:
    """Prevents exec from gaining privileges."""
    _prctl(PR_SET_NO_NEW_PRIVS, 1)


def landlock() -> None:
    """Allows opening files only to read Python's own library.

    Raises:
        OSError: the kernel has no Landlock.
    """
    attributes = struct.pack("Q", ALL_ACCESS)
    ruleset = _syscall(LANDLOCK_CREATE, attributes, len(attributes), 0)
    for folder in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}:
        handle = os.open(folder, os.O_PATH | os.O_CLOEXEC)
        rule = struct.pack("=Qi", READ_FILE | READ_DIR, handle)
        _syscall(LANDLOCK_ADD, ruleset, 1, rule, 0)
        os.close(handle)
    _syscall(LANDLOCK_RESTRICT, ruleset, 0)
    os.close(ruleset)


def seccomp() -> None:
    """Denies the system calls that a computation does not need, with EPERM.

    Raises:
        OSError: the kernel has no seccomp, or there is no filter for this processor architecture.
    """
    for program in filters():
        install_filter(program)


def load_filters() -> None:
    """Builds the filters before the forks, which then share their memory."""
    for program in filters():
        _loaded(program)


def install_filter(program: bytes) -> None:
    """Installs a seccomp program for the calling process and all that it forks."""
    _prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.addressof(_loaded(program)[0]))


@functools.cache
def _loaded(program: bytes) -> tuple[ctypes.Array[ctypes.c_char], ctypes.Array[ctypes.c_char]]:
    """struct sock_fprog, and the program that it points to."""
    code = ctypes.create_string_buffer(program)
    return ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))), code


def _probe_succeeds(probe: Callable[[], None]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            probe()
        except BaseException:  # noqa: BLE001 - whatever the cause, the layer does not work
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _probe_landlock() -> None:
    no_new_privileges()
    landlock()
    _require_no_read_access("/")


def _require_no_read_access(path: str) -> None:
    try:
        os.close(os.open(path, os.O_RDONLY))
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


_PAGE = resource.getpagesize()
_LIBC = ctypes.CDLL(None, use_errno=True)
# Set up once in the worker: a forked process copies every memory page that it writes to.
_PRCTL, _CAPGET = _LIBC.prctl, _LIBC.capget
_PRCTL.argtypes = (ctypes.c_int, *(ctypes.c_ulong,) * 4)
_CAPABILITY_HEADER, _CAPABILITIES = struct.pack("Ii", CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()


def _prctl(option: int, argument: int = 0, address: int = 0) -> int:
    result: int = _PRCTL(option, argument, address, 0, 0)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")
    return result


def _syscall(number: int, *arguments: int | bytes) -> int:
    values = [a if isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    result: int = _LIBC.syscall(ctypes.c_long(number), *values)
    if result < 0:
        raise OSError(ctypes.get_errno(), f"system call {number}")
    return result


if sys.platform != "linux":
    raise ImportError("the sandbox needs Linux")
