"""Problems of the bank as programs that read stdin and print."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from .bank import Case, Problem, execute, problems
from .rendering import alike, indented, parameters, result_type

READERS = {
    "int": "int(input())",
    "float": "float(input())",
    "str": "input()",
    "list[int]": "list(map(int, input().split()))",
    "list[float]": "list(map(float, input().split()))",
    "list[str]": "[input() for _ in range(int(input()))]",
    "list[list[int]]": "[list(map(int, input().split())) for _ in range(int(input()))]",
    "tuple[float, float]": "tuple(map(float, input().split()))",
}
PRINTERS = {
    "bool": "print('YES' if result else 'NO')",
    "list[int]": "print(*result)",
    "list[float]": "print(*result)",
    "tuple[float, float]": "print(*result)",
    "tuple[str, int]": "print(*result)",
    "Extremes": "print(*result)",
    "Iterator[int]": "print(*result)",
    "list[str]": "print(len(result))\nfor item in result:\n    print(item)",
    "list[list[int]]": "for row in result:\n    print(*row)",
    "list[tuple[int, int]]": "for a, b in result:\n    print(a, b)",
    "dict[int, list[str]]": "for key in sorted(result):\n    print(key, *result[key])",
}
PLAIN = ("int", "str", "float", "Optional[int]", "Decimal")
"""Types of results that are printed as they are."""
MARK = "# the program"
WAYS_TO_READ = (
    "",
    "import sys\ninput = lambda: sys.stdin.readline().rstrip('\\n')\n",
    "import sys\nlines = iter(sys.stdin.read().split('\\n'))\ninput = lambda: next(lines)\n",
    "import sys\n\ndef input():\n    return sys.stdin.buffer.readline().decode().rstrip('\\n')\n",
    "lines = open(0).read().split('\\n')[::-1]\ninput = lines.pop\n",
    "from sys import stdin, setrecursionlimit\nsetrecursionlimit(10**6)\nlines = (s.rstrip('\\n') for s in stdin)\n"
    "input = lambda: next(lines)\n",
    "import io, os\ndata = io.BytesIO(os.read(0, os.fstat(0).st_size or 10**6))\n"
    "input = lambda: data.readline().decode().rstrip('\\r\\n')\n",
    "import sys\nlines = sys.stdin.readlines()\nlines.reverse()\ninput = lambda: lines.pop().rstrip('\\n')\n",
    "import sys\nsys.stdin = open('/dev/stdin')\n",
)
WAYS_TO_RUN = (
    "{body}",
    "def main():\n{indented}\n\nif __name__ == '__main__':\n    main()",
    "def solve():\n{indented}\n\nsolve()\nexit()",
    "import sys\n\ndef main():\n{indented}\n    return 0\n\nif __name__ == '__main__':\n    sys.exit(main())",
)
FILEINPUT = "import fileinput\nlines = fileinput.input()\ninput = lambda: next(lines).rstrip('\\n')\n"
IN_A_THREAD = (
    "import sys, threading\nsys.setrecursionlimit(10**6)\nthreading.stack_size(1 << 26)\n\ndef main():\n{indented}\n\n"
    "thread = threading.Thread(target=main)\nthread.start()\nthread.join()"
)
"""For a larger stack."""
RARE = 40
"""In so many problems, one is read with the module fileinput, and one runs in a thread."""


@dataclass(frozen=True)
class ProgramRow:
    """A program, and what goes in and comes out."""

    problem: Problem
    number: int
    place: int
    """0 for the right one."""
    program: str
    inputs: list[str]
    outputs: list[str]


def program_rows(first: int = 0) -> Iterator[ProgramRow]:
    """The right programs, and mutants that print something else.

    Args:
        first: shifts which style a problem gets.
    """
    for number, problem in enumerate(problems(), first):
        cases = [c for c in problem.cases if not c.outcome.error and fits(problem, c)]
        if not cases:
            continue
        batch = number % 3 == 0
        inputs = (
            ["".join(stdin_of(problem, case) for case in cases)] if batch else [stdin_of(problem, c) for c in cases]
        )
        inputs = [f"{len(cases)}\n{text}" if batch else text for text in inputs]
        right = _program(problem, problem.solution, batch)
        outputs = [printed(right, text) for text in inputs]
        yield ProgramRow(problem, number, 0, _styled(right, number), inputs, [text or "" for text in outputs])
        mutants = [_program(problem, code, batch) for code in problem.mutants]
        mutants.append(right.replace("print(", "print('Answer:', ", 1))
        for place, mutant in enumerate(mutants, 1):
            if any(_differ(printed(mutant, text), wanted) for text, wanted in zip(inputs, outputs, strict=True)):
                yield ProgramRow(
                    problem, number, place, _styled(mutant, number), inputs, [text or "" for text in outputs]
                )


def fits(problem: Problem, case: Case) -> bool:
    """Whether a program can read the arguments, and print the result."""
    types = [kind for _, kind in parameters(problem)]
    shown = result_type(problem) in (*PRINTERS, *PLAIN) or (
        case.in_place and types[0] in ("list[int]", "list[list[int]]")
    )
    readable = all(kind in READERS for kind in types) and len(types) == len(case.arguments)
    return shown and readable and not any("\n" in a for a in case.arguments if isinstance(a, str))


def stdin_of(problem: Problem, case: Case) -> str:
    """The lines that the program reads."""
    kinds = [kind for _, kind in parameters(problem)]
    return "".join(_lines(kind, a) for kind, a in zip(kinds, case.arguments, strict=True))


def _lines(kind: str, value: Any) -> str:
    match kind:
        case "list[int]" | "list[float]" | "tuple[float, float]":
            return " ".join(map(str, value)) + "\n"
        case "list[str]":
            return "".join(f"{line}\n" for line in (len(value), *value))
        case "list[list[int]]":
            return "".join(f"{line}\n" for line in (len(value), *(" ".join(map(str, row)) for row in value)))
    return f"{value}\n"


def _program(problem: Problem, code: str, batch: bool) -> str:
    names = [name for name, _ in parameters(problem)]
    in_place = result_type(problem) == "None"
    kind = parameters(problem)[0][1] if in_place else result_type(problem)
    call = f"{problem.name}({', '.join(names)})"
    solve = [f"{name} = {READERS[kind]}" for name, kind in parameters(problem)]
    solve += [call, f"result = {names[0]}"] if in_place else [f"result = {call}"]
    solve.append(PRINTERS.get(kind, "print(result)"))
    body = "\n".join(solve)
    if batch:
        body = f"for _ in range(int(input())):\n{indented(body)}"
    return f"{code}\n{MARK}\n{body}\n"


def _styled(program: str, number: int) -> str:
    """The program with another way to read, and to run."""
    functions, _, body = program.partition(f"{MARK}\n")
    read = FILEINPUT if number % RARE == 7 else WAYS_TO_READ[number % len(WAYS_TO_READ)]
    way = IN_A_THREAD if number % RARE == 13 else WAYS_TO_RUN[number // 2 % len(WAYS_TO_RUN)]
    return f"{read}{functions}{way.format(body=body, indented=indented(body))}\n"


def printed(program: str, stdin: str) -> str | None:
    """What our own program prints; None if it raises."""
    out = io.StringIO()
    with mock.patch.object(sys, "stdin", io.StringIO(stdin)), contextlib.redirect_stdout(out):
        try:
            execute(program, {"__name__": "__main__"})
        except Exception:  # noqa: BLE001 - a mutant's
            return None
    return out.getvalue()


def _differ(found: str | None, wanted: str | None) -> bool:
    if found is None or wanted is None:
        return True
    words = [[_number(word) for word in text.split()] for text in (found, wanted)]
    return not alike(*words) or len(found.rstrip().splitlines()) != len(wanted.rstrip().splitlines())


def _number(word: str) -> float | str:
    try:
        return float(word) if "." in word else word
    except ValueError:
        return word
