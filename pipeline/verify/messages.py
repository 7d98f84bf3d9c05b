"""The JSON messages between the verifier pool and its worker processes."""

from __future__ import annotations

from typing import TypedDict, final


class CheckRequest(TypedDict):
    """A check, as the pool sends it."""

    domain: str
    response: str
    gold: str | None
    tests: str | None
    entry_point: str | None
    prompt: str


class Program(TypedDict):
    """What the candidate's process runs."""

    code: str
    """Python's code object, marshalled, in base64: a candidate's process compiles nothing."""
    entry_point: str | None
    num_parameters: tuple[int, int] | None
    """How many arguments the entry point takes at least and at most, as far as the text tells; None for a program."""
    prelude: str
    """Imports and helpers of the prompt, which the tests may use too."""


@final
class WorkerReady(TypedDict):
    """The worker's first message: it accepts checks."""

    ready: bool


@final
class MissingLayers(TypedDict):
    """The worker's first message if this machine lacks layers of the sandbox; it then exits."""

    missing: list[str]


@final
class CheckResult(TypedDict):
    """The verdict on a response; see `tasks.Verdict`."""

    correct: bool | None
    reason: str
    detail: str
    extracted: str
    findings: list[str]
    memory: int
    """Peak memory of the candidate's process in bytes."""


WorkerMessage = WorkerReady | MissingLayers | CheckResult
