"""Seccomp filters for model-written code: they deny the system calls that a computation does not need.

There are two filter programs, because the worker must still be able to fork. The worker installs `shared` once, and its
forked processes inherit it. The processes of each check also install `own`, which denies the few calls that the worker
itself needs. The kernel runs all installed programs and applies the strictest result.
"""

from __future__ import annotations

import functools
import os
import struct

ALLOW, DENY, KILL = 0x7FFF0000, 0x00050001, 0x80000000
ARCH_X86_64, ARCH_AARCH64 = 0xC000003E, 0xC00000B7
# Sockets, other processes' memory, signals and priority, kernel surfaces, and changes to the file system.
SHARED_X86_64 = (
    41, 42, 43, 44, 45, 46, 47, 49, 50, 53, 59, 101, 129, 200, 234, 297, 288, 299, 307, 310, 311, 312, 322, 272, 308,
    165, 166, 155, 161, 321, 298, 319, 425, 426, 427, 323, 424, 434, 438, 29, 30, 31, 64, 65, 66, 68, 69, 70, 71, 240,
    241, 242, 243, 248, 249, 250, 246, 320, 175, 313, 176, 105, 106, 113, 114, 122, 123, 126, 76, 77, 82, 83, 84, 85,
    86, 87, 88, 90, 91, 92, 93, 94, 132, 133, 188, 189, 190, 197, 198, 199, 235, 258, 259, 260, 261, 263, 264, 265,
    266, 268, 280, 285, 316, 437, 452, 253, 254, 294, 300, 303, 304, 428, 429, 430, 431, 432, 433, 442, 169, 203, 314,
    144, 142, 141, 251,
)  # fmt: skip
SHARED_AARCH64 = (
    198, 199, 200, 201, 202, 203, 204, 205, 206, 207, 211, 212, 221, 117, 138, 130, 131, 240, 269, 243, 242, 270, 271,
    272, 281, 97, 268, 40, 39, 51, 280, 241, 279, 425, 426, 427, 282, 424, 434, 438, 194, 195, 196, 190, 191, 192, 193,
    186, 187, 188, 189, 180, 181, 182, 183, 184, 185, 217, 218, 219, 104, 294, 105, 273, 106, 144, 146, 143, 145, 45,
    46, 38, 34, 35, 36, 37, 33, 52, 53, 54, 55, 88, 5, 6, 7, 14, 15, 16, 276, 437, 452, 26, 27, 262, 263, 264, 265,
    428, 429, 430, 431, 432, 433, 442, 122, 274, 119, 140, 30,
)  # fmt: skip
# Processes, kill, users, prctl and seccomp, limits.
OWN_X86_64 = (56, 57, 58, 435, 62, 116, 117, 119, 157, 317, 160, 302)
OWN_AARCH64 = (220, 435, 129, 159, 147, 149, 167, 277, 164, 261)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
ANY_OF, EQUAL = 0x45, 0x15
OPEN, OPENAT, FCNTL = 2, 257, 72
OPENAT_AARCH64, FCNTL_AARCH64 = 56, 25
# With fcntl's F_SETOWN, F_SETSIG and F_SETOWN_EX, a pipe can send any signal to any process of the same user.
OWNERS = (8, 10, 15)

Rule = tuple[int, int, int, int]
"""System call, index of its argument, comparison, value: denied if the comparison holds."""


@functools.cache
def filters() -> tuple[bytes, bytes]:
    """The programs `shared` and `own`, built once before the forks.

    Raises:
        OSError: there is no filter for this processor architecture.
    """
    machine = os.uname().machine
    if machine == "x86_64":
        rules: list[Rule] = [(OPEN, 1, ANY_OF, WRITES), (OPENAT, 2, ANY_OF, WRITES)]
        rules += [(FCNTL, 1, EQUAL, command) for command in OWNERS]
        shared = program(ARCH_X86_64, SHARED_X86_64, rules, x32=True)
        return shared, program(ARCH_X86_64, OWN_X86_64, [], x32=True)
    if machine == "aarch64":
        rules = [(OPENAT_AARCH64, 2, ANY_OF, WRITES)]
        rules += [(FCNTL_AARCH64, 1, EQUAL, command) for command in OWNERS]
        shared = program(ARCH_AARCH64, SHARED_AARCH64, rules, x32=False)
        return shared, program(ARCH_AARCH64, OWN_AARCH64, [], x32=False)
    raise OSError(f"no system call filter for {machine}")


def program(arch: int, denied: tuple[int, ...], rules: list[Rule], *, x32: bool) -> bytes:
    """A BPF program over struct seccomp_data: number at 0, architecture at 4, arguments from 16 in steps of 8."""
    lines = [_load(4), _jump(EQUAL, arch, 1, 0), _end(KILL), _load(0)]
    if x32:  # the same calls with other numbers
        lines += [_jump(0x35, 0x40000000, 0, 1), _end(KILL)]
    for number in denied:
        lines += [_jump(EQUAL, number, 0, 1), _end(DENY)]
    for number, argument, comparison, value in rules:
        lines += [
            _jump(EQUAL, number, 0, 4),
            _load(16 + 8 * argument),
            _jump(comparison, value, 0, 1),
            _end(DENY),
            _load(0),
        ]
    return b"".join([*lines, _end(ALLOW)])


def _load(offset: int) -> bytes:
    return struct.pack("HBBI", 0x20, 0, 0, offset)


def _jump(comparison: int, value: int, yes: int, no: int) -> bytes:
    return struct.pack("HBBI", comparison, yes, no, value)


def _end(action: int) -> bytes:
    return struct.pack("HBBI", 0x06, 0, 0, action)
