"""Finds code, function names, tests and other texts in a column (`extract` of a prompt table). No I/O.

Code is only parsed here, never run.
"""

from __future__ import annotations

import ast
import builtins
import html
import json
import re
import warnings
from collections.abc import Iterator, Sequence

from ..recipe import Extract
from ..verify.code.blocks import FENCE, PYTHON, extract_code, fenced_blocks

Function = ast.FunctionDef | ast.AsyncFunctionDef

SEVERAL_ANSWERS = re.compile(
    r"\bany order\b|\b(?:return|of) any\b|\bany (?:valid|of them|one of them|such)\b|"
    r"multiple (?:valid )?(?:answers|solutions)",
    re.I,
)
"""LeetCode's words for tasks whose example output is not the only right one."""
IN_PLACE = re.compile(r"\bin[- ]place\b|\bnot be returned\b|\b(?:do not|don't) return\b", re.I)
"""Words of tasks whose function changes its argument and returns nothing."""
NODES = re.compile(r"\b(?:ListNode|TreeNode|Node)\b|\blinked[- ]lists?\b|\b(?:binary|search|n-ary|quad) trees?\b", re.I)
"""Words of tasks on objects that LeetCode writes as lists."""
TOLERANCE = 1e-5
"""LeetCode's tolerance for numbers with a fraction."""
_HTML = re.compile(r"</?(?:p|pre|strong)>")
_TAG = re.compile(r"</?(?:a|b|br|code|div|em|font|i|img|li|ol|p|pre|span|strong|sub|sup|u|ul)(?: [^>\n]*+)?+/?>")
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
_INPUT = re.compile(r"\bInput\b[*\s]*:")
_OUTPUT = re.compile(r"\bOutput\b[*\s]*:[*\s]*(?P<output>[^\n]+)")
_SPACE = "".join(filter(str.isspace, map(chr, range(0x3001))))
"""All white space that there is."""
_ARGUMENT = re.compile(r"(?:^|,)\s*[A-Za-z_]\w*\s*=\s*")
_MARK = re.compile(r"^\s*(?:>>> |[-*+] |\d+[.)] )")
"""Mark before an item of a list, or before a line of an interactive session."""
_JSON_WORDS = {"true": "True", "false": "False", "null": "None"}


def extracted(rule: Extract, values: Sequence[object], functions: Sequence[object]) -> str | None:
    """The new column of a row; None if nothing was found.

    Args:
        values: what the row has in the rule's column. The first text in which something is found counts.
        functions: what the row has in the column of the function's name, if the rule has one.
    """
    function = str(functions[0]) if functions else None
    texts = (_find(value, rule, function) for value in values if isinstance(value, str))
    return next((text for text in texts if text), None)


def _find(text: str, rule: Extract, function_name: str | None) -> str | None:
    if rule.pattern is not None:
        match = re.search(rule.pattern, text)
        return None if match is None else match[1] if match.re.groups else match[0]
    if rule.kind == "examples":
        return None if function_name is None else examples(text, function_name)
    if rule.kind == "assertions":
        fenced = [body for language, body in fenced_blocks(text) if language in PYTHON]
        return "\n".join(filter(None, map(assertions, fenced))) or assertions(FENCE.sub("", text))
    code = extract_code(text)
    if code is None or rule.kind == "code":
        return code
    function = main_function(code)
    if rule.kind == "entry_point":
        return _asserted(code) if function is None else function.name
    signature = None if function is None else _unparsed(_without_body(function))
    return None if signature is None else signature.splitlines()[0]


def main_function(code: str) -> Function | None:
    """The function that code is about: a method of a class `Solution`, or the first that no other function calls.

    Tests and `main` are not counted, unless there is nothing else.
    """
    tree = _parsed(code)
    if tree is None:
        return None
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Solution":
            return _not_called([method for method in node.body if isinstance(method, Function)])
    functions = [node for node in tree.body if isinstance(node, Function)]
    return _not_called([f for f in functions if f.name != "main" and not f.name.startswith("test")] or functions)


def _not_called(functions: list[Function]) -> Function | None:
    def called_names(function: Function) -> set[str]:
        calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
        return {c.id if isinstance(c, ast.Name) else c.attr for c in calls if isinstance(c, ast.Name | ast.Attribute)}

    called = {name for f in functions for name in called_names(f) if name != f.name}
    public = [f for f in functions if not f.name.startswith("__")]
    return next((f for f in public if f.name not in called), public[0] if public else None)


def _asserted(code: str) -> str | None:
    """The first function of the code's own that its assertions call."""
    checks = [node for node in (_parsed(code) or ast.Module([], [])).body if isinstance(node, ast.Assert)]
    calls = [node.func for check in checks for node in ast.walk(check) if isinstance(node, ast.Call)]
    names = (call.id for call in calls if isinstance(call, ast.Name))
    return next((name for name in names if not hasattr(builtins, name)), None)


def _without_body(function: Function) -> Function:
    function.body, function.decorator_list = [ast.Pass()], []
    function.args.args = [a for a in function.args.args if a.arg not in ("self", "cls")]
    return function


def assertions(text: str) -> str | None:
    """The `assert` statements of code or of a text, one per line; None if there are none."""
    tree = _parsed(text)
    if tree is not None:
        found = list(filter(None, (_unparsed(node) for node in tree.body if isinstance(node, ast.Assert))))
    else:
        lines = [_MARK.sub("", line).strip().strip("`") for line in text.splitlines()]
        found = [line for line in lines if line.startswith("assert ") and _parsed(line) is not None]
    return "\n".join(found) or None


def examples(task: str, function: str) -> str | None:
    """LeetCode's examples, in HTML or Markdown, as assertions on a function; None if none can be checked.

    A task that allows several answers has none, since its examples name only one of them. Neither has a task whose
    function returns nothing, or one on linked lists or trees, whose examples do not show the function's values.
    """
    text = html.unescape(_TAG.sub("", task)) if _HTML.search(task) else _ESCAPE.sub(r"\1", _TAG.sub("", task))
    words = re.sub("[*`_]", "", text)
    if any(pattern.search(words) for pattern in (SEVERAL_ANSWERS, IN_PLACE, NODES)):
        return None
    found = []
    for given, result in _inputs_and_outputs(text):
        arguments = [_literal(part) for part in _ARGUMENT.split(given.strip(f"*`{_SPACE}"))[1:]]
        output = _literal(result)
        if arguments and output is not None and None not in arguments:
            call = f"{function}({', '.join(map(str, arguments))})"
            is_fraction = re.fullmatch(r"-?\d+\.\d+", output) is not None
            check = f"abs({call} - {output}) < {TOLERANCE}" if is_fraction else f"{call} == {output}"
            found.append(f"assert {check}")
    return "\n".join(dict.fromkeys(found)) or None


def _inputs_and_outputs(text: str) -> Iterator[tuple[str, str]]:
    """Each text between `Input:` and `Output:`, with the line of the output. Takes time in proportion to the text."""
    end = 0
    while (given := _INPUT.search(text, end)) and (result := _OUTPUT.search(text, given.end() + 1)):
        yield text[given.end() : result.start()], result["output"]
        end = result.end()


def _literal(text: str) -> str | None:
    """A JSON or Python value as Python code; None if it is neither."""
    text = text.strip().strip("*` ").rstrip(".")
    try:
        return repr(json.loads(text))
    except (ValueError, RecursionError):
        pass
    words = re.sub(r"\b(?:true|false|null)\b", lambda match: _JSON_WORDS[match[0]], text)
    try:
        return repr(ast.literal_eval(words))
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return None


def _unparsed(node: ast.AST) -> str | None:
    """A node as code; None if it is nested too deeply, or holds a number with more digits than Python writes."""
    try:
        return ast.unparse(node)
    except (RecursionError, ValueError):
        return None


def _parsed(code: str) -> ast.Module | None:
    with warnings.catch_warnings():  # what Python warns of in the row's code
        warnings.simplefilter("ignore")
        try:
            return ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
