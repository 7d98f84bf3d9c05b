"""Every error that fusechat raises on purpose.

FusechatError                 exit code 1
├── UserError                 exit code 2: the user can mend it
│   ├── RecipeError           a recipe key: what was given, what is allowed
│   ├── InputError            a line of an input file
│   ├── CapacityError         what was asked for, what the cluster has, which setting to change
│   └── RunDirectoryError     a run directory that can't be used: locked, read-only, of another recipe
├── StageError                a stage failed: stage, place in it, cause
├── EngineDiedError           inside sampling: an engine is gone and will be replaced
└── AskFailedError            inside sampling: a source did not answer, however often it was asked
"""

from __future__ import annotations

from typing import Any


class FusechatError(Exception):
    """A failure whose message is fit to be read by a user, in one line."""

    exit_code = 1

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross process boundaries whole, whatever their constructors take."""
        return _rebuild, (type(self), str(self), self.__dict__)


class UserError(FusechatError):
    """A mistake that the user can mend."""

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
    """The cluster can't place what the recipe asks for."""

    def __init__(self, who: str, needs: str, has: str, setting: str) -> None:
        self.who, self.needs, self.has, self.setting = who, needs, has, setting
        super().__init__(f"{who} needs {needs}, the cluster has {has}; change {setting}")


class RunDirectoryError(UserError):
    """The run directory can't be used as it is."""


class StageError(FusechatError):
    """A stage failed. `place` names the shard, row or worker where it happened."""

    def __init__(self, stage: str, place: str, cause: str) -> None:
        self.stage, self.place, self.cause = stage, place, cause
        super().__init__(f"stage {stage}, {place}: {cause}")


class Preempted(BaseException):  # like KeyboardInterrupt: a request, and no handler's business
    """SIGTERM: the machine is needed elsewhere; what is durable is resumed by the same command."""


class AskFailedError(FusechatError):
    """A source was asked as often as it may be and did not answer; the message starts with the reject's code."""


class EngineDiedError(FusechatError):
    """What answers for a source is gone and will be replaced; what was under way may be asked for again."""


def plain(error: Exception, limit: int = 200) -> str:
    """The error's message in one line of printable characters: what models, callers and endpoints say is in it."""
    text = "".join(c if c.isprintable() else " " for c in str(error))
    return " ".join(text.split())[:limit]


def _rebuild(kind: type[FusechatError], message: str, state: dict[str, Any]) -> FusechatError:
    error = kind.__new__(kind)
    error.args = (message,)
    error.__dict__.update(state)
    return error


def _short(value: object, limit: int = 120) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def last_line(error: object) -> str:
    """The telling end of an error, whose text may hold a worker's whole trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return lines[-1][:300]
