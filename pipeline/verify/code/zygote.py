"""The process that candidates are forked from: it has imported what they need, and holds neither responses nor tests.

The pool starts one beside each worker for code. For each check the zygote forks a candidate, tells its process id,
waits until it ends, and tells how it ended. The worker, which reads the tests, is never forked for a candidate.

`python -m fusechat.pipeline.verify.code.zygote`
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import json
import os
import select
import signal
import sys
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from .. import sandbox
from ..frames import MAX_TESTS, FrameReader, receive, send
from ..messages import Program
from .candidate import Candidate, rehearse
from .modules import preload

FIRST = 3
"""The first descriptor after the standard ones."""
KILL = b""
"""Asks the zygote to kill the candidate."""


class Pipes(NamedTuple):
    """The descriptors between worker and zygote."""

    ask_read: int
    """Requests to the candidate."""
    ask_write: int
    reply_read: int
    """Answers of the candidate."""
    reply_write: int
    command_read: int
    """Programs for the zygote."""
    command_write: int
    status_read: int
    """The zygote's messages."""
    status_write: int

    @classmethod
    def new(cls) -> Pipes:
        """New pipes."""
        return cls(*(fd for _ in range(4) for fd in os.pipe()))

    @property
    def of_worker(self) -> tuple[int, ...]:
        """What the worker needs."""
        return self.ask_read, self.ask_write, self.reply_read, self.command_write, self.status_read

    @property
    def of_zygote(self) -> tuple[int, ...]:
        """What the zygote needs."""
        return self.ask_read, self.reply_write, self.command_read, self.status_write


def inherited(numbers: str) -> tuple[int, ...]:
    """The descriptors that the pool passed, under low numbers: what lies above the sandbox's limit is never closed.

    Args:
        numbers: as the pool counts them, with commas.
    """
    found = []
    for number in map(int, numbers.split(",")):
        found.append(fcntl.fcntl(number, fcntl.F_DUPFD, FIRST) if number > sandbox.MAX_DESCRIPTORS // 2 else number)
        if found[-1] != number:
            os.close(number)
    return tuple(found)


class Ended(NamedTuple):
    """How a candidate ended."""

    signal: int
    """0 if it ended by itself."""
    memory: int
    """Its peak resident memory in bytes."""


class Zygote:
    """The worker's side.

    Args:
        descriptors: `Pipes.of_worker`.
    """

    def __init__(self, descriptors: tuple[int, ...]) -> None:
        self._ask_read, self.ask, self._reply, self._command, self._status = descriptors

    def start(self, program: Program) -> int:
        """Starts a candidate; returns its process id."""
        send(self._command, json.dumps(program).encode())
        return int(receive(self._status))

    def replies(self) -> FrameReader:
        """The messages of the candidate that was started last."""
        return FrameReader(self._reply, self._status)

    def end(self) -> Ended:
        """Ends the candidate, and removes what it left in the pipes."""
        if not select.select([self._status], [], [], 0)[0]:
            send(self._command, KILL)
        ended = Ended(*json.loads(receive(self._status)))
        while left := select.select([self._ask_read, self._reply], [], [], 0)[0]:
            os.read(left[0], 1 << 20)
        return ended


def main() -> NoReturn:
    """Command-line arguments: seconds per check, MiB of address space per check, sandbox level, kind of worker,
    `Pipes.of_zygote`, and the word zygote. Forks candidates until the worker ends.
    """
    timeout_s, memory_mb, level, kind = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    ask, reply, command, status = inherited(sys.argv[5])
    preload(kind)
    rehearse()
    sandbox.load_filters()
    gc.collect()
    gc.freeze()
    statm = os.open("/proc/self/statm", os.O_RDONLY)
    limits = sandbox.ResourceLimits(level, timeout_s, memory_mb, statm)
    sandbox.confine_worker(level)
    sandbox.require_confinement(level)
    candidate = Candidate(ask, reply)
    with _child_signals() as child_ended:
        while True:
            try:
                message = receive(command, MAX_TESTS)
            except EOFError:
                os._exit(0)
            if message == KILL:  # it has ended by itself meanwhile
                continue
            program: Program = json.loads(message)
            address_space = limits.address_space()
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                candidate.serve(program, limits, address_space)
            del program, message
            send(status, str(pid).encode())
            send(status, json.dumps(_wait(pid, child_ended, command)).encode())


@contextlib.contextmanager
def _child_signals() -> Iterator[int]:
    """A pipe that becomes readable when a child ends."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    yield read_end


def _wait(pid: int, child_ended: int, command: int) -> Ended:
    """Waits until the candidate has ended, or kills it when the worker asks. Without a worker, this process ends."""
    while True:
        ready = select.select([child_ended, command], [], [])[0]
        if child_ended in ready:
            os.read(child_ended, 64)
            found, code, usage = os.wait4(pid, os.WNOHANG)
            if found:
                return Ended(os.WTERMSIG(code) if os.WIFSIGNALED(code) else 0, usage.ru_maxrss * 1024)
        else:
            try:
                receive(command)
            except EOFError:
                os.kill(pid, signal.SIGKILL)
                os._exit(0)
            os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
