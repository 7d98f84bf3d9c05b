"""The gateway's ASGI middleware: API keys, limits, time limit and disconnects; a log line and metrics per request."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
import uuid
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fusechat.pipeline.recipe import Serve

from .auth import AuthError, KeyRing, Permission, is_allowed
from .error_responses import RefusedError
from .metrics import GatewayMetrics
from .rate_limits import LimitError, RateLimiter, Ticket

PUBLIC_ROUTES = ("/", "/playground.js", "/playground.css", "/health", "/ready", "/docs", "/openapi.json")
"""Routes that need no key."""
ROUTE_PERMISSIONS: dict[str, Permission] = {
    "/v1/chat/completions": "sample",
    "/v1/completions": "sample",
    "/v1/sample": "sample",
    "/v1/score": "score",
    "/v1/verify": "score",
}
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
DISCONNECTED = 499
"""Status in the log and metrics of a request whose caller disconnected."""
CHARS_PER_TOKEN = 4

log = logging.getLogger("ray.serve.fusechat")


@dataclass(slots=True)
class RequestContext:
    """What is recorded about one request. Routes get it by `request_context` and fill it in."""

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
    """Tokens that the rate limiter assumed when it admitted the request."""
    num_pieces: int = 0
    first_token: float | None = None
    last_token: float | None = None
    prompts: list[object] = field(default_factory=list)

    def note_token(self) -> None:
        """Records that a piece of a stream arrived now."""
        self.num_pieces += 1
        self.last_token = time.monotonic()
        if self.first_token is None:
            self.first_token = self.last_token

    def add_tokens(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Adds tokens that were read and generated."""
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens


def request_context(request: Request) -> RequestContext:
    """Returns the record of a request that came through the middleware."""
    context: RequestContext = request.scope["context"]
    return context


class GatewayMiddleware:
    """Checks every HTTP request, enforces its limits and records it.

    In this order: request id, body size, API key, the key's limits, requests in flight; then the time limit and
    disconnects while the route runs; at the end the log line and the metrics.

    Args:
        keys: path of the key file; without one anybody may call.
        share: gateway replicas that share the keys' limits.
    """

    def __init__(self, app: ASGIApp, *, settings: Serve, keys: str | None, share: int = 1) -> None:
        self._app, self._settings = app, settings
        self._key_ring = None if keys is None else KeyRing(keys)
        self._limiter = RateLimiter(share=share)
        self._metrics = GatewayMetrics()
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {k.lower(): v for k, v in scope["headers"]}
        # The caller's request id, or the one that Serve made; Serve puts it into the response.
        given_id = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = given_id if REQUEST_ID.fullmatch(given_id) else uuid.uuid4().hex
        context = RequestContext(request_id, scope["path"], time.monotonic())
        scope["context"] = context
        ticket: Ticket | None = None
        self._in_flight += 1
        self._metrics.in_flight.set(self._in_flight)
        try:
            try:
                ticket = self._admit(context, headers)
                body = await self._read_body(receive)
            except RefusedError as error:
                context.reason = error.reason
                await error.response()(scope, receive, _record_status(context, send))
                return
            await self._run_route(context, scope, body, receive, send)
        finally:
            self._in_flight -= 1
            if ticket is not None:
                # If the caller disconnected, the engine reports no token counts: charge the estimate and what was sent.
                used = context.prompt_tokens + context.completion_tokens or context.estimate + context.num_pieces
                ticket.settle(used)
                ticket.close()
            self._record(context, scope)

    def _admit(self, context: RequestContext, headers: dict[bytes, bytes]) -> Ticket | None:
        """Checks a request's size, key and limits.

        Raises:
            RefusedError: 401, 403, 413, 429 or 503.
        """
        length = headers.get(b"content-length", b"0")
        if not length.isdigit() or int(length) > self._settings.max_body_bytes:
            raise _too_large(self._settings.max_body_bytes)
        if context.route in PUBLIC_ROUTES:
            return None
        ticket = None
        if self._key_ring is not None:
            try:
                key = self._key_ring.find(bearer(headers.get(b"authorization", b"")))
            except AuthError as error:
                raise RefusedError(401, error.reason, str(error)) from error
            context.key = key.name
            if not is_allowed(key.role, ROUTE_PERMISSIONS.get(context.route, "models")):
                raise RefusedError(403, "role", f"a key with the role {key.role} may not call {context.route}")
            try:
                context.estimate = int(length) // CHARS_PER_TOKEN
                ticket = self._limiter.admit(key, tokens=context.estimate)
            except LimitError as error:
                raise RefusedError(429, error.reason, str(error), retry_after_s=error.retry_after_s) from error
        if self._in_flight > self._settings.max_in_flight:
            if ticket is not None:
                ticket.settle(0)
                ticket.close()
            raise RefusedError(503, "busy", "too many requests are in flight", retry_after_s=1)
        return ticket

    async def _read_body(self, receive: Receive) -> bytes:
        """Reads the whole body, up to the limit, whatever length the request's header announced.

        Raises:
            RefusedError: 413 if it is too large, 400 if the caller disconnected.
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

    async def _run_route(
        self, context: RequestContext, scope: Scope, body: bytes, receive: Receive, send: Send
    ) -> None:
        """Runs the route. Cancels it if its caller disconnects or its time is over."""
        disconnected = asyncio.Event()
        bodies = [body]

        async def replay_body() -> Message:
            if bodies:
                return {"type": "http.request", "body": bodies.pop(), "more_body": False}
            await disconnected.wait()
            return {"type": "http.disconnect"}

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            disconnected.set()

        recording_send = _record_status(context, send)
        route = asyncio.ensure_future(self._app(scope, replay_body, recording_send))
        watcher = asyncio.create_task(watch())
        try:
            done, _ = await asyncio.wait(
                (route, watcher), timeout=self._settings.timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if route in done:
                if (error := route.exception()) is not None:
                    await self._report_failure(context, error, scope, replay_body, recording_send)
                return
            context.reason = "disconnected" if watcher in done else "timeout"
            route.cancel()
            await asyncio.wait((route,))
            if watcher in done:
                context.status = DISCONNECTED
            elif not context.status:
                timeout = RefusedError(504, "timeout", f"no answer within {self._settings.timeout_s:g} s")
                await timeout.response()(scope, replay_body, recording_send)
        except asyncio.CancelledError:  # Serve noticed the disconnect first
            context.status, context.reason = DISCONNECTED, "disconnected"
            route.cancel()
            await asyncio.wait((route,))
            raise
        finally:
            watcher.cancel()
            route.cancel()

    async def _report_failure(
        self, context: RequestContext, error: BaseException, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Handles an unexpected error: the log gets the traceback, the caller gets the request id."""
        context.reason = "internal_error"
        log.error("request %s failed", context.request_id, exc_info=error)
        if context.status:
            raise error  # the response has begun, so it can only be cut off
        internal = RefusedError(500, context.reason, f"internal error; request id {context.request_id}")
        await internal.response()(scope, receive, send)

    def _record(self, context: RequestContext, scope: Scope) -> None:
        """Writes the request's log line and updates the metrics."""
        context.reason = context.reason or scope.get("refused", "")
        seconds = time.monotonic() - context.began
        known = context.route in PUBLIC_ROUTES or context.route in ROUTE_PERMISSIONS
        route = context.route if known else "other"
        tags = {"route": route, "model": context.model}
        metrics = self._metrics
        metrics.requests.inc(1, tags | {"status": str(context.status)})
        metrics.seconds.observe(seconds, tags)
        metrics.in_flight.set(self._in_flight)
        if context.reason:
            metrics.rejected.inc(1, {"route": route, "reason": context.reason})
        for kind, num in (("prompt", context.prompt_tokens), ("completion", context.completion_tokens)):
            if num:
                metrics.tokens.inc(num, tags | {"kind": kind})
        if context.first_token is not None and context.last_token is not None:
            metrics.first_token.observe(context.first_token - context.began, tags)
            if context.completion_tokens > 1:
                gap = (context.last_token - context.first_token) / (context.completion_tokens - 1)
                metrics.inter_token.observe(gap, tags)
        line = {
            "event": "request",
            "request_id": context.request_id,
            "key": context.key,
            "method": scope["method"],
            "route": context.route[:200],
            "model": context.model,
            "status": context.status,
            "reason": context.reason,
            "seconds": round(seconds, 4),
            "prompt_tokens": context.prompt_tokens,
            "completion_tokens": context.completion_tokens,
        }
        if self._settings.log_prompts and context.prompts:
            line["prompts"] = context.prompts
        log.info(json.dumps(line))


def bearer(header: bytes) -> str:
    """Returns the key of an Authorization header, or an empty string."""
    kind, _, key = header.decode("latin-1").partition(" ")
    return key.strip() if kind.lower() == "bearer" else ""


def _too_large(limit: int) -> RefusedError:
    return RefusedError(413, "too_large", f"the request is larger than {limit} bytes")


def _record_status(context: RequestContext, send: Send) -> Send:
    async def recording_send(message: Message) -> None:
        if message["type"] == "http.response.start":
            context.status = message["status"]
        await send(message)

    return recording_send
