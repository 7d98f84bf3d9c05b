"""The bank of problems: each has a right solution, mutants, and cases whose results the right solution gives."""

from __future__ import annotations

import contextlib
import copy
import re
import types
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

ROWS = Path(__file__).parent / "rows"


@dataclass(frozen=True)
class Outcome:
    """What a call did."""

    result: Any = None
    error: str = ""
    """Name of the exception."""
    message: str = ""
    arguments: tuple[Any, ...] = ()
    """The arguments after the call."""


@dataclass(frozen=True)
class Case:
    """A call and what it must do."""

    source: str
    """The arguments as Python code."""
    arguments: tuple[Any, ...]
    outcome: Outcome
    in_place: bool
    """The function returns nothing, and changes its first argument."""


@dataclass
class Problem:
    """A problem. It has cases, or (a class, a decorator) statements that test it."""

    name: str
    description: str
    solution: str
    mutants: list[str]
    setup: str
    """Imports that the cases need."""
    statements: list[str]
    cases: list[Case] = field(default_factory=list)


@dataclass(frozen=True)
class Entry:
    """A section of a Markdown file."""

    name: str
    description: str
    blocks: dict[str, str]
    """Fenced blocks by language: `python` is the solution."""
    marked: dict[str, list[str]]
    """Lines by their mark: `-` a case, `~` a mutant (`old => new` in the solution), `!` an import that cases need."""


@cache
def problems() -> list[Problem]:
    """All problems of the bank."""
    return [_problem(entry) for entry in entries("problems")]


def entries(folder: str) -> list[Entry]:
    """The sections of the Markdown files of a folder of rows/."""
    texts = [path.read_text("utf-8") for path in sorted((ROWS / folder).glob("*.md"))]
    parts = [part for text in texts for part in re.split(r"^# (?=\w+\n[A-Z])", text, flags=re.MULTILINE)[1:]]
    return [_entry(part) for part in parts]


def _entry(text: str) -> Entry:
    fence = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
    name, description, *lines = [line for line in fence.sub("", text).splitlines() if line.strip()]
    marked = {mark: [line[2:] for line in lines if line.startswith(mark + " ")] for mark in "-~!"}
    return Entry(name, description, {m[1]: m[2].rstrip() + "\n" for m in fence.finditer(text)}, marked)


def _problem(entry: Entry) -> Problem:
    solution = entry.blocks["python"]
    problem = Problem(
        name=entry.name,
        description=entry.description,
        solution=solution,
        mutants=[mutant_of(entry.name, solution, line) for line in entry.marked["~"]],
        setup="".join(line + "\n" for line in entry.marked["!"]),
        statements=entry.blocks["tests"].split("\n---\n") if "tests" in entry.blocks else [],
    )
    problem.cases = [_case(problem, source) for source in entry.marked["-"]]
    return problem


def mutant_of(name: str, solution: str, line: str) -> str:
    """The solution with the first place changed that a line `old => new` names."""
    old, new = line.split(" =>", 1)
    if old not in solution:
        raise ValueError(f"{name}: the solution has no {old!r}")
    return solution.replace(old, new[1:], 1)


def _case(problem: Problem, source: str) -> Case:
    outcome = call(problem.solution, problem, source)
    before = arguments_of(problem, source)
    in_place = outcome.result is None and not outcome.error and problem.solution.count("-> None:") == 1
    return Case(source, before, outcome, in_place)


def execute(code: str, names: dict[str, Any]) -> None:
    """Runs our own code, without this module's `from __future__`."""
    exec(compile(code, "<row>", "exec", dont_inherit=True), names)  # noqa: S102


def arguments_of(problem: Problem, source: str) -> tuple[Any, ...]:
    """The arguments that a case's code stands for."""
    names: dict[str, Any] = {}
    execute(problem.setup, names)
    return eval(f"({source},)", names)  # noqa: S307 - our own code


def call(code: str, problem: Problem, source: str) -> Outcome:
    """What the function does with the arguments."""
    names: dict[str, Any] = {"__name__": "solution"}
    execute(code, names)
    arguments = arguments_of(problem, source)
    try:
        result = names[problem.name](*arguments)
        if isinstance(result, types.GeneratorType):
            result = list(result)
    except Exception as error:  # noqa: BLE001 - the outcome
        return Outcome(None, type(error).__name__, str(error))
    with contextlib.suppress(TypeError):
        return Outcome(copy.deepcopy(result), "", "", copy.deepcopy(arguments))
    return Outcome(result, "", "", arguments)


def yields(problem: Problem) -> bool:
    """Whether the function is a generator."""
    return "yield" in problem.solution
