"""Extracts the code from a response: pure functions on text."""

from __future__ import annotations

import ast
import builtins
import re
import symtable
import textwrap
from collections.abc import Callable, Iterator, Sequence, Set
from typing import NamedTuple

FENCE = re.compile(
    r"^(?P<indent>[ \t]{0,40})[ \t>]{0,40}(?:(?:[-*+]|\d{1,9}[.)])[ \t]{1,40})?"
    r"(?P<fence>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.-]*)[^\n`]*\r?\n"
    r"(?P<body>.*?)(?:^[ \t>]*(?P=fence)[`~]*[ \t]*$|\Z)",
    re.DOTALL | re.MULTILINE,
)
FUTURE = re.compile(r"^from __future__ import .*\n?", re.MULTILINE)
INLINE_FENCE = re.compile(r"```[ \t]*(?P<language>[\w+-]*)[ \t]*\r?\n(?P<body>.*?)(?:```|\Z)", re.DOTALL)
"""A fence behind other text in its line."""
CODE_LINE = re.compile(
    r"(?:async )?def \w+\s*\(|class \w+\s*[(:]|import \w+(?:\s+as \w+)?\s*$|from [\w.]+ import |@\w+"
    r"|[A-Za-z_]\w*\s*(?::[\w\[\], .]{1,80})?=(?!=)\s*\S"
)
DEFINITION = re.compile(r"(?:async )?def \w+\s*\(|class \w+\s*[(:]|import \w|from [\w.]+ import ")
PYTHON = ("", "python", "py", "python3", "py3", "python2")
_DEFINITIONS = (
    ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Assign, ast.AnnAssign, ast.Import, ast.ImportFrom,
)  # fmt: skip
MAX_STARTS, MAX_TRIES = 10, 40
"""How many first lines are tried when a text is no code as a whole, and how many last lines for each."""


class Block(NamedTuple):
    """A block of code that parses."""

    text: str
    tree: ast.Module


def extract_code(response: str, entry_point: str | None = None, prompt: str = "") -> str | None:
    """The code of a response: the last fenced block that defines the entry point, else the last one that parses.

    What other blocks define, and it does not, is put before it. A response without a fence is used whole if it parses,
    else from its first line of code. If the prompt holds the function's signature (HumanEval) and the response holds
    only the body, the two are joined.
    """
    response = without_thoughts(response)
    fenced = fenced_blocks(response)
    texts = [body for language, body in fenced if language in PYTHON] if fenced else [response]
    blocks = [Block(text, tree) for text in texts if (tree := _parse(text)) is not None]
    if (main := _main_block(blocks, entry_point)) is not None:
        return _joined(main, blocks) if entry_point else main.text
    if prelude := extract_prelude(prompt, entry_point):
        for block in reversed(texts):
            if block[:1].isspace() and block.strip() and _parse(whole := f"{prelude.rstrip()}\n{block}") is not None:
                return whole
    unfenced = _unfenced(response)
    if not fenced or (unfenced is not None and entry_point and defines(ast.parse(unfenced), name_of(entry_point))):
        return unfenced
    # A fenced block is meant as the answer even if it does not parse or defines something else. The check reports why.
    return texts[-1] if texts else None


def without_thoughts(response: str) -> str:
    """What follows a model's thoughts; all of a response that ends with them, or has none."""
    return response.rpartition("</think>")[2] or response


def fenced_blocks(response: str) -> list[tuple[str, str]]:
    """Language (in lower case) and body of each fenced block. Indented fences lose their indentation."""
    found = [(m["language"].lower(), _dedented(m["body"], m["indent"])) for m in FENCE.finditer(response)]
    if found:
        return found
    return [(m["language"].lower(), m["body"]) for m in INLINE_FENCE.finditer(response)]


def extract_prelude(prompt: str, entry_point: str | None) -> str:
    """The Python code in a prompt that defines the entry point, with imports and helpers; empty if there is none."""
    name = name_of(entry_point or "")
    if not name or not re.search(rf"(?:def|class) {name}\b", prompt):
        return ""
    for code in (prompt, *(body for _, body in fenced_blocks(prompt))):
        for whole in (code, f"{code.rstrip()}\n    pass\n", f"{code.rstrip()}\n        pass\n"):  # without a body
            tree = _parse(whole)
            if tree is not None and defines(tree, name):
                return code if whole is code else whole
    return ""


def extract_helpers(prompt: str, entry_point: str | None) -> str:
    """The imports and helpers beside the entry point in a prompt's code."""
    tree = _parse(extract_prelude(prompt, entry_point))
    if tree is None or entry_point is None:
        return ""
    name = name_of(entry_point)
    return "\n".join(ast.unparse(node) for node in tree.body if name not in set(_names([node])))


def joined(parts: Sequence[str]) -> str:
    """Several texts of code as one. Imports from `__future__` must be at its top."""
    text = "\n".join(part for part in parts if part)
    future = FUTURE.findall(text)
    return "".join([*future, FUTURE.sub("", text)]) if future and not text.startswith(future[0]) else text


def name_of(entry_point: str) -> str:
    """The name at the top level that an entry point needs: `Solution` of `Solution().f`."""
    return re.split(r"\W", entry_point, maxsplit=1)[0]


def defines(tree: ast.Module, name: str) -> bool:
    """Whether the module may define the name at its top level, also in `try`, `if` or by an import."""
    return name in set(_names(tree.body))


def num_parameters(tree: ast.Module, entry_point: str) -> tuple[int, int] | None:
    """How many arguments a function or a method of `Solution` takes, at least and at most.

    None if there is no such function, or if the code reads stdin and so is a program.
    """
    name = re.split(r"\W", entry_point)[-1]
    found: tuple[int, int] | None = None
    for node in ast.walk(tree):
        if (isinstance(node, ast.Name) and node.id in ("input", "stdin")) or (
            isinstance(node, ast.Attribute) and node.attr == "stdin"
        ):
            return None
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            arguments = node.args
            names = [a.arg for a in (*arguments.posonlyargs, *arguments.args) if a.arg not in ("self", "cls")]
            most = 1000 if arguments.vararg else len(names)
            found = len(names) - len(arguments.defaults), most
    return found


def _names(body: Sequence[ast.stmt], *, imported: bool = True) -> Iterator[str]:
    """The names that statements bind.

    Args:
        imported: also those of imports.
    """
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom) and imported:
            yield from ((a.asname or a.name).partition(".")[0] for a in node.names)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign | ast.For | ast.With):
            yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))
        if isinstance(node, ast.Try | ast.If | ast.With | ast.For | ast.While):
            for part in ("body", "orelse", "finalbody"):
                yield from _names(getattr(node, part, []), imported=imported)
            for handler in getattr(node, "handlers", []):
                yield from _names(handler.body, imported=imported)


def _main_block(blocks: Sequence[Block], entry_point: str | None) -> Block | None:
    """The last block that defines the entry point, a method of that name in a class `Solution`, or that imports it."""
    if entry_point is None:
        return next((b for b in reversed(blocks) if b.tree.body), None)
    name = name_of(entry_point)
    has: tuple[Callable[[ast.Module], bool], ...] = (
        lambda tree: name in set(_names(tree.body, imported=False)),
        lambda tree: _has_method(tree, name),
        lambda tree: defines(tree, name),
    )
    return next((b for is_main in has for b in reversed(blocks) if is_main(b.tree)), None)


def _has_method(tree: ast.Module, name: str) -> bool:
    return any(
        isinstance(node, ast.ClassDef) and node.name == "Solution" and name in set(_names(node.body))
        for node in tree.body
    )


def _joined(main: Block, blocks: Sequence[Block]) -> str:
    """The main block with what it lacks of the other blocks. Of two definitions, the later one counts.

    Functions, classes, constants and, of earlier blocks, imports are taken in any case; what a call computes, and what
    a later block imports, only if it is used. They come before the main block, unless they need it when they
    are defined, as a function that it decorates does.
    """
    mine = set(_names(main.tree.body))
    position = blocks.index(main)
    found: list[tuple[ast.stmt, bool]] = []
    """Definitions in their order, and whether each is taken in any case."""
    for i, block in enumerate(blocks):
        known = mine | vars(builtins).keys() if i > position else None
        nodes = block.tree.body if i != position else []
        found += [(node, _is_fixed(node, known)) for node in nodes if isinstance(node, _DEFINITIONS)]
    if not found:
        return main.text
    taken, used = set(mine), _globals(main.text)
    kept: set[ast.stmt] = set()
    grows = True
    try:
        while grows:
            grows = False
            for node, in_any_case in reversed(found):
                names = set(_names([node]))
                if node not in kept and not names & taken and (in_any_case or names & (used | {"*"})):
                    kept.add(node)
                    taken |= names - {"*"}
                    used |= _globals(ast.unparse(node))
                    grows = True
        before = [node for node, _ in found if node in kept and not _needed_to_define(node) & mine]
        after = [node for node, _ in found if node in kept and _needed_to_define(node) & mine]
        return joined([*map(ast.unparse, before), main.text, *map(ast.unparse, after)])
    except RecursionError:
        return main.text


def _globals(code: str) -> set[str]:
    """The names that the code reads and that no function in it binds."""
    found: set[str] = set()
    tables = [symtable.symtable(code, "<response>", "exec")]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        is_module = table.get_type() == "module"
        found |= {s.get_name() for s in table.get_symbols() if s.is_referenced() and (is_module or s.is_global())}
    return found


def _is_fixed(node: ast.stmt, known: Set[str] | None) -> bool:
    """Whether a definition can be taken in any case: nothing is called, and nothing missing.

    Args:
        known: the names that it may need when it is defined; None: any.
    """
    if isinstance(node, ast.Assign | ast.AnnAssign) and any(isinstance(n, ast.Call) for n in ast.walk(node)):
        return False
    return known is None or (not isinstance(node, ast.Import | ast.ImportFrom) and _needed_to_define(node) <= known)


def _needed_to_define(node: ast.stmt) -> set[str]:
    """The names that a definition looks up when it is run: decorators, defaults, annotations, bases."""
    inside: set[ast.AST] = set()
    for function in ast.walk(node):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            inside.update(n for statement in function.body for n in ast.walk(statement))
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and n not in inside}


def _unfenced(response: str) -> str | None:
    """Code in prose without a fence: from the first line that can only be code, to the last line that still parses."""
    lines = [line for line in response.splitlines(keepends=True) if not re.fullmatch(r"\s*(`{3,}|~{3,})\w*\s*", line)]
    starts = [i for i, line in enumerate(lines) if CODE_LINE.match(line)]
    for start in starts[:MAX_STARTS]:
        for end in range(len(lines), max(start, len(lines) - MAX_TRIES), -1):
            code = "".join(lines[start:end])
            if _parse(code) is not None and DEFINITION.search(code):
                return code
        if DEFINITION.match(lines[start]):
            return None  # code, but it does not parse
    return None


def _dedented(body: str, indent: str) -> str:
    """The body of an indented fence, e.g. in a list, without the indentation of the fence."""
    return (
        textwrap.dedent(body) if indent and all(t.startswith(indent) for t in body.splitlines() if t.strip()) else body
    )


def _parse(code: str) -> ast.Module | None:
    """The module; None if the code does not parse, or is the body of a function."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return None if any(isinstance(node, ast.Return) for node in tree.body) else tree
