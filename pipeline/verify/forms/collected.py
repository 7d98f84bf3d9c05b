"""Runs what tests define and do not run themselves: pytest functions, unittest classes, `check(candidate)`."""

from __future__ import annotations

import inspect
import itertools
import sys
import types
import unittest
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..remote.coroutines import run_coroutine
from ..remote.mirrors import is_mirrored

CHECKS = ("check", "test")


class Fixture:
    """A function that makes an argument of tests (`pytest.fixture`)."""

    def __init__(self, function: Callable[..., Any], name: str | None, params: list[Any], autouse: bool) -> None:
        self.function, self.name = function, name or function.__name__
        self.params, self.autouse = params, autouse


def fixture(
    function: Callable[..., Any] | None = None,
    *,
    scope: object = "function",
    params: Any = None,
    autouse: bool = False,
    ids: object = None,
    name: str | None = None,
) -> Any:
    """Stands for `pytest.fixture`: keeps the function. Each test gets a value of its own, whatever the scope."""

    def decorate(found: Callable[..., Any]) -> Fixture:
        return Fixture(found, name, list(params or []), autouse)

    return decorate if function is None else decorate(function)


def prepare(testmod: Callable[[dict[str, Any]], int], names: dict[str, Any]) -> None:
    """Replaces what would run tests by itself, or needs a file: everything is run by `run_collected`.

    Args:
        testmod: runs the examples in the response's documentation with these names; returns how many fail.
        names: the global names of the tests.
    """
    unittest.main = lambda *_args, **_kwargs: None  # type: ignore[assignment,misc]
    doctest: Any = sys.modules.get("doctest")
    if doctest is not None:
        doctest.testmod = lambda *_args, **_kwargs: doctest.TestResults(testmod(names), 1)
    pytest: Any = sys.modules.get("pytest")
    if pytest is not None:
        pytest.fixture = fixture
        pytest.main = lambda *_args, **_kwargs: 0


def run_collected(names: Mapping[str, Any], candidate: Callable[..., Any] | None, ran: set[str]) -> None:
    """Runs all tests that have not run.

    Args:
        names: the global names of the tests.
        candidate: what a parameter `candidate` gets.
        ran: the names of the functions that have run.

    Raises:
        BaseException: of the first test that fails.
    """
    fixtures = {f.name: f for f in names.values() if isinstance(f, Fixture)}
    runner = _Runner(fixtures, candidate)
    for name, value in list(names.items()):
        if isinstance(value, types.FunctionType) and value.__module__ == names["__name__"]:
            if name not in ran and (name.startswith("test") or _is_check(name, value)):
                runner.run(value)
        elif isinstance(value, type) and value.__module__ == names["__name__"]:
            if issubclass(value, unittest.TestCase):
                _run_unittest(value)
            elif name.startswith("Test"):
                _run_class(value, runner)


def _is_check(name: str, function: Callable[..., Any]) -> bool:
    """Whether it is a `check(candidate)`, also by another name."""
    parameters = list(inspect.signature(function).parameters.values())
    required = [p for p in parameters if p.default is p.empty]
    takes_candidate = [p.name for p in required] == ["candidate"]
    return takes_candidate or name == "check" and len(required) <= 1


def _run_unittest(kind: type[unittest.TestCase]) -> None:
    result = _FirstFailure()
    unittest.defaultTestLoader.loadTestsFromTestCase(kind).run(result)
    if result.error is not None:
        raise result.error


class _FirstFailure(unittest.TestResult):
    """Keeps the first exception, and stops there."""

    error: BaseException | None = None

    def addError(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802 - unittest's name
        self._keep(err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:  # noqa: N802
        self._keep(err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:  # noqa: N802
        if err is not None:
            self._keep(err)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:  # noqa: N802
        self._keep((AssertionError, AssertionError("unexpected success"), None))

    def _keep(self, err: Any) -> None:
        self.error = self.error or err[1]
        self.stop()


def _run_class(kind: type, runner: _Runner) -> None:
    """Runs the test methods of a class in pytest's form, each on an instance of its own."""
    _call_if(kind, "setup_class")
    for name in [n for c in reversed(kind.__mro__) for n in vars(c) if n.startswith("test")]:
        instance = kind()
        method = getattr(instance, name)
        _call_if(instance, "setup_method", method)
        try:
            runner.run(method, owner=instance)
        finally:
            _call_if(instance, "teardown_method", method)
    _call_if(kind, "teardown_class")


def _call_if(owner: Any, name: str, *args: Any) -> None:
    found = getattr(owner, name, None)
    if callable(found):
        found(*args[: len(inspect.signature(found).parameters)])


class _Runner:
    """Runs test functions with their parameters and fixtures."""

    def __init__(self, fixtures: Mapping[str, Fixture], candidate: Callable[..., Any] | None) -> None:
        self._fixtures, self._candidate = fixtures, candidate

    def run(self, function: Callable[..., Any], owner: Any = None) -> None:
        """Runs a test once for each combination of its parameters.

        Raises:
            BaseException: of the first run that fails.
        """
        if any(m.name in ("skip", "skipif", "xfail") for m in getattr(function, "pytestmark", [])):
            return
        fixtures = dict(self._fixtures)
        if owner is not None:
            fixtures |= {f.name: f for f in vars(type(owner)).values() if isinstance(f, Fixture)}
        for given in _parametrized(function):
            needed = self._with_params(function, fixtures, given)
            for params in needed:
                self._run_once(function, owner, fixtures, given, params)

    def _with_params(
        self, function: Callable[..., Any], fixtures: Mapping[str, Fixture], given: Mapping[str, Any]
    ) -> Iterator[dict[str, Any]]:
        """Each combination of the parameters of the fixtures that a test needs."""
        names = [n for n in self._names_of(function) if n in fixtures and n not in given and fixtures[n].params]
        for values in itertools.product(*(fixtures[n].params for n in names)):
            yield dict(zip(names, (getattr(v, "values", [v])[0] for v in values), strict=True))

    def _run_once(
        self,
        function: Callable[..., Any],
        owner: Any,
        fixtures: Mapping[str, Fixture],
        given: Mapping[str, Any],
        params: Mapping[str, Any],
    ) -> None:
        made: dict[str, Any] = dict(given)
        open_generators: list[Iterator[Any]] = []

        def value_of(name: str) -> Any:
            if name in made:
                return made[name]
            if name in fixtures:
                value = self._make(fixtures[name], owner, params, value_of, open_generators)
            elif name == "candidate" and self._candidate is not None:
                value = self._candidate
            else:
                value = _builtin_fixture(name, open_generators)
            made[name] = value
            return value

        try:
            for each in fixtures.values():
                if each.autouse:
                    value_of(each.name)
            result = function(*[value_of(name) for name in self._names_of(function)])
            if inspect.iscoroutine(result):
                run_coroutine(result)
        except BaseException as error:
            if type(error).__name__ not in ("SkipTest", "Skipped") or is_mirrored(error):
                raise
        finally:
            for generator in reversed(open_generators):
                next(generator, None)

    def _make(
        self,
        found: Fixture,
        owner: Any,
        params: Mapping[str, Any],
        value_of: Callable[[str], Any],
        open_generators: list[Iterator[Any]],
    ) -> Any:
        names = self._names_of(found.function)
        arguments: dict[str, Any] = {}
        for name in names:
            if name == "request":
                arguments[name] = types.SimpleNamespace(param=params.get(found.name))
            elif name == "self":
                arguments[name] = owner
            else:
                arguments[name] = value_of(name)
        value = found.function(**arguments)
        if inspect.isgenerator(value):
            open_generators.append(value)
            return next(value)
        return value

    @staticmethod
    def _names_of(function: Callable[..., Any]) -> list[str]:
        """The parameters that a test function needs a value for."""
        found = inspect.signature(function).parameters.values()
        kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        required = [p.name for p in found if p.default is p.empty and p.kind not in kinds]
        # The only parameter of `check` and the like is the candidate, whatever its name.
        return ["candidate"] if len(required) == 1 and function.__name__ == "check" else required


def _parametrized(function: Callable[..., Any]) -> Iterator[dict[str, Any]]:
    """The arguments of each run, by pytest's marks."""
    marks = [m for m in getattr(function, "pytestmark", []) if m.name == "parametrize"]
    choices: list[list[dict[str, Any]]] = []
    for mark in marks:
        given = inspect.signature(lambda argnames, argvalues, **_: None).bind(*mark.args, **mark.kwargs).arguments
        names = given["argnames"]
        names = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
        rows: list[dict[str, Any]] = []
        for row in given["argvalues"]:
            values = row.values if type(row).__name__ == "ParameterSet" else row if len(names) > 1 else (row,)
            rows.append(dict(zip(names, values, strict=True)))
        choices.append(rows)
    for combination in itertools.product(*choices):
        yield {name: value for part in combination for name, value in part.items()}


def _builtin_fixture(name: str, open_generators: list[Iterator[Any]]) -> Any:
    """pytest's `monkeypatch` and `capsys`.

    Raises:
        LookupError: there is no such fixture.
    """
    if name == "monkeypatch" and "pytest" in sys.modules:
        import pytest

        patch = pytest.MonkeyPatch()
        open_generators.append(_finish(patch.undo))
        return patch
    if name == "capsys":
        import io

        captured = _Captured(sys.stdout)
        sys.stdout = captured.stream = io.StringIO()
        open_generators.append(_finish(captured.restore))
        return captured
    raise LookupError(f"there is no fixture {name}")


def _finish(undo: Callable[[], None]) -> Iterator[None]:
    undo()
    yield


class _Captured:
    """Stands for pytest's `capsys`."""

    def __init__(self, before: Any) -> None:
        self._before = before
        self.stream: Any

    def readouterr(self) -> Any:
        """What was printed since the last call."""
        text = self.stream.getvalue()
        self.stream.seek(0)
        self.stream.truncate()
        return types.SimpleNamespace(out=text, err="")

    def restore(self) -> None:
        """Ends the capture."""
        sys.stdout = self._before
