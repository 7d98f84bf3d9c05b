"""Runs test functions as pytest does: with parameters, fixtures, `monkeypatch` and `capsys`."""

from __future__ import annotations

import inspect
import io
import itertools
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..remote.coroutines import run_coroutine
from ..remote.mirrors import is_mirrored

SKIPPED = ("skip", "skipif", "xfail")
"""Marks of tests that are not run: they say nothing about the response."""


class MissingFixtureError(Exception):
    """A test needs what is not provided here."""


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


class FunctionRunner:
    """Runs test functions with their parameters and fixtures."""

    def __init__(self, fixtures: Mapping[str, Fixture], candidate: Callable[..., Any] | None) -> None:
        self._fixtures, self._candidate = fixtures, candidate

    def run(self, function: Callable[..., Any], owner: Any = None) -> None:
        """Runs a test once for each combination of its parameters.

        Raises:
            BaseException: of the first run that fails.
        """
        marks = [*getattr(type(owner), "pytestmark", []), *getattr(function, "pytestmark", [])]
        if any(m.name in SKIPPED for m in marks):
            return
        fixtures = dict(self._fixtures)
        if owner is not None:
            fixtures |= {f.name: f for f in vars(type(owner)).values() if isinstance(f, Fixture)}
        used = [str(name) for m in marks if m.name == "usefixtures" for name in m.args]
        for given, params in _parametrized(marks, fixtures):
            for more in self._with_params(function, fixtures, {**given, **params}):
                self._run_once(function, owner, fixtures, given, {**more, **params}, used)

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
        used: Sequence[str],
    ) -> None:
        made: dict[str, Any] = dict(given)
        open_generators: list[Iterator[Any]] = []

        def value_of(name: str) -> Any:
            if name in made:
                return made[name]
            if name in fixtures:
                value = self._make(fixtures[name], owner, params, value_of, open_generators)
            elif name == "request":
                value = types.SimpleNamespace(getfixturevalue=value_of)
            elif name == "candidate" and self._candidate is not None:
                value = self._candidate
            else:
                value = _builtin_fixture(name, open_generators)
            made[name] = value
            return value

        try:
            for name in [*(f.name for f in fixtures.values() if f.autouse), *used]:
                value_of(name)
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
                arguments[name] = types.SimpleNamespace(param=params.get(found.name), getfixturevalue=value_of)
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


def _parametrized(
    marks: Sequence[Any], fixtures: Mapping[str, Fixture]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The arguments of each run by pytest's marks, and the parameters of fixtures (`indirect`)."""
    choices: list[list[dict[str, Any]]] = []
    indirect: set[str] = set()
    for mark in (m for m in marks if m.name == "parametrize"):
        given = inspect.signature(lambda argnames, argvalues, **_: None).bind(*mark.args, **mark.kwargs).arguments
        names = given["argnames"]
        names = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
        through = mark.kwargs.get("indirect", False)
        indirect |= set(names if through is True else through or ()) & fixtures.keys()
        rows: list[dict[str, Any]] = []
        for row in given["argvalues"]:
            is_param = type(row).__name__ == "ParameterSet"
            if is_param and any(m.name in SKIPPED for m in row.marks):
                continue
            values = row.values if is_param else row if len(names) > 1 else (row,)
            rows.append(dict(zip(names, values, strict=True)))
        choices.append(rows)
    for combination in itertools.product(*choices):
        found = {name: value for part in combination for name, value in part.items()}
        yield (
            {n: v for n, v in found.items() if n not in indirect},
            {n: v for n, v in found.items() if n in indirect},
        )


def _builtin_fixture(name: str, open_generators: list[Iterator[Any]]) -> Any:
    """pytest's `monkeypatch` and `capsys`.

    Raises:
        MissingFixtureError: there is no such fixture.
    """
    if name == "monkeypatch" and "pytest" in sys.modules:
        import pytest

        patch = pytest.MonkeyPatch()
        open_generators.append(_finish(patch.undo))
        return patch
    if name == "capsys":
        captured = _Captured(sys.stdout)
        sys.stdout = captured.stream = io.StringIO()
        open_generators.append(_finish(captured.restore))
        return captured
    raise MissingFixtureError(f"there is no fixture {name} here")


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
