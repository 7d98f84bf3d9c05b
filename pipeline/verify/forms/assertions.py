"""Counts the assertions of tests that were evaluated and held, by adding a statement behind each of them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence

HELD = "_fusechat_held"
RAN = "_fusechat_ran"
_EXPECTING = frozenset({
    "raises", "warns", "deprecated_call", "assertRaises", "assertRaisesRegex", "assertWarns", "assertWarnsRegex",
    "assertLogs", "assertNoLogs", "subTest",
})  # fmt: skip
_FAILING = frozenset({"fail", "exit", "_exit"})


def instrument(tree: ast.Module, nodes: Sequence[ast.AST]) -> None:
    """Adds a call of `HELD` behind each assertion, and of `RAN` at the start of each function at the top level.

    An assertion is an `assert`, a call of a function named `assert...`, a block that expects an exception, or an `if`
    or `try` whose other way out raises.

    Args:
        nodes: all nodes of the tree.
    """
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node.body.insert(_after_docstring(node.body), _call(RAN, node.body[0], node.name))
    for parent in nodes:
        for field in ("body", "orelse", "finalbody"):
            statements = getattr(parent, field, None)
            if isinstance(statements, list):
                setattr(parent, field, _with_counts(statements))


def _with_counts(statements: list[ast.stmt]) -> list[ast.stmt]:
    found: list[ast.stmt] = []
    for statement in statements:
        found.append(statement)
        if is_assertion(statement):
            found.append(_call(HELD, statement))
    return found


def is_assertion(statement: ast.stmt) -> bool:
    """Whether getting past the statement means that an assertion held."""
    if isinstance(statement, ast.Assert):
        return True
    if isinstance(statement, ast.Expr):
        name = _called_name(statement.value)
        return name.startswith("assert") or name in _EXPECTING
    if isinstance(statement, ast.With | ast.AsyncWith):
        names = {_called_name(item.context_expr) for item in statement.items}
        return bool(names & _EXPECTING) and "subTest" not in names
    if isinstance(statement, ast.If):
        return _raises(statement.body) or _raises(statement.orelse)
    if isinstance(statement, ast.Try):
        return _raises(statement.body) or _raises(statement.orelse)
    return False


def _raises(statements: list[ast.stmt]) -> bool:
    """Whether the block ends by raising."""
    if not statements:
        return False
    last = next((s for s in reversed(statements) if not _is_count(s)), statements[-1])
    if isinstance(last, ast.Raise):
        return True
    if isinstance(last, ast.Assert):
        return isinstance(last.test, ast.Constant) and not last.test.value
    return isinstance(last, ast.Expr) and _called_name(last.value) in _FAILING


def _is_count(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and _called_name(statement.value) in (HELD, RAN)


def _called_name(node: ast.expr) -> str:
    """The name of the function that an expression calls; empty if it calls none."""
    if isinstance(node, ast.Await):
        node = node.value
    if not isinstance(node, ast.Call):
        return ""
    function = node.func
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def _after_docstring(body: list[ast.stmt]) -> int:
    first = body[0]
    return int(
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )


def _call(function: str, at: ast.stmt, *args: str) -> ast.stmt:
    call = ast.Call(ast.Name(function, ast.Load()), [ast.Constant(a) for a in args], [])
    found = ast.Expr(call)
    for node in (found, call, call.func, *call.args):
        ast.copy_location(node, at)
    return found


def names_in(nodes: Iterable[ast.AST]) -> set[str]:
    """All names and attributes in the code."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.alias):
            found.update(node.name.split("."))
    return found
