"""One container's process: `python confined.py SPEC`, run as root in namespaces of its own (see pods.py).

Builds a root of the spec's folders, all of it read-only but the writable ones, and becomes the spec's command: another
user without capabilities, no new privileges, and the system calls refused that container runtimes refuse by default to
who has no capability. Only the standard library: it runs before the product can be seen.

SPEC is JSON: `root`, an empty folder to mount on; `reads` and `writes`, [source, place] each; `memory`, [place, bytes]
each; `user`, `environment`, `command`; `joins`, whether the root is there already.
"""

from __future__ import annotations

import ctypes
import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

# What runtimes' default profile refuses to who has no capability, by number on x86-64: mounts, namespaces, keys, kernel
# modules, tracing, io_uring, memory policies, clocks.
REFUSED = (
    103, 134, 136, 139, 153, 155, 156, 161, 163, 164, 165, 166, 167, 168, 169, 172, 173, 174, 175, 176, 177, 178, 179,
    180, 212, 237, 238, 239, 246, 248, 249, 250, 256, 272, 279, 298, 300, 303, 304, 305, 308, 313, 320, 321, 323, 425,
    426, 427, 428, 429, 430, 431, 432, 433, 442, 443,
)  # fmt: skip
CLONE3, NOT_THERE, NOT_PERMITTED, ALLOWED = 435, 0x00050026, 0x00050001, 0x7FFF0000
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True)


def build(spec: dict[str, Any]) -> None:
    """Mounts the container's root and enters it."""
    root = Path(spec["root"])
    mount("-t", "tmpfs", "-o", "mode=755", "root", str(root))
    for name in ("proc", "dev"):
        (root / name).mkdir()
    mount("-t", "proc", "proc", str(root / "proc"))
    mount("-t", "tmpfs", "-o", "mode=755", "dev", str(root / "dev"))
    for name in DEVICES:
        (root / "dev" / name).touch()
        mount("--bind", f"/dev/{name}", str(root / "dev" / name))
    (root / "dev/fd").symlink_to("/proc/self/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (root / "dev" / name).symlink_to(f"/proc/self/fd/{number}")
    for place, size in spec["memory"]:
        target = under(root, place)
        target.mkdir(parents=True)
        mount("-t", "tmpfs", "-o", f"mode=1777,size={size}", "memory", str(target))
    binds = [(*r, True) for r in [["/sys", "/sys"], *spec["reads"]]] + [(*w, False) for w in spec["writes"]]
    for given, place, reads in sorted(binds, key=lambda b: b[1]):
        source, target = Path(given), under(root, place)
        if not target.parent.exists():
            target.parent.mkdir(parents=True)
        if source.is_symlink():
            target.symlink_to(source.readlink())
            continue
        if not target.exists():
            target.mkdir() if source.is_dir() else target.touch()
        mount("--bind", str(source), str(target))
        if reads:
            mount("-o", "remount,bind,ro", str(target))
    for read_only in (root / "dev", root):
        mount("-o", "remount,ro", str(read_only))
    os.chroot(root)
    os.chdir("/opt/fusechat")


def under(root: Path, place: str) -> Path:
    """The place as it is seen from outside."""
    return root / place.lstrip("/")


def become(user: int) -> None:
    """Gives everything up that root has."""
    libc = ctypes.CDLL(None, use_errno=True)

    def prctl(*arguments: Any) -> None:
        if libc.prctl(*arguments, *(0,) * (5 - len(arguments))):
            raise OSError(ctypes.get_errno(), f"prctl {arguments[0]}")

    for capability in range(int(Path("/proc/sys/kernel/cap_last_cap").read_text()) + 1):
        prctl(24, capability)  # out of the bounding set
    os.setgroups([user])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    prctl(38, 1)  # no new privileges
    program = [struct.pack("HBBI", 0x20, 0, 0, 0)]
    for number in REFUSED:
        program += [struct.pack("HBBI", 0x15, 0, 1, number), struct.pack("HBBI", 0x06, 0, 0, NOT_PERMITTED)]
    program += [struct.pack("HBBI", 0x15, 0, 1, CLONE3), struct.pack("HBBI", 0x06, 0, 0, NOT_THERE)]
    program += [struct.pack("HBBI", 0x06, 0, 0, ALLOWED)]
    text = ctypes.create_string_buffer(b"".join(program))
    prctl(22, 2, struct.pack("HxxxxxxP", len(program), ctypes.addressof(text)))


def main() -> None:
    spec = json.loads(sys.argv[1])
    if not spec["joins"]:
        sys.stdin.read(1)  # until the network is there
        build(spec)
    os.umask(0o022)
    become(spec["user"])
    os.execvpe(spec["command"][0], spec["command"], spec["environment"])


if __name__ == "__main__":
    main()
