"""Tests that are inputs and outputs: of programs (stdin and stdout) or of a function (arguments and result).

Forms: a list of `{"input", "output"}`; the dict of APPS and TACO, `{"inputs", "outputs", "fn_name"}`; LiveCodeBench's
list of `{"input", "output", "testtype"}`. A pair, or the dict, may have a `tolerance` for numbers.
"""

from __future__ import annotations

import ast
import json
import math
from typing import Any, NamedTuple


class InputOutput(NamedTuple):
    """One input and its output."""

    input: Any
    """Text for stdin, or the list of arguments."""
    output: Any
    """Text, or the result."""
    tolerance: float | None = None
    """Numbers may differ by this much, absolutely or relatively; None: they may not."""


class Pairs(NamedTuple):
    """Tests of this form."""

    pairs: list[InputOutput]
    function: str | None
    """The function that is called; None for programs."""
    may_be_wrapped: bool = False
    """Whether each output may be a list that holds the result, as APPS and TACO write some functions' results."""


def parse_pairs(
    tests: str, entry_point: str | None = None, num_parameters: tuple[int, int] | None = None
) -> Pairs | None:
    """The pairs of a JSON text, or None if it is of another form.

    Args:
        entry_point: the function that a list of pairs may be about.
        num_parameters: how many arguments it takes, at least and at most; None if the response is a program. A list of
            pairs that does not say what it is about is about the function if the number of arguments fits.
    """
    if not may_be_pairs(tests):
        return None
    try:
        found = json.loads(tests)
        if isinstance(found, str):
            found = json.loads(found)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict) and isinstance(found.get("inputs"), list) and isinstance(found.get("outputs"), list):
        return _of_dict(found)
    if isinstance(found, list) and all(isinstance(p, dict) and {"input", "output"} <= p.keys() for p in found):
        return _of_list(found, entry_point, num_parameters)
    return None


def may_be_pairs(tests: str) -> bool:
    """Whether the text begins as JSON."""
    return tests.lstrip()[:1] in ("[", "{")


def assert_lines(tests: str) -> str | None:
    """Assertions that are given as a JSON list of texts, as lines; None if the text is of another form."""
    if not tests.lstrip().startswith("["):
        return None
    try:
        lines = json.loads(tests)
    except (ValueError, RecursionError):
        return None
    return "\n".join(lines) if isinstance(lines, list) and lines and all(isinstance(t, str) for t in lines) else None


def _of_dict(found: dict[str, Any]) -> Pairs:
    function, tolerance = found.get("fn_name") or None, found.get("tolerance")
    pairs = []
    for given, wanted in zip(found["inputs"], found["outputs"], strict=False):
        if function is None:
            pairs.append(InputOutput(_text(given), _text(wanted), tolerance))
        else:
            arguments = given if isinstance(given, list) else _arguments(str(given))
            pairs.append(InputOutput(arguments, wanted, tolerance))
    return Pairs(pairs, function, all(isinstance(p.output, list) and len(p.output) == 1 for p in pairs))


def _of_list(found: list[dict[str, Any]], entry_point: str | None, num_parameters: tuple[int, int] | None) -> Pairs:
    arguments = [p["input"] if isinstance(p["input"], list) else _arguments(_text(p["input"])) for p in found]
    kinds = {p.get("testtype") for p in found}
    fits = num_parameters is not None and all(num_parameters[0] <= len(a) <= num_parameters[1] for a in arguments)
    if entry_point is None or kinds == {"stdin"} or not (fits or kinds == {"functional"}):
        return Pairs([InputOutput(_text(p["input"]), _text(p["output"]), p.get("tolerance")) for p in found], None)
    results = [_literal(p["output"]) if isinstance(p["output"], str) else p["output"] for p in found]
    pairs = [InputOutput(a, r, p.get("tolerance")) for a, r, p in zip(arguments, results, found, strict=True)]
    return Pairs(pairs, entry_point)


def _text(value: Any) -> str:
    """Text of a program's input or output. A list holds its lines."""
    if isinstance(value, list):
        return "".join(f"{line}\n" for line in value)
    return value if isinstance(value, str) else str(value)


def _arguments(text: str) -> list[Any]:
    """One argument a line, as JSON or as Python writes it."""
    return [_literal(line) for line in text.splitlines() if line.strip()]


def _literal(text: str) -> Any:
    """The value of a JSON text or a Python literal; the text itself if it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return text


def same_output(printed: str, wanted: str, tolerance: float | None) -> bool:
    """Whether a program printed what it should: line by line, without white space at ends of lines and of the text."""
    if tolerance is None:
        return _lines(printed) == _lines(wanted)
    words = [[line.split() for line in _lines(t)] for t in (printed, wanted)]
    return len(words[0]) == len(words[1]) and all(
        len(a) == len(b) and all(_same_word(x, y, tolerance) for x, y in zip(a, b, strict=True))
        for a, b in zip(*words, strict=True)
    )


def same_result(result: Any, wanted: Any, tolerance: float | None) -> bool:
    """Whether a function returned what it should. JSON has no tuples, so a tuple equals a list."""
    if isinstance(result, tuple):
        result = list(result)
    elif type(result).__module__ == "numpy" and hasattr(result, "item") and not result.shape:
        result = result.item()
    if isinstance(result, list) and isinstance(wanted, list):
        return len(result) == len(wanted) and all(
            same_result(r, w, tolerance) for r, w in zip(result, wanted, strict=True)
        )
    if isinstance(result, dict) and isinstance(wanted, dict):
        keyed = {_json_key(k): v for k, v in result.items()}
        if len(keyed) != len(result) or keyed.keys() != wanted.keys():
            return False
        return all(same_result(v, wanted[k], tolerance) for k, v in keyed.items())
    if isinstance(result, bool) != isinstance(wanted, bool):
        return False
    if tolerance is not None and isinstance(result, int | float) and isinstance(wanted, int | float):
        return _close(result, wanted, tolerance)
    both_nan = type(result) is type(wanted) is float and math.isnan(result) and math.isnan(wanted)
    return both_nan or bool(result == wanted)


def _json_key(key: Any) -> Any:
    """The key as JSON writes it, where all keys are texts; what JSON can't write as it is."""
    if type(key) in (int, float):
        return str(key)
    return json.dumps(key) if key is None or type(key) is bool else key


def _same_word(printed: str, wanted: str, tolerance: float) -> bool:
    if printed == wanted:
        return True
    try:
        return "_" not in printed and _close(float(printed), float(wanted), tolerance)
    except ValueError:
        return False


def _close(found: float, wanted: float, tolerance: float) -> bool:
    if found == wanted:
        return True
    try:
        finite = math.isfinite(found) and math.isfinite(wanted)
        return finite and abs(found - wanted) <= tolerance * max(1.0, abs(wanted))
    except OverflowError:  # integers that no float can hold
        return False


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().replace("\r\n", "\n").split("\n")]
