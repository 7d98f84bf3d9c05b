"""What LeetCode provides to each solution: imports, `ListNode` and `TreeNode`."""

from __future__ import annotations

import ast
import builtins
import functools
import sys
from typing import Any

IMPORTS = """\
import bisect, collections, copy, datetime, functools, heapq, itertools, json, math, operator, random, re, statistics
import string, sys
from bisect import *
from collections import *
from copy import *
from datetime import *
from functools import *
from heapq import *
from itertools import *
from math import *
from operator import *
from random import *
from typing import *
from functools import cache
"""
NODES = {
    "ListNode": """\
class ListNode:
    def __init__(self, val=0, next=None):
        self.val = val
        self.next = next
""",
    "TreeNode": """\
class TreeNode:
    def __init__(self, val=0, left=None, right=None):
        self.val = val
        self.left = left
        self.right = right
""",
}


@functools.cache
def known() -> dict[str, Any]:
    """The names that these imports define, and those of loaded packages that tests use without an import."""
    names: dict[str, Any] = {}
    exec(IMPORTS, names)  # noqa: S102 - our own text
    packages = {"np": "numpy", "pd": "pandas", **{name: name for name in ("numpy", "pandas", "pytest", "unittest")}}
    return names | {name: sys.modules[package] for name, package in packages.items() if package in sys.modules}


def needed(code: str, prelude: str) -> str:
    """The part of it that a `class Solution` needs: it uses a name that neither it nor the prompt defines."""
    if "Solution" not in code:
        return ""
    try:
        tree = ast.parse(f"{prelude}\n{code}" if prelude else code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    if not any(isinstance(node, ast.ClassDef) and node.name == "Solution" for node in tree.body):
        return ""
    used: set[str] = set()
    bound = set(dir(builtins))
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bound.add(node.name)
        elif isinstance(node, ast.alias):
            bound.add((node.asname or node.name).partition(".")[0])
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
    missing = used - bound
    nodes = [text for name, text in NODES.items() if name in missing]
    imports = [IMPORTS] if missing - NODES.keys() else []
    return "\n".join([*imports, *nodes])
