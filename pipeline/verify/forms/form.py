"""Tells the form of tests."""

from __future__ import annotations

import ast

from .doctests import doctest_of
from .pairs import Pairs, assert_lines, parse_pairs

Form = Pairs | str | ast.Module | Exception
"""Inputs and outputs, the text of doctests, Python code, or why the tests can't be read."""


def parse_form(tests: str, entry_point: str | None, num_parameters: tuple[int, int] | None) -> Form:
    """The tests in their form.

    Args:
        num_parameters: of the entry point; see `pairs.parse_pairs`.
    """
    pairs = parse_pairs(tests, entry_point, num_parameters)
    if pairs is not None:
        return pairs
    source = assert_lines(tests) or tests
    if (examples := doctest_of(source)) is not None:
        return examples
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return error
