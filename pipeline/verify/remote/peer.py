"""Calls between judge and candidate. Both run this code; what one lets the other do is up to its `Access`.

A request may cause requests in the other direction.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from json import JSONDecoder, JSONEncoder
from typing import Any

from ..frames import MAX_MESSAGE, FrameReader, TimeLimit, send
from .access import Access
from .codec import Codec
from .mirrors import MirroredClass
from .values import decode_plain, encode_items

ASK, RETURN, RAISE = "?", "=", "!"
_DUMPS = JSONEncoder(separators=(",", ":"), check_circular=False).encode  # tests may patch the module's functions
_LOADS = JSONDecoder().decode
CALLS = frozenset({"call", "special", "method", "run"})
DEPTH = 10_000
"""Python's recursion limit while values are encoded: they may be nested deeply."""


class RemoteError(BaseException):
    """What the other side sent is no message. No handler of the tests catches it."""


class EndedError(BaseException):
    """The other side has ended. No handler of the tests catches it."""


class Peer:
    """One side of the connection.

    Args:
        first_label: 0 or 1, each side another.
        limit: raises `LateError` when the time for an answer is over.
        methods: the special methods, by name, that the mirrors of a class get instead of those that send a request.
        caught: what the other side learns of when it is raised here.
    """

    def __init__(
        self,
        frames: FrameReader,
        write_fd: int,
        access: Access,
        *,
        first_label: int,
        limit: TimeLimit | None = None,
        methods: Callable[[MirroredClass], dict[str, Any]] = lambda _kind: {},
        caught: type[BaseException] = Exception,
    ) -> None:
        self._frames, self._write_fd, self._access, self._limit, self._caught = frames, write_fd, access, limit, caught
        self.codec = Codec(self, access, first_label, methods)
        self.num_calls = 0
        """How often an object of the other side was called."""
        self.before_call: Callable[[], None] = lambda: None
        """Is called before an object of the other side is used."""
        self._broken: BaseException | None = None

    def request(self, op: str, *operands: Any) -> Any:
        """Asks the other side, and serves what it asks meanwhile.

        Raises:
            Exception: the other side raised it.
            LateError: the answer did not come in time.
            RemoteError: the answer is no message.
            EndedError: the other side has ended.
        """
        if op in CALLS:
            self.num_calls += 1
            self.before_call()
        # Elsewhere, StopIteration would end `all(map(f, cases))` as if all cases were done.
        advances = op == "method" or (op == "special" and operands[1] in ("next", "anext"))
        self._send(ASK, op, operands)
        del operands
        while True:
            kind, op, values = self._receive()
            if kind == RETURN:
                return values[0]
            if kind == RAISE:
                error = values[0]
                if isinstance(error, StopIteration) and not advances:
                    raise RuntimeError("StopIteration was raised") from error
                raise error if isinstance(error, BaseException) else RemoteError("no exception was sent")
            self._answer(op, values)

    def require_whole(self) -> None:
        """Raises what ended the connection, in case a handler of the tests has caught it.

        Raises:
            RemoteError, EndedError: the connection has ended.
        """
        if self._broken is not None:
            raise self._broken

    def serve(self) -> None:
        """Answers requests until the other side ends."""
        while True:
            self.serve_one()

    def serve_one(self) -> None:
        """Answers one request."""
        kind, op, values = self._receive()
        if kind == ASK:
            self._answer(op, values)

    def _answer(self, op: str, operands: list[Any]) -> None:
        kind, boxed = RETURN, []
        try:
            boxed.append(self._serve(op, operands))
        except self._caught as error:  # whatever was raised goes to the other side
            self._access.raised(error)
            kind, boxed = RAISE, [error.with_traceback(None)]
        del operands[:]
        try:
            self._send(kind, "", boxed)
        except (TypeError, ValueError, RecursionError, MemoryError, ArithmeticError, LookupError) as error:
            self._send(RAISE, "", [TypeError(f"no value crossed: {error}")])

    def _serve(self, op: str, operands: list[Any]) -> Any:
        access = self._access
        if op == "call":
            value, args, names, values = operands
            return access.call(value, args, dict(zip(names, values, strict=True)))
        if op == "special":
            return access.special(operands[0], operands[1], operands[2:])
        served: dict[str, Callable[..., Any]] = {"get": access.get, "set": access.set, "delete": access.delete}
        return served[op](*operands) if op in served else access.extra(op, operands)

    def _send(self, kind: str, op: str, values: Sequence[Any]) -> None:
        limit = _allow_depth()
        try:
            body = encode_items("list", values, self.codec.encode)
            changes = self.codec.shared.changes(self.codec.encode_shared)
            del values
            message = [kind, op, body, changes, self.codec.shared.unreferenced(), self._access.take_events()]
            data = _DUMPS(message).encode()
        finally:
            sys.setrecursionlimit(limit)
        try:
            send(self._write_fd, data)
        except OSError as error:
            raise self._ended(EndedError()) from error

    def _receive(self) -> tuple[str, str, list[Any]]:
        try:
            message = self._frames.receive(MAX_MESSAGE, self._limit)
        except (OSError, EOFError) as error:
            raise self._ended(EndedError()) from error
        except ValueError as error:
            raise self._ended(RemoteError(f"a message of over {MAX_MESSAGE >> 20} MiB")) from error
        limit = _allow_depth()
        try:
            kind, op, body, changes, gone, events = _LOADS(message.decode())
            values = decode_plain(body, self.codec.decode)
            self.codec.shared.apply(changes, self.codec.decode)
            self.codec.shared.forget(gone)
            if type(op) is not str or type(values) is not list or (not values and kind != ASK):
                raise ValueError("no request")
            if type(events) is not list:
                raise ValueError("no events")
        except Exception as error:
            raise self._ended(RemoteError(f"{type(error).__name__}: {error}")) from error
        finally:
            sys.setrecursionlimit(limit)
        if events:
            self._access.show_events(events)
        return kind, op, values

    def _ended(self, error: BaseException) -> BaseException:
        self._broken = self._broken or error
        return error


def _allow_depth() -> int:
    """Raises the recursion limit to `DEPTH`; returns what it was, which the candidate may rely on."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, DEPTH))
    return limit
