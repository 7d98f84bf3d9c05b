"""Every error that fusechat raises on purpose.

FusechatError                 exit code 1
├── UserError                 exit code 2: the user can fix it
│   ├── RecipeError           a recipe key: the value given and the values allowed
│   ├── InputError            a line of an input file
│   ├── CapacityError         what was requested, what the cluster has, which setting to change
│   └── RunDirectoryError     a run directory that can't be used: locked, read-only, of another recipe
├── StageError                a stage failed: stage, place, cause
├── EngineDiedError           inside sampling: an engine is gone and will be replaced
└── RequestFailedError        inside sampling: a request failed in every attempt
"""

from __future__ import annotations

from collections.abc import Callable, Mapping


class FusechatError(Exception):
    """A failure whose message a user can read, in one line."""

    exit_code = 1

    def __reduce__(self) -> tuple[Callable[..., FusechatError], tuple[object, ...]]:
        """Makes errors cross process boundaries unchanged, whatever their constructors take."""
        return _rebuild, (type(self), str(self), self.__dict__)


class UserError(FusechatError):
    """A mistake that the user can fix."""

    exit_code = 2


class RecipeError(UserError):
    """A recipe can't be used. `key` is dotted, e.g. `sources.0.sampling.temperature`."""

    def __init__(self, key: str, given: object, allowed: str, file: str | None = None) -> None:
        self.key, self.given, self.allowed, self.file = key, given, allowed, file
        where = f"{file}: " if file else ""
        super().__init__(f"{where}{key}: {allowed} (given: {_short(given)})")


class InputError(UserError):
    """A line of an input file can't be used. `line` counts from 1; 0 means the whole file."""

    def __init__(self, file: str, line: int, problem: str) -> None:
        self.file, self.line, self.problem = file, line, problem
        super().__init__(f"{file}:{line}: {problem}" if line else f"{file}: {problem}")


class CapacityError(UserError):
    """The cluster can't place what the recipe requests."""

    def __init__(self, who: str, needs: str, has: str, setting: str) -> None:
        self.who, self.needs, self.has, self.setting = who, needs, has, setting
        super().__init__(f"{who} needs {needs}, the cluster has {has}; change {setting}")


class RunDirectoryError(UserError):
    """The run directory can't be used in its current state."""


class StageError(FusechatError):
    """A stage failed. `place` names the shard, row or worker in which it failed."""

    def __init__(self, stage: str, place: str, cause: str) -> None:
        self.stage, self.place, self.cause = stage, place, cause
        super().__init__(f"stage {stage}, {place}: {cause}")


class Preempted(BaseException):  # not an Exception, like KeyboardInterrupt: handlers of errors must not catch it
    """SIGTERM came: the machine is needed elsewhere. The same command resumes from what is durable."""


class RequestFailedError(FusechatError):
    """A request to a source failed in every attempt. The message starts with the code of the reject."""


class EngineDiedError(FusechatError):
    """A source's engine is gone and will be replaced. What was in flight may be requested again."""


def one_line(error: Exception | str, limit: int = 200) -> str:
    """A message in one line of printable characters. Messages may contain text of models, callers and endpoints."""
    text = "".join(c if c.isprintable() else " " for c in str(error))
    return " ".join(text.split())[:limit]


def last_line(error: object) -> str:
    """The last line of an error, which names the cause; its text may contain a worker's whole traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1][:300]


def _rebuild(kind: type[FusechatError], message: str, state: Mapping[str, object]) -> FusechatError:
    error = kind.__new__(kind)
    error.args = (message,)
    error.__dict__.update(state)
    return error


def _short(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
