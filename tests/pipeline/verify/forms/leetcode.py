"""LeetCode: a class `Solution` from the prompt's starter code, tested by `check(candidate)` with named arguments."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from .bank import Case, Entry, Problem, entries, mutant_of
from .rendering import Row, indented, is_plain, parameters, rows, show, split_arguments, split_solution

IMPORTS = """\
import random
import functools
import collections
import string
import math
import datetime

from typing import *
from functools import *
from collections import *
from itertools import *
from heapq import *
from bisect import *
from string import *
from operator import *
from math import *

inf = float('inf')

class ListNode:
    def __init__(self, val=0, next=None):
        self.val = val
        self.next = next

def list_node(values: list):
    if not values:
        return None
    head = ListNode(values[0])
    p = head
    for val in values[1:]:
        node = ListNode(val)
        p.next = node
        p = node
    return head

def is_same_list(p1, p2):
    if p1 is None and p2 is None:
        return True
    if not p1 or not p2:
        return False
    return p1.val == p2.val and is_same_list(p1.next, p2.next)

class TreeNode:
    def __init__(self, val=0, left=None, right=None):
        self.val = val
        self.left = left
        self.right = right

def tree_node(values: list):
    if not values:
        return None
    root = TreeNode(values[0])
    i = 1
    queue = deque()
    queue.append(root)
    while queue:
        node = queue.popleft()
        if i < len(values) and values[i] is not None:
            node.left = TreeNode(values[i])
            queue.append(node.left)
        i += 1
        if i < len(values) and values[i] is not None:
            node.right = TreeNode(values[i])
            queue.append(node.right)
        i += 1
    return root

def is_same_tree(p, q):
    if not p and not q:
        return True
    elif not p or not q:
        return False
    elif p.val != q.val:
        return False
    else:
        return is_same_tree(p.left, q.left) and is_same_tree(p.right, q.right)

"""
NODE_COMMENT = """\
# Definition for singly-linked list.
# class ListNode:
#     def __init__(self, val=0, next=None):
#         self.val = val
#         self.next = next
# Definition for a binary tree node.
# class TreeNode:
#     def __init__(self, val=0, left=None, right=None):
#         self.val = val
#         self.left = left
#         self.right = right"""


def leetcode_rows() -> Iterator[Row]:
    """The rows: of the bank, and of problems with nodes."""
    yield from rows("leetcode", _render, _fits)
    for number, entry in enumerate(entries("leetcode")):
        yield from _node_rows(number, entry)


def _fits(case: Case) -> bool:
    return not case.outcome.error and is_plain(case.arguments) and (case.in_place or is_plain(case.outcome.result))


def _render(number: int, problem: Problem, cases: list[Case], code: str) -> tuple[str, str, str, str] | None:
    if problem.statements or "yield" in code or "*lists" in code:
        return None
    method, names = _camel(problem.name), [name for name, _ in parameters(problem)]
    lines = [_assertion(names, case, number) for case in cases]
    tests = f"def check(candidate):\n{indented(chr(10).join(lines))}\n"
    starter = as_class(problem, problem.solution, method, stub=True)
    response = _response(number, as_class(problem, code, method))
    return response, tests, f"Solution().{method}", _prompt(number, problem.description, starter)


def _assertion(names: list[str], case: Case, number: int) -> str:
    sources = split_arguments(case.source)
    named = [f"{name} = {source}" for name, source in zip(names, sources, strict=False)]
    given = ",".join(named)
    if case.in_place:
        call = ",".join([f"{names[0]} = data", *named[1:]])
        return f"data = {sources[0]}\ncandidate({call})\nassert data == {show(case.outcome.arguments[0])}"
    wanted = case.outcome.result
    if isinstance(wanted, float):
        return f"assert abs(candidate({given}) - {wanted!r}) < 1e-5"
    if isinstance(wanted, bool) and number % 2:
        return f"assert candidate({given}) == {wanted}, 'wrong for {names[0]}'"
    return f"assert candidate({given}) == {show(wanted)}"


def as_class(problem: Problem, code: str, method: str, *, stub: bool = False) -> str:
    """The solution as a method of `Solution`; a stub has no body."""
    parts = split_solution(problem, code)
    head = parts.head.replace(f"def {problem.name}(", f"def {method}(self, ").replace("(self, )", "(self)")
    head = re.sub(r"\b(list|dict|set|tuple)\[", lambda m: m[1].title() + "[", head)
    if stub:
        return f"class Solution:\n    {head}\n        "
    body = re.sub(rf"(?<![\w.]){problem.name}\(", f"self.{method}(", parts.body)
    return f"{parts.before}class Solution:\n    {head}\n{indented(body)}\n"


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


def _prompt(number: int, description: str, starter: str) -> str:
    task = (
        "You are an expert Python programmer. You get a question and write a correct Python program for it.\n\n"
        f"### Question:\n{description}\n\n### Format: Use the "
        f"starter code.\n```python\n{starter}\n```\n\n### Answer: (use the provided format with backticks)\n"
    )
    return f"{IMPORTS}\n{starter}" if number % 3 == 1 else task


def _response(number: int, code: str) -> str:
    imports = "" if number % 2 else "from typing import *\n\n"
    block = f"```python\n{imports}{code.rstrip()}\n```"
    return block if number % 4 < 2 else f"The idea is simple.\n\n{block}\n\n**Complexity**\n- Time: $O(n)$\n"


# --- linked lists and trees


def _node_rows(number: int, entry: Entry) -> Iterator[Row]:
    """The rows of a problem of nodes.md: its first line says what is a list, a tree or a value."""
    name, description, code = entry.name, entry.description, entry.blocks["python"]
    kinds, *cases = entry.marked["-"]
    given, wanted = kinds.split(" -> ")
    takes = [p.split()[-2:] if " " in p.strip() else ["value", p.strip()] for p in given.split(", ")]
    lines = []
    for case in cases:
        arguments, expected = case.split(" -> ")
        values = [ast.unparse(v) for v in _items(arguments)]
        named = ",".join(f"{n} = {_node(kind, v)}" for (kind, n), v in zip(takes, values, strict=True))
        if wanted == "in place":
            lines.append(f"data = {arguments}\ncandidate({takes[0][1]} = data)\nassert data == {expected}")
        elif wanted == "value":
            lines.append(f"assert candidate({named}) == {expected}")
        else:
            lines.append(f"assert is_same_{wanted}(candidate({named}), {_node(wanted, expected)})")
    tests = f"def check(candidate):\n{indented(chr(10).join(lines))}\n"
    starter = "\n".join(code.splitlines()[:2]) + "\n        "
    prompt = f"{IMPORTS}\n{starter}"
    if number % 2:  # the helpers may also stand before the tests
        prompt, tests = _prompt(0, description, f"{NODE_COMMENT}\n{starter}"), f"{IMPORTS}\n{tests}"
    mutants = [mutant_of(name, code, line) for line in entry.marked["~"]]
    for place, solution in enumerate([code, *mutants]):
        kind = f"mutant {place}" if place else "right"
        yield Row(
            f"leetcode {name} {kind}", not place, _response(number, solution), tests, f"Solution().{name}", prompt
        )


def _items(arguments: str) -> list[ast.expr]:
    parsed = ast.parse(f"f({arguments})").body[0]
    assert isinstance(parsed, ast.Expr) and isinstance(parsed.value, ast.Call)
    return parsed.value.args


def _node(kind: str, source: str) -> str:
    return source if kind == "value" else f"{kind}_node({source})"
