"""Frames over pipes: a length in four bytes, then so many bytes."""

from __future__ import annotations

import os
import select
import struct
import time

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


def receive(fd: int, limit: int = MAX_REPLY, deadline: float | None = None) -> bytes:
    """Reads one frame.

    Raises:
        EOFError: the other side is gone.
        ValueError: it is longer than the limit.
        LateError: it was not there at the deadline (of time.monotonic).
    """

    def exactly(size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            if deadline is not None and not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise LateError
            chunk = os.read(fd, min(size - len(data), 1 << 16))
            if not chunk:
                raise EOFError
            data += chunk
        return bytes(data)

    (size,) = struct.unpack("!I", exactly(4))
    if size > limit:
        raise ValueError("longer than the limit")
    return exactly(size)


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
