"""Runs what tests define and do not run themselves: pytest functions, unittest classes, `check(candidate)`."""

from __future__ import annotations

import inspect
import sys
import types
import unittest
from collections.abc import Callable, Mapping
from typing import Any

from .pytest_functions import Fixture, FunctionRunner, fixture


def prepare(testmod: Callable[[dict[str, Any]], int], names: dict[str, Any]) -> None:
    """Replaces what would run tests by itself, or needs a file: everything is run by `run_collected`.

    Args:
        testmod: runs the examples in the response's documentation with these names; returns how many fail.
        names: the global names of the tests.
    """
    unittest.main = lambda *_args, **_kwargs: None  # type: ignore[assignment]
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
    runner = FunctionRunner(fixtures, candidate)
    module = types.SimpleNamespace(
        **{n: v for n, v in names.items() if n.startswith(("setup", "teardown", "setUp", "tearDown"))}
    )
    for prepare_all in ("setup_module", "setUpModule"):
        _call_if(module, prepare_all, module)
    for name, value in list(names.items()):
        if isinstance(value, types.FunctionType) and value.__module__ == names["__name__"]:
            if name not in ran and (name.startswith("test") or _is_check(name, value)):
                if name == "check" and candidate is not None and value.__code__.co_argcount == 1:
                    value(candidate)
                    continue
                _call_if(module, "setup_function", value)
                try:
                    runner.run(value)
                finally:
                    _call_if(module, "teardown_function", value)
        elif isinstance(value, type) and value.__module__ == names["__name__"]:
            if issubclass(value, unittest.TestCase):
                _run_unittest(value)
            elif name.startswith("Test"):
                _run_class(value, runner)
    for finish_all in ("teardown_module", "tearDownModule"):
        _call_if(module, finish_all, module)


def _is_check(name: str, function: Callable[..., Any]) -> bool:
    """Whether it is a `check(candidate)`, also by another name."""
    parameters = list(inspect.signature(function).parameters.values())
    required = [p for p in parameters if p.default is p.empty]
    takes_candidate = [p.name for p in required] == ["candidate"]
    return takes_candidate or (name == "check" and len(required) <= 1)


def _run_unittest(kind: type[unittest.TestCase]) -> None:
    result = _FirstFailure()
    unittest.defaultTestLoader.loadTestsFromTestCase(kind).run(result)
    if result.error is not None:
        raise result.error


class _FirstFailure(unittest.TestResult):
    """Keeps the first exception, and stops there."""

    error: BaseException | None = None

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self._keep(err)

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self._keep(err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            self._keep(err)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._keep((AssertionError, AssertionError("unexpected success"), None))

    def _keep(self, err: Any) -> None:
        self.error = self.error or err[1]
        self.stop()


def _run_class(kind: type, runner: FunctionRunner) -> None:
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
