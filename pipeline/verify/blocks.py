"""Extracts the code from a response: pure functions on text."""

from __future__ import annotations

import ast
import re

FENCE = re.compile(r"```[ \t]*([\w+-]*)[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL)
CODE_LINE = re.compile(r"(?:async )?def \w+\s*\(|class \w+\s*[(:]|import \w+\s*$|from [\w.]+ import |@\w+")
PYTHON = ("", "python", "py", "python3")


def extract_code(response: str, entry_point: str | None = None, prompt: str = "") -> str | None:
    """The code of a response: the last fenced block that defines the entry point, else the last one that parses.

    A response without a fence is used whole if it parses, else from its first line of code. If the prompt holds the
    function's signature (HumanEval) and the response holds only the body, the two are joined.
    """
    response = response.rpartition("</think>")[2] or response
    fenced: list[tuple[str, str]] = FENCE.findall(response)
    blocks = [body for language, body in fenced if language.lower() in PYTHON] if fenced else [response]
    parsed = [(block, tree) for block in blocks if (tree := _parse(block)) is not None]
    for block, tree in reversed(parsed):
        if defines(tree, entry_point) if entry_point else bool(tree.body):
            return block
    if prelude := extract_prelude(prompt, entry_point):
        for block in reversed(blocks):
            if block[:1].isspace() and block.strip() and _parse(whole := f"{prelude.rstrip()}\n{block}") is not None:
                return whole
    if not fenced:
        return _unfenced(response)
    # A fenced block is meant as the answer even if it does not parse or defines something else. The check reports why.
    return blocks[-1] if blocks else None


def extract_prelude(prompt: str, entry_point: str | None) -> str:
    """The Python code in a prompt that defines the entry point, with imports and helpers; empty if there is none."""
    if entry_point is None or f"def {entry_point}" not in prompt:
        return ""
    for code in (prompt, *(body for _, body in FENCE.findall(prompt))):
        for whole in (code, f"{code.rstrip()}\n    pass\n"):  # a signature without a body
            tree = _parse(whole)
            if tree is not None and defines(tree, entry_point):
                return code if whole is code else whole
    return ""


def _unfenced(response: str) -> str | None:
    """Code in prose without a fence: from the first line that can only be code, to the last line that still parses."""
    lines = response.splitlines(keepends=True)
    start = next((i for i, line in enumerate(lines) if CODE_LINE.match(line)), None)
    if start is None:
        return None
    for end in range(len(lines), max(start, len(lines) - 40), -1):
        if _parse(code := "".join(lines[start:end])) is not None:
            return code
    return None


def defines(tree: ast.Module, name: str) -> bool:
    """Whether the module defines the name at its top level."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name == name:
            return True
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return True
    return False


def _parse(code: str) -> ast.Module | None:
    try:
        return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
