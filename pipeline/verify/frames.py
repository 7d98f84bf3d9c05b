"""Frames over pipes: the length in four bytes (big-endian), then the message."""

from __future__ import annotations

import os
import select
import struct
import time

HEADER_BYTES = 4
RETURNED, RAISED = b"=", b"!"
"""First byte of a candidate's reply."""
MAX_REPLY = 1 << 20
MAX_TESTS = 64 << 20


class LateError(Exception):
    """No answer before the deadline."""


def send(fd: int, message: bytes) -> None:
    """Writes one frame."""
    write(fd, struct.pack("!I", len(message)) + message)


def write(fd: int, data: bytes) -> None:
    """Writes all of the data."""
    while data:
        data = data[os.write(fd, data) :]


def receive(fd: int, limit: int = MAX_REPLY) -> bytes:
    """Reads exactly one frame and nothing after it, because another process may read the rest.

    Raises:
        EOFError: the other side has closed the pipe.
        ValueError: the frame is longer than the limit.
    """
    data = bytearray()
    size = HEADER_BYTES
    while len(data) < size:
        chunk = os.read(fd, min(size - len(data), 1 << 16))
        if not chunk:
            raise EOFError
        data += chunk
        if size == HEADER_BYTES == len(data):
            size += _size(data, limit)
    return bytes(data[HEADER_BYTES:])


class FrameReader:
    """Reads frames from a pipe that no other process reads, with one or two system calls each, and buffers the rest."""

    def __init__(self, fd: int) -> None:
        self._fd, self._data = fd, bytearray()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def receive(self, limit: int = MAX_REPLY, deadline: float | None = None) -> bytes:
        """Reads one frame; also raises the errors of the function `receive`.

        Raises:
            LateError: the frame did not arrive before the deadline (time.monotonic).
        """
        while len(self._data) < HEADER_BYTES or len(self._data) < HEADER_BYTES + _size(self._data, limit):
            # poll counts in whole milliseconds. At the deadline it polls once more without waiting.
            if deadline is not None and not self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise LateError
            chunk = os.read(self._fd, 1 << 16)
            if not chunk:
                raise EOFError
            self._data += chunk
        end = HEADER_BYTES + _size(self._data, limit)
        frame = bytes(self._data[HEADER_BYTES:end])
        del self._data[:end]
        return frame


def _size(data: bytearray, limit: int) -> int:
    (size,) = struct.unpack_from("!I", data)
    if size > limit:
        raise ValueError("longer than the limit")
    return int(size)


def read_all(fd: int, deadline: float) -> str | None:
    """Everything up to the end of the pipe, or None if the end does not come before the deadline."""
    data = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            return None
        chunk = os.read(fd, 1 << 16)
        if not chunk or len(data) > MAX_REPLY:
            return data.decode("utf-8", "replace")
        data += chunk
