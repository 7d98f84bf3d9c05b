"""Frames over pipes: a length in four bytes, then so many bytes."""

from __future__ import annotations

import os
import select
import struct
import time

HEAD = 4
RETURNED, RAISED = b"=", b"!"
"""First byte of a candidate's reply."""
MAX_REPLY = 1 << 20
MAX_TESTS = 64 << 20


class LateError(Exception):
    """The other side did not answer in time."""


def send(fd: int, message: bytes) -> None:
    """Writes one frame."""
    write(fd, struct.pack("!I", len(message)) + message)


def write(fd: int, data: bytes) -> None:
    """Writes all of it."""
    while data:
        data = data[os.write(fd, data) :]


def receive(fd: int, limit: int = MAX_REPLY) -> bytes:
    """Reads one frame and not a byte more: what follows may be for another process.

    Raises:
        EOFError: the other side is gone.
        ValueError: it is longer than the limit.
    """
    data = bytearray()
    size = HEAD
    while len(data) < size:
        chunk = os.read(fd, min(size - len(data), 1 << 16))
        if not chunk:
            raise EOFError
        data += chunk
        if size == HEAD == len(data):
            size += _size(data, limit)
    return bytes(data[HEAD:])


class FrameReader:
    """Frames of a pipe that nobody else reads, a system call or two each; what comes early waits for its turn."""

    def __init__(self, fd: int) -> None:
        self._fd, self._data = fd, bytearray()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def receive(self, limit: int = MAX_REPLY, deadline: float | None = None) -> bytes:
        """As `receive`, and

        Raises:
            LateError: it was not there at the deadline (of time.monotonic).
        """
        while len(self._data) < HEAD or len(self._data) < HEAD + _size(self._data, limit):
            # A millisecond is the least that poll knows: at the deadline it asks once more without waiting.
            if deadline is not None and not self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise LateError
            chunk = os.read(self._fd, 1 << 16)
            if not chunk:
                raise EOFError
            self._data += chunk
        end = HEAD + _size(self._data, limit)
        frame = bytes(self._data[HEAD:end])
        del self._data[:end]
        return frame


def _size(data: bytearray, limit: int) -> int:
    (size,) = struct.unpack_from("!I", data)
    if size > limit:
        raise ValueError("longer than the limit")
    return int(size)


def read_all(fd: int, deadline: float) -> str | None:
    """Everything up to the end of the pipe; none if that doesn't come in time."""
    data = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return None
        chunk = os.read(fd, 1 << 16)
        if not chunk or len(data) > MAX_REPLY:
            return data.decode("utf-8", "replace")
        data += chunk
