"""Frames over pipes: the length in four bytes (big-endian), then the message."""

from __future__ import annotations

import os
import select
import struct
from typing import Protocol

HEADER_BYTES = 4
MAX_VERDICT = 1 << 20
MAX_TESTS = 64 << 20
MAX_MESSAGE = 64 << 20


class LateError(BaseException):
    """The time of the check is over. No handler of the tests catches it."""


class TimeLimit(Protocol):
    """The time that a check may take."""

    def wait_s(self) -> float:
        """Seconds to wait for an answer until this is asked again.

        Raises:
            LateError: the time is over.
        """


def send(fd: int, message: bytes) -> None:
    """Writes one frame."""
    write(fd, struct.pack("!I", len(message)) + message)


def write(fd: int, data: bytes) -> None:
    """Writes all of the data."""
    while data:
        data = data[os.write(fd, data) :]


def receive(fd: int, limit: int = MAX_MESSAGE) -> bytes:
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
    """Reads frames from a pipe that no other process reads, with one or two system calls each, and buffers the rest.

    Args:
        fd: the pipe.
        ended_fd: becomes readable when no more will be written to the pipe. None if the pipe's own end tells.
    """

    def __init__(self, fd: int, ended_fd: int | None = None) -> None:
        self._fd, self._data = fd, bytearray()
        self.descriptors = (fd,) if ended_fd is None else (fd, ended_fd)
        self._poll = select.poll()
        for each in self.descriptors:
            self._poll.register(each, select.POLLIN)

    def receive(self, limit: int = MAX_MESSAGE, time_limit: TimeLimit | None = None) -> bytes:
        """Reads one frame; also raises the errors of the function `receive`.

        Raises:
            LateError: the frame did not arrive in time.
        """
        while len(self._data) < HEADER_BYTES or len(self._data) < HEADER_BYTES + _size(self._data, limit):
            if time_limit is not None:
                while not (ready := self._poll.poll(1 + 1000 * time_limit.wait_s())):
                    pass  # the limit raises when the time is over
                if all(fd != self._fd for fd, _ in ready):
                    raise EOFError
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


def read_all(fd: int, time_limit: TimeLimit) -> str | None:
    """Everything up to the end of the pipe, or None if the time is over before the end comes."""
    data = b""
    while True:
        try:
            while not select.select([fd], [], [], time_limit.wait_s())[0]:
                pass  # the limit raises when the time is over
        except LateError:
            return None
        chunk = os.read(fd, 1 << 16)
        if not chunk or len(data) > MAX_VERDICT:
            return data.decode("utf-8", "replace")
        data += chunk
