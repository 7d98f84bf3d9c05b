"""Tests in the form of doctest: `>>> f(1)` and the result in the next line."""

from __future__ import annotations

import ast
import re
from typing import Any

_PROMPT = re.compile(r"^[ \t]*>>> \S", re.MULTILINE)


def doctest_of(tests: str) -> str | None:
    """The examples, if the tests are examples alone or in one docstring."""
    if not _PROMPT.search(tests):
        return None
    try:
        body = ast.parse(tests).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return tests
    if len(body) == 1 and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        return str(body[0].value.value)
    return None


def run_doctests(text: str, names: dict[str, Any]) -> int:
    """Runs the examples; returns how many results were as they should be.

    Raises:
        AssertionError: a result differs.
        BaseException: an example raised it.
    """
    import doctest

    examples = doctest.DocTestParser().get_examples(text)
    test = doctest.DocTest(examples, {}, "tests", None, None, text)
    test.globs = names
    try:
        doctest.DebugRunner(verbose=False).run(test, out=lambda _text: None, clear_globs=False)
    except doctest.DocTestFailure as failure:
        wanted = failure.example.want.strip()
        raise AssertionError(
            f"{failure.example.source.strip()}: {failure.got.strip()[:100]}, not {wanted[:100]}"
        ) from None
    except doctest.UnexpectedException as failure:
        raise failure.exc_info[1] from None
    return sum(bool(e.want) for e in examples)
