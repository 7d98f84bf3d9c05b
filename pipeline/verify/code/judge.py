"""The judge process: holds the tests, calls the candidate over pipes, and alone writes the verdict."""

from __future__ import annotations

import ast
import json
import re
import sys
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..forms import assertions, collected, simple
from ..forms.doctests import run_doctests
from ..forms.form import Form, parse_form
from ..forms.names import CandidateModules, TestNames, imports_of, install
from ..forms.pairs import Pairs, same_output, same_result
from ..forms.patches import Patches
from ..forms.pytest_functions import MissingFixtureError
from ..frames import FrameReader, LateError, TimeLimit
from ..remote.comparison import Comparison, UndecidedError
from ..remote.guard import TESTS, Guard
from ..remote.mirrors import is_mirrored
from ..remote.peer import DEPTH, EndedError, Peer, RemoteError

if TYPE_CHECKING:
    from ..messages import Program

TestOutcome = tuple[str, str]
"""Reason and detail. The reason `no_tests` means that the tests can't judge the response."""
METHOD = re.compile(r"(\w+)(?:\(\))?\.(\w+)")
"""An entry point that is a method: `Solution().f` or `Solution.f`."""


class CodeJudge:
    """Judges one candidate.

    Args:
        frames: the candidate's messages.
        ask: descriptor for requests to the candidate.
    """

    def __init__(self, tests: str, program: Program, frames: FrameReader, ask: int, time_limit: TimeLimit) -> None:
        self._program, self._time_limit = program, time_limit
        self.descriptors = (*frames.descriptors, ask)
        self._named: set[str] = set()
        self._undecided = ""
        self._held = 0
        self._only_own_examples = False
        self._guard = Guard()
        comparison = Comparison(self._named, self._stop, self._guard.raised)
        self._peer = Peer(frames, ask, self._guard, first_label=0, limit=time_limit, methods=comparison.methods)
        self._shown = "the tests"
        self._form: Form = parse_form(tests, program["entry_point"], program["num_parameters"])
        self._nodes: list[ast.AST] = list(ast.walk(self._form)) if isinstance(self._form, ast.Module) else []
        self.is_simple = not isinstance(self._form, str) and simple.is_simple(self._nodes)
        """Whether the tests can't change the process that they run in."""
        if program["prelude"]:
            self.is_simple = self.is_simple and simple.is_simple(ast.walk(ast.parse(program["prelude"])))

    def outcome(self) -> TestOutcome:
        """Runs the tests; returns reason and detail."""
        try:
            found = self._run()
            self._time_limit.wait_s()  # a handler of the tests may have caught that the time is over
            self._peer.require_whole()
        except LateError:
            return "timeout", self._shown
        except EndedError:
            return "error", f"{self._shown}: the candidate's process ended"
        except RemoteError as error:
            return "error", f"{self._shown}: no value crossed: {error}"
        except UndecidedError:
            found = "passed", ""
        if found[0] == "passed" and (failed := self._guard.failed) is not None:
            return "failed", f"{self._failing(failed)}, in a function that the response called"
        if self._undecided and found[0] in ("passed", "failed"):
            return "no_tests", self._undecided
        return found

    def _run(self) -> TestOutcome:
        form = self._form
        if isinstance(form, Pairs):
            if form.function is None:
                return self._run_programs(form)
            return self._guarded(lambda: self._run_function(form))
        if isinstance(form, str):
            return self._guarded(lambda: self._run_doctests(form))
        if isinstance(form, Exception):
            return "no_tests", f"the tests do not run: {type(form).__name__}: {form}"
        return self._guarded(self._run_source)

    def _guarded(self, run: Callable[[], TestOutcome]) -> TestOutcome:
        """Runs tests; an exception is a verdict."""
        sys.setrecursionlimit(DEPTH)
        try:
            return run()
        except (LateError, UndecidedError, RemoteError, EndedError) as error:
            self._shown = self._failing(error)
            raise
        except NotDefinedError as error:
            return "error", str(error)
        except MissingFixtureError as error:
            return "no_tests", str(error)
        except BaseException as error:  # noqa: BLE001 - the tests handle what a model returned
            shown = self._failing(error)
            if is_mirrored(error):
                return _candidates_error(error, shown)
            if isinstance(error, ImportError) and shown.startswith(("import ", "from ")):
                return "no_tests", f"the tests do not run: {shown}: {error}"
            if isinstance(error, OSError):
                return "no_tests", f"the tests need files or processes, which they do not have here: {shown}: {error}"
            plain = isinstance(error, AssertionError) and (not str(error) or "\n" in str(error))
            return "failed", shown if plain else f"{shown}: {type(error).__name__}: {error}"

    def _run_source(self) -> TestOutcome:
        """Runs tests that are Python code."""
        tree, nodes = self._form, self._nodes
        assert isinstance(tree, ast.Module)
        imports = imports_of(nodes)
        names = self._names(assertions.names_in(nodes))
        ran: set[str] = set()
        names |= {assertions.HELD: self._note_held, assertions.RAN: ran.add}
        if imports.keys() - simple.MODULES:
            modules = CandidateModules(imports, self._defined, self._find, self._replace, self._stop)
            install(modules, imports, self._defined)
            collected.prepare(self._testmod, names)
            patches = Patches(self._peer.request, self._guard.importable)
            patches.install()
            self._peer.before_call = patches.sync
        assertions.instrument(tree, nodes)
        try:
            exec(compile(tree, "<tests>", "exec"), names)  # noqa: S102 - sandboxed too
        except SystemExit as end:
            if end.code not in (None, 0) or is_mirrored(end):
                raise
        collected.run_collected(names, names["candidate"], ran)
        return self._evidence()

    def _run_doctests(self, text: str) -> TestOutcome:
        self._held = run_doctests(text, self._names(set(re.findall(r"\w+", text))))
        return self._evidence()

    def _run_function(self, pairs: Pairs) -> TestOutcome:
        """Calls the function with arguments, and compares results."""
        function = self._names(set(), pairs.function)["candidate"]
        is_plain, is_wrapped = True, pairs.may_be_wrapped
        for pair in pairs.pairs:
            self._shown = f"input {json.dumps(pair.input)[:100]}"
            result = function(*pair.input)
            is_plain = is_plain and same_result(result, pair.output, pair.tolerance)
            is_wrapped = is_wrapped and same_result(result, pair.output[0], pair.tolerance)
            if not is_plain and not is_wrapped:
                return "failed", f"{self._shown}: returned {_short(result)}, not {_short(pair.output)}"
        return ("passed", "") if pairs.pairs else ("no_tests", "there are no tests")

    def _run_programs(self, pairs: Pairs) -> TestOutcome:
        """Runs the response as a program, and compares what it prints."""
        for pair in pairs.pairs:
            self._shown = f"input {pair.input[:100]!r}"
            try:
                printed = str(self._peer.request("program", pair.input))
            except (LateError, UndecidedError, RemoteError, EndedError):
                raise
            except BaseException as error:  # noqa: BLE001 - the candidate's
                return _candidates_error(error, self._shown)
            if not same_output(printed, pair.output, pair.tolerance):
                return "failed", f"{self._shown}: printed {printed[:100]!r}, not {pair.output[:100]!r}"
        return ("passed", "") if pairs.pairs else ("no_tests", "there are no tests")

    # --- the candidate

    def _names(self, named: set[str], function: str | None = None) -> dict[str, Any]:
        """Runs the response; returns the global names for the tests.

        Args:
            named: the names in the tests.
            function: the function to test. Default: the entry point.
        """
        entry_point = function or self._program["entry_point"] or ""
        self._named |= named
        defined, modules, *tested = self._peer.request("load", sorted(named), entry_point)
        self._defined = set(defined)
        names = TestNames(self._defined, modules, self._find, self._stop)
        names |= {"__name__": TESTS, "__file__": "tests.py"}
        if self._program["prelude"]:
            exec(compile(self._program["prelude"], "<prompt>", "exec"), names)  # noqa: S102 - sandboxed too
        names["candidate"] = tested[0] if tested else self._method(entry_point)
        if entry_point.isidentifier():
            names[entry_point] = names["candidate"]
        return names

    def _method(self, entry_point: str) -> Callable[..., Any]:
        """A method of a new object each time: `Solution().f`, also if the entry point is only `f`.

        Raises:
            NotDefinedError: the response does not define the class.
        """
        method = METHOD.fullmatch(entry_point)
        owner, name = (method[1], method[2]) if method else ("Solution", entry_point)
        if owner not in self._defined:
            raise NotDefinedError(f"does not define {entry_point}")

        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(self._find(owner)(), name)(*args, **kwargs)

        return call

    def _find(self, name: str) -> Any:
        return self._peer.request("find", name)

    def _replace(self, name: str, value: Any) -> None:
        self._peer.request("replace", name, value)

    def _testmod(self, names: dict[str, Any]) -> int:
        """Runs the examples in the response's own documentation; returns how many fail.

        They are no evidence: the response may say that anything is right.
        """
        self._only_own_examples = True
        for text in self._peer.request("documentation"):
            try:
                run_doctests(str(text), names)
            except Exception:  # noqa: BLE001 - whatever an example raises, it fails
                return 1
        return 0

    # --- the verdict

    def _note_held(self) -> None:
        self._held += 1

    def _stop(self, why: str) -> None:
        self._undecided = self._undecided or why

    def _evidence(self) -> TestOutcome:
        """`passed`, if the response was called and an assertion held."""
        if not self._peer.num_calls:
            return "no_tests", "the tests never call the response"
        if self._held <= self._only_own_examples:
            return "no_tests", "the tests assert nothing" + self._only_own_examples * " but the response's own examples"
        return "passed", ""

    def _failing(self, error: BaseException) -> str:
        """The innermost statement of the tests in the traceback: the first test that fails."""
        if not self._nodes:
            return self._shown
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "<tests>"]
        line = (lines[-1] if lines else None) or 0
        inside = [n for n in self._nodes if isinstance(n, ast.stmt) and n.lineno <= line <= (n.end_lineno or 0)]
        # Of statements that begin in the same line, the shorter one.
        found = max(inside, key=lambda n: (n.lineno, -(n.end_lineno or 0)), default=None)
        return ast.unparse(found)[:300] if found is not None else "the tests"


class NotDefinedError(Exception):
    """The response does not define what is tested."""


def _candidates_error(error: BaseException, shown: str) -> TestOutcome:
    """The verdict when the candidate raised an exception that the tests did not expect."""
    problem = f"{type(error).__name__}: {error}"
    if isinstance(error, ModuleNotFoundError) and not _of_python(error.name or str(error)):
        return "no_tests", f"the response needs a module that is not here: {error}"
    reason = "error"
    if isinstance(error, MemoryError):
        reason = "memory"
    elif isinstance(error, PermissionError | BlockingIOError) or "can't start new thread" in problem:
        reason = "forbidden"
    return reason, f"{shown}: {problem}"


def _of_python(problem: str) -> bool:
    """Whether a module that was not found is part of Python."""
    name = re.search(r"'([\w.]+)'|^([\w.]+)$", problem)
    return name is not None and (name[1] or name[2]).partition(".")[0] in sys.stdlib_module_names


def _short(value: Any) -> str:
    try:
        return repr(value)[:100]
    except Exception:  # noqa: BLE001 - model-written `__repr__`
        return f"a {type(value).__name__}"
