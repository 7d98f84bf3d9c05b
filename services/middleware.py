"""The gateway's door: who may come in and how much at once; every request ends in one log line and its metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from fusechat.pipeline.recipe import Serve

from .auth import AuthError, KeyRing, Right, may
from .error_responses import RefusedError
from .metrics import GatewayMetrics
from .rate_limits import LimitError, Limits, Ticket

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

OPEN = ("/", "/playground.js", "/playground.css", "/health", "/ready", "/docs", "/openapi.json")
"""What needs no key."""
RIGHTS: dict[str, Right] = {
    "/v1/chat/completions": "sample",
    "/v1/completions": "sample",
    "/v1/sample": "sample",
    "/v1/score": "score",
    "/v1/verify": "score",
}
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
DISCONNECTED = 499
"""Status in log and metrics of a request whose caller left."""
CHARS_A_TOKEN = 4

log = logging.getLogger("ray.serve.fusechat")


@dataclass(slots=True)
class Call:
    """One request, as the routes fill it in; `request.scope["call"]`."""

    request_id: str
    route: str
    began: float
    model: str = ""
    key: str = ""
    status: int = 0
    reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    estimate: int = 0
    pieces: int = 0
    first: float | None = None
    last: float | None = None
    prompts: list[Any] = field(default_factory=list)

    def token(self) -> None:
        """Notes that a piece of a stream came."""
        self.pieces += 1
        self.last = time.monotonic()
        if self.first is None:
            self.first = self.last

    def count(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Adds tokens that were read and generated."""
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens


class Door:
    """ASGI middleware: request id, size, key, limits, places, time limit, disconnection, log, metrics.

    Args:
        keys: path of the key file; without one anybody may call.
        share: gateway replicas that share the keys' limits.
    """

    def __init__(self, app: Any, *, settings: Serve, keys: str | None, share: int = 1) -> None:
        self._app, self._settings = app, settings
        self._ring = None if keys is None else KeyRing(keys)
        self._limits = Limits(share=share)
        self._metrics = GatewayMetrics()
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {k.lower(): v for k, v in scope["headers"]}
        told = headers.get(b"x-request-id", b"").decode("latin-1")  # the caller's, or Serve's; Serve answers with it
        call = Call(told if REQUEST_ID.fullmatch(told) else uuid.uuid4().hex, scope["path"], time.monotonic())
        scope["call"] = call
        ticket: Ticket | None = None
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        try:
            try:
                ticket = self._admit(call, headers)
                body = await self._body(headers, receive)
            except RefusedError as error:
                call.reason = error.reason
                await error.response()(scope, receive, _noting(call, send))
                return
            await self._serve(call, scope, body, receive, send)
        finally:
            self._in_flight -= 1
            if ticket is not None:
                # The engine tells no numbers of an answer whose caller left: the estimate stays, and what was sent.
                ticket.settle(call.prompt_tokens + call.completion_tokens or call.estimate + call.pieces)
                ticket.close()
            self._note(call, scope)

    def _admit(self, call: Call, headers: dict[bytes, bytes]) -> Ticket | None:
        """Refuses who may not, or not now.

        Raises:
            RefusedError: 401, 403, 413, 429 or 503.
        """
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._settings.max_body_bytes:
            raise _too_large(self._settings.max_body_bytes)
        if call.route in OPEN:
            return None
        ticket = None
        if self._ring is not None:
            try:
                key = self._ring.find(bearer(headers.get(b"authorization", b"")))
            except AuthError as error:
                raise RefusedError(401, error.reason, str(error)) from error
            call.key = key.name
            right = RIGHTS.get(call.route, "models")
            if not may(key.role, right):
                raise RefusedError(403, "role", f"a key with the role {key.role} may not call {call.route}")
            try:
                call.estimate = int(length) // CHARS_A_TOKEN
                ticket = self._limits.admit(key, tokens=call.estimate)
            except LimitError as error:
                raise RefusedError(429, error.reason, str(error), retry_after_s=error.retry_after_s) from error
        if self._in_flight > self._settings.max_in_flight:
            if ticket is not None:
                ticket.settle(0)
                ticket.close()
            raise RefusedError(503, "busy", "as many requests are under way as may be", retry_after_s=1)
        return ticket

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body; bounded, whatever its head said.

        Raises:
            RefusedError: 413.
        """
        parts, size = [], 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise RefusedError(400, "disconnected", "the request ended before its body did")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._settings.max_body_bytes:
                raise _too_large(self._settings.max_body_bytes)
            if not message.get("more_body"):
                return b"".join(parts)

    async def _serve(self, call: Call, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Calls the route; ends it when its caller leaves or its time is over."""
        left = asyncio.Event()
        bodies = [body]

        async def replay() -> MutableMapping[str, Any]:
            if bodies:
                return {"type": "http.request", "body": bodies.pop(), "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            left.set()

        sending = _noting(call, send)
        work = asyncio.create_task(self._app(scope, replay, sending))
        watcher = asyncio.create_task(watch())
        try:
            done, _ = await asyncio.wait(
                (work, watcher), timeout=self._settings.timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if work in done:
                if (error := work.exception()) is not None:
                    await self._failed(call, error, scope, replay, sending)
                return
            call.reason = "disconnected" if watcher in done else "timeout"
            work.cancel()
            await asyncio.wait((work,))
            if watcher in done:
                call.status = DISCONNECTED
            elif not call.status:
                late = RefusedError(504, "timeout", f"no answer within {self._settings.timeout_s:g} s")
                await late.response()(scope, replay, sending)
        except asyncio.CancelledError:  # Serve saw first that the caller had left
            call.status, call.reason = DISCONNECTED, "disconnected"
            work.cancel()
            await asyncio.wait((work,))
            raise
        finally:
            watcher.cancel()
            work.cancel()

    async def _failed(self, call: Call, error: BaseException, scope: Scope, receive: Receive, send: Send) -> None:
        """What nobody foresaw: the trace goes to the log, an id to the caller."""
        call.reason = "internal_error"
        log.error("request %s failed", call.request_id, exc_info=error)
        if call.status:
            raise error  # the answer has begun: all that is left is to cut it off
        told = RefusedError(500, call.reason, f"internal error; request id {call.request_id}")
        await told.response()(scope, receive, send)

    def _note(self, call: Call, scope: Scope) -> None:
        """The request's line in the log, and its metrics."""
        call.reason = call.reason or scope.get("refused", "")
        seconds = time.monotonic() - call.began
        route = call.route if call.route in OPEN or call.route in RIGHTS else "other"
        tags = {"route": route, "model": call.model}
        metrics = self._metrics
        metrics.requests.inc(1, tags | {"status": str(call.status)})
        metrics.seconds.observe(seconds, tags)
        metrics.in_flight.set(self._in_flight)
        if call.reason:
            metrics.rejected.inc(1, {"route": route, "reason": call.reason})
        for kind, num in (("prompt", call.prompt_tokens), ("completion", call.completion_tokens)):
            if num:
                metrics.tokens.inc(num, tags | {"kind": kind})
        if call.first is not None and call.last is not None:
            metrics.first_token.observe(call.first - call.began, tags)
            if call.completion_tokens > 1:
                metrics.inter_token.observe((call.last - call.first) / (call.completion_tokens - 1), tags)
        line = {
            "event": "request",
            "request_id": call.request_id,
            "key": call.key,
            "method": scope["method"],
            "route": call.route[:200],
            "model": call.model,
            "status": call.status,
            "reason": call.reason,
            "seconds": round(seconds, 4),
            "prompt_tokens": call.prompt_tokens,
            "completion_tokens": call.completion_tokens,
        }
        if self._settings.log_prompts and call.prompts:
            line["prompts"] = call.prompts
        log.info(json.dumps(line))


def bearer(header: bytes) -> str:
    """The key of an Authorization header; empty where it holds none."""
    kind, _, key = header.decode("latin-1").partition(" ")
    return key.strip() if kind.lower() == "bearer" else ""


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, "too_large", f"a request may have {limit} bytes")


def _noting(call: Call, send: Send) -> Send:
    async def noting(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            call.status = message["status"]
        await send(message)

    return noting
