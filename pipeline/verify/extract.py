"""From a response to the answer in it: pure functions on text."""

from __future__ import annotations

import ast
import re
import unicodedata

MARKERS = re.compile(
    r"(?:final answer(?: is)?|the answer is|answer is|answer:|####|答案(?:是|为|：|:))\s*[:：]?\s*", re.IGNORECASE
)
TAGGED = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
FENCE = re.compile(r"```[ \t]*([\w+-]*)[ \t]*\r?\n(.*?)(?:```|\Z)", re.DOTALL)
WRAPPER = re.compile(r"^\\(?:text|mathrm|mathbf)\{(.*)\}$", re.DOTALL)
PYTHON = ("", "python", "py", "python3")
MAX_CHARS = 20_000


def extract_answer(response: str) -> str | None:
    """The final answer of a math response: the last box, else what follows the last marker, else none.

    The text is NFKC-normalised first, so that full-width digits are digits. Only the last 20,000 characters count.
    """
    text = unicodedata.normalize("NFKC", response[-MAX_CHARS:])
    if boxes := _boxes(text):
        return _clean(boxes[-1])
    if tagged := TAGGED.findall(text):
        return _clean(tagged[-1])
    marked = list(MARKERS.finditer(text))
    if not marked:
        return None
    rest = text[marked[-1].end() :].strip()
    return _clean(rest.splitlines()[0]) if rest else None


def extract_code(response: str, entry_point: str | None = None) -> str | None:
    """The code of a response: the last fenced block that defines the entry point, else the last that parses.

    A response without a fence counts whole if it parses.
    """
    fenced: list[tuple[str, str]] = FENCE.findall(response)
    blocks = [body for language, body in fenced if language.lower() in PYTHON] if fenced else [response]
    parsed = [(block, tree) for block in blocks if (tree := _parse(block)) is not None]
    for block, tree in reversed(parsed):
        if entry_point is None or defines(tree, entry_point):
            return block
    # What is fenced was meant as the answer, though it does not parse or defines something else: the check says so.
    return blocks[-1] if fenced and blocks else None


def defines(tree: ast.Module, name: str) -> bool:
    """Whether the module binds the name at its top level."""
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


def _boxes(text: str) -> list[str]:
    """Contents of \\boxed{...} and \\fbox{...}, braces balanced."""
    found = []
    for start in re.finditer(r"\\f?box(?:ed)?\s*\{", text):
        depth, i = 1, start.end()
        while i < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[i], 0)
            i += 1
        if not depth:
            found.append(text[start.end() : i - 1])
    return found


def _clean(answer: str) -> str:
    """The bare answer: no sentence end, no currency, no bold, no unit words after a number."""
    text = answer.strip().strip("*").strip()
    text = re.sub(r"^[\s$:]+|[\s$]+$", "", text).rstrip(".。,，;；!！").strip("*$ ")
    if wrapped := WRAPPER.match(text):
        text = wrapped.group(1).strip()
    text = text.replace("\\,", "").replace("\\!", "").replace("\\$", "").replace("\\%", "%")
    text = re.sub(r"^\(([A-Za-z])\)$", r"\1", text)
    number = re.match(r"^[-+]?\$?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?=\s*(?:[a-zA-Z一-鿿]+\.?\s*)*$)", text)
    return number.group(0).replace("$", "") if number else text
