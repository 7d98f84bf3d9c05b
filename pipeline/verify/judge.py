"""The judge process: holds the tests, calls the candidate over pipes, and alone writes the verdict."""

from __future__ import annotations

import ast
import builtins
import gc
import json
import os
import traceback
from typing import TYPE_CHECKING, Any, NoReturn

from . import sandbox, values
from .frames import MAX_TESTS, RETURNED, FrameReader, LateError, receive, send, write

if TYPE_CHECKING:
    from collections.abc import Callable

TestOutcome = tuple[str, str]
"""Reason and detail. The reason `no_tests` means that the tests themselves are at fault."""
RAISED = (
    "ArithmeticError", "AttributeError", "IndexError", "KeyError", "LookupError", "NameError", "NotImplementedError",
    "OverflowError", "RecursionError", "RuntimeError", "TypeError", "ValueError", "ZeroDivisionError", "AssertionError",
)  # fmt: skip


class CandidateError(Exception):
    """The exception of the candidate's function, or the reason why there is no reply."""


# Subclasses, so that tests which expect an exception can catch it by its usual class.
_EXCEPTIONS: dict[str, type[CandidateError]] = {
    name: type(name, (CandidateError, getattr(builtins, name)), {"__str__": Exception.__str__}) for name in RAISED
}


def serve(
    source: int,
    entry_point: str | None,
    prelude: str,
    ask: int,
    replies_fd: int,
    verdict: int,
    deadline: float,
    limits: sandbox.ResourceLimits,
    address_space: int,
) -> NoReturn:
    """Sandboxes the process, reads the tests from `source`, and writes reason and detail to `verdict`."""
    try:
        source = os.dup(source)
        sandbox.keep_only(ask, replies_fd, verdict, source)
        gc.enable()
        sandbox.confine_process(limits, address_space)
        replies = FrameReader(replies_fd)
        tests = receive(source, MAX_TESTS).decode()

        def call(request: object) -> Any:
            try:
                send(ask, values.encode(request).encode("utf-8", "backslashreplace"))
                reply = replies.receive(deadline=deadline)
                text = reply[1:].decode("utf-8", "replace")
                if reply[:1] == RETURNED:
                    return values.decode(text)
            except (OSError, EOFError) as error:
                raise CandidateError("the candidate's process ended") from error
            except (ArithmeticError, LookupError, ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as e:
                raise CandidateError(f"no plain value crossed: {type(e).__name__}: {e}") from e
            problem = text[:300]
            raise _EXCEPTIONS.get(problem.partition(":")[0], CandidateError)(problem)

        if entry_point is None:
            reason, detail = _programs(tests, call)
        else:
            reason, detail = _functions(tests, entry_point, prelude, call)
        write(verdict, json.dumps({"reason": reason, "detail": detail[:1000]}).encode())
    finally:
        os._exit(0)


def _functions(tests: str, entry_point: str, prelude: str, call: Callable[[object], Any]) -> TestOutcome:
    """Runs assert lines or `check(candidate)` against the candidate's function."""

    def candidate(*args: Any, **kwargs: Any) -> Any:
        return call((args, kwargs))

    names: dict[str, Any] = {"__name__": "tests"}
    try:
        tree = ast.parse(tests)
        defined = any(isinstance(n, ast.FunctionDef) and n.name == "check" for n in tree.body)
        if defined and not any(_calls_check(n) for n in tree.body):
            tree.body.append(ast.parse(f"check({entry_point})").body[0])
        program = compile(tree, "<tests>", "exec")
        if prelude:
            exec(compile(prelude, "<prompt>", "exec"), names)  # noqa: S102 - sandboxed too
    except Exception as error:  # noqa: BLE001 - whatever the cause, nothing was tested
        return "no_tests", f"the tests do not run: {type(error).__name__}: {error}"
    if not any(isinstance(n, ast.Assert | ast.Expr | ast.For | ast.Try | ast.If | ast.With) for n in tree.body):
        return "no_tests", "the tests assert nothing"
    names |= {entry_point: candidate, "candidate": candidate}
    try:
        exec(program, names)  # noqa: S102 - sandboxed too
    except LateError as error:
        return "timeout", _failing(tree, error)
    except CandidateError as error:
        return _reason(str(error)), f"{_failing(tree, error)}: {error}"
    except AssertionError as error:
        return "failed", _failing(tree, error)
    except Exception as error:  # noqa: BLE001 - the tests compare values that a model returned
        return "failed", f"{_failing(tree, error)}: {type(error).__name__}: {error}"
    return "passed", ""


def _calls_check(node: ast.stmt) -> bool:
    call = node.value if isinstance(node, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "check"


def _failing(tree: ast.Module, error: BaseException) -> str:
    """The innermost statement of the tests in the traceback: the first test that fails."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "<tests>"]
    line = lines[-1] if lines else 0
    inside = [n for n in ast.walk(tree) if isinstance(n, ast.stmt) and n.lineno <= (line or 0) <= (n.end_lineno or 0)]
    # The added call of `check` has line 1, like the first statement of the tests; the shorter range is preferred.
    return ast.unparse(max(inside, key=lambda n: (n.lineno, -(n.end_lineno or 0))))[:300] if inside else "the tests"


def _programs(tests: str, call: Callable[[object], Any]) -> TestOutcome:
    """Runs stdin/stdout pairs. Outputs are compared line by line without trailing whitespace."""
    pairs = json.loads(tests)
    for pair in pairs:
        shown = f"input {pair['input'][:100]!r}"
        try:
            printed = str(call(pair["input"]))
        except LateError:
            return "timeout", shown
        except CandidateError as error:
            return _reason(str(error)), f"{shown}: {error}"
        if _lines(printed) != _lines(pair["output"]):
            return "failed", f"{shown}: printed {printed[:100]!r}, not {pair['output'][:100]!r}"
    return ("passed", "") if pairs else ("no_tests", "there are no tests")


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _reason(problem: str) -> str:
    if problem.startswith(("MemoryError", "returned MemoryError")):
        return "memory"
    if problem.startswith(("PermissionError", "BlockingIOError")) or "can't start new thread" in problem:
        return "forbidden"
    return "error"
