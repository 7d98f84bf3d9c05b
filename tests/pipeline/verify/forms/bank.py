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

TOPICS = ("strings", "lists", "numbers", "maps", "algorithms", "text", "classes", "classes2")
FOLDER = Path(__file__).parent


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
    arguments: list[str]
    statements: list[str]
    cases: list[Case] = field(default_factory=list)


@cache
def problems() -> list[Problem]:
    """All problems of the bank."""
    return [problem for topic in TOPICS for problem in read_problems(f"{topic}.md")]


def read_problems(file: str) -> list[Problem]:
    """The problems of a Markdown file: heading, description, solution, tests, and lines that begin with a mark.

    The marks: `-` a case (its arguments), `~` a mutant (`old => new` in the solution), `!` imports that cases need.
    """
    text = (FOLDER / file).read_text("utf-8")
    return [_problem(part) for part in re.split(r"^# (?=\S+\n[A-Z])", text, flags=re.MULTILINE)[1:]]


def _problem(text: str) -> Problem:
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))
    rest = re.sub(r"^```\w+\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    name, description, *lines = [line for line in rest.splitlines() if line.strip()]
    marked = {mark: [line[2:] for line in lines if line.startswith(mark + " ")] for mark in "-~!"}
    solution = blocks["python"].strip() + "\n"
    problem = Problem(
        name=name,
        description=description,
        solution=solution,
        mutants=[_mutant(name, solution, line) for line in marked["~"]],
        setup="".join(line + "\n" for line in marked["!"]),
        arguments=marked["-"],
        statements=[part.strip() for part in blocks.get("tests", "").split("\n---\n") if part.strip()],
    )
    problem.cases = [_case(problem, source) for source in problem.arguments]
    return problem


def _mutant(name: str, solution: str, line: str) -> str:
    old, new = line.split(" =>", 1)
    new = new[1:]
    if old not in solution:
        raise ValueError(f"{name}: the solution has no {old!r}")
    return solution.replace(old, new, 1)


def _case(problem: Problem, source: str) -> Case:
    outcome = call(problem.solution, problem, source)
    before = arguments_of(problem, source)
    in_place = outcome.result is None and not outcome.error and problem.solution.count("-> None:") == 1
    return Case(source, before, outcome, in_place)


def arguments_of(problem: Problem, source: str) -> tuple[Any, ...]:
    """The arguments that a case's code stands for."""
    names: dict[str, Any] = {}
    exec(problem.setup, names)  # noqa: S102 - our own code
    return eval(f"({source},)", names)  # noqa: S307 - our own code


def call(code: str, problem: Problem, source: str) -> Outcome:
    """What the function does with the arguments."""
    names: dict[str, Any] = {"__name__": "solution"}
    exec(code, names)  # noqa: S102 - our own code
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
