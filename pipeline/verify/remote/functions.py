"""Functions, generators and coroutines that stand for those of the other process."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, cast

from .mirrors import Reference, Requests


def make_function(
    peer: Requests, number: int, name: str, doc: str | None, *, is_async: bool, parameters: list[Any] | None
) -> Callable[..., Any]:
    """A function that calls one of the other side.

    It is a Python function, not an object with `__call__`: nothing but the call then refers to the arguments.
    """

    def call(*args: Any, **kwargs: Any) -> Any:
        return peer.request("call", Reference(number), args, tuple(kwargs), tuple(kwargs.values()))

    async def call_async(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    found: Any = call_async if is_async else call
    found.__name__ = found.__qualname__ = name
    found.__doc__ = doc
    if parameters is not None:
        import inspect

        found.__signature__ = inspect.Signature(
            [inspect.Parameter(str(p[0]), inspect._ParameterKind(p[1]), default=_default(p)) for p in parameters]
        )
    return cast("Callable[..., Any]", found)


def _default(parameter: list[Any]) -> Any:
    import inspect

    found = parameter[2] if len(parameter) > 2 else inspect.Parameter.empty
    return ... if isinstance(found, list) else found


def make_generator(peer: Requests, number: int) -> Generator[Any, Any, Any]:
    """A generator that advances one of the other side."""

    def generate() -> Generator[Any, Any, Any]:
        method: str = "__next__"
        operands: tuple[Any, ...] = ()
        while True:
            try:
                item = peer.request("method", Reference(number), method, *operands)
            except StopIteration as stop:
                return stop.value
            try:
                sent = yield item
            except Exception as error:  # noqa: BLE001 - passed on; not GeneratorExit, which may come at any moment
                method, operands = "throw", (error,)
            else:
                method, operands = ("__next__", ()) if sent is None else ("send", (sent,))

    return generate()


def make_coroutine(peer: Requests, number: int) -> Coroutine[Any, Any, Any]:
    """A coroutine that runs one of the other side to its end."""

    async def run() -> Any:
        return peer.request("run", Reference(number))

    return run()
