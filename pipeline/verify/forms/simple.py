"""Tells which tests can run in the judge's own process: those that can't change it, as most assertions can't."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable

MODULES = frozenset({
    "math", "cmath", "collections", "itertools", "functools", "fractions", "decimal", "re", "string", "typing",
    "datetime",
    "copy", "heapq", "bisect", "statistics", "operator",
})  # fmt: skip
"""Modules without a state that tests would change."""
_CHANGING = frozenset({
    "exec", "eval", "compile", "open", "globals", "locals", "vars", "getattr", "setattr", "delattr", "input",
    "breakpoint",
    "exit", "quit", "help", "memoryview", "type", "print",
    "setcontext", "getcontext", "localcontext", "register",
}) | (sys.stdlib_module_names - MODULES)  # fmt: skip


def is_simple(nodes: Iterable[ast.AST]) -> bool:
    """Whether the code has no classes, imports of other modules, or access to Python's internals."""
    return all(map(_is_simple, nodes))


def _is_simple(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return all(alias.name in MODULES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return node.module in MODULES and node.level == 0
    if isinstance(node, ast.Name):
        return node.id not in _CHANGING and not (node.id.startswith("__") and node.id != "__name__")
    if isinstance(node, ast.Attribute):
        return not node.attr.startswith("_") and node.attr not in _CHANGING and isinstance(node.ctx, ast.Load)
    return not isinstance(node, ast.ClassDef | ast.AsyncFunctionDef)
