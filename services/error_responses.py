"""HTTP errors: OpenAI's error object with one clear message, without tracebacks and file paths."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
PATH = re.compile(r"(?<![\w:/.])/(?:[\w.+~-]+/)+[\w.+~-]*")


class RefusedError(Exception):
    """A request that is answered with an error.

    Args:
        reason: short name for metrics and the log, and the error's `code`.
        retry_after_s: seconds after which a retry may succeed.
    """

    def __init__(
        self, status: int, reason: str, message: str, *, param: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.reason, self.param, self.retry_after_s = status, reason, param, retry_after_s

    def response(self) -> JSONResponse:
        """Returns OpenAI's error object."""
        headers = {} if self.retry_after_s is None else {"Retry-After": str(max(1, math.ceil(self.retry_after_s)))}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        kind = ERROR_TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.reason}
        return JSONResponse({"error": error}, self.status, headers)


def unavailable(model: str, why: str, retry_after_s: float) -> RefusedError:
    """Returns the error of a model that can't answer now."""
    return RefusedError(503, "unavailable", f"{model}: {why}", param="model", retry_after_s=retry_after_s)


def without_paths(text: str) -> str:
    """Returns the text in one line, with each file path replaced by `...`."""
    return PATH.sub("...", " ".join(text.split()))[:300]


def invalid_body(errors: Sequence[ErrorDetails]) -> RefusedError:
    """Returns the error of a body that is not valid: pydantic's first error, with the key that it is about."""
    if not errors:
        return RefusedError(400, "invalid_request", "body: invalid")
    first = errors[0]
    where = ".".join(str(p) for p in first["loc"] if p != "body")
    what = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        what = "there is no such key"
    return RefusedError(400, "invalid_request", f"{where or 'body'}: {what}", param=where or None)


async def on_refused(request: Request, error: Exception) -> JSONResponse:
    """FastAPI's handler of RefusedError."""
    assert isinstance(error, RefusedError)
    request.scope["refused"] = error.reason
    return error.response()


async def on_invalid(request: Request, error: Exception) -> JSONResponse:
    """FastAPI's handler of RequestValidationError."""
    assert isinstance(error, RequestValidationError)
    return await on_refused(request, invalid_body(error.errors()))


async def on_http(request: Request, error: Exception) -> JSONResponse:
    """FastAPI's handler of its own errors: unknown route, method not allowed."""
    assert isinstance(error, HTTPException)
    response = await on_refused(request, RefusedError(error.status_code, f"http_{error.status_code}", error.detail))
    response.headers.update(error.headers or {})
    return response
