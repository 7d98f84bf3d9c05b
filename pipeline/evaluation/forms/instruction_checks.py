"""Checks whether answers follow instructions, with the classes of the package ifbench (IFBench's and IFEval's)."""

from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Mapping
from typing import Any

PACKAGE = "ifbench"
RULES = ("ifbench", "instructions_followed")
"""Rules that need the package."""
HOW_TO_GET = (
    "it needs the package ifbench: pip install "
    "git+https://github.com/allenai/IFBench@db69a6f05689830b0068b8f1529ebcfd2f3b164c"
)


def is_installed() -> bool:
    """Whether the package can be imported."""
    return importlib.util.find_spec(PACKAGE) is not None


def ifbench(gold: str, answer: str) -> float:
    """1 if all instructions are followed, loosely: also without the first or last line, or without asterisks."""
    lines = answer.split("\n")
    parts = [lines, lines[1:], lines[:-1], lines[1:-1]]
    variants = {text.replace(old, "") for p in parts for text in ["\n".join(p).strip()] for old in ("\0", "*")}
    wanted = json.loads(gold)
    return float(all(any(_follows(wanted, i, text) for text in variants) for i in range(len(wanted["names"]))))


def instructions_followed(gold: str, answer: str) -> float:
    """The mean of the share of instructions that are followed, and of whether all are, as LiveBench computes it."""
    wanted = json.loads(gold)
    followed = [_follows(wanted, i, answer) for i in range(len(wanted["names"]))]
    return (sum(followed) / len(followed) + all(followed)) / 2


def _follows(wanted: Mapping[str, Any], index: int, text: str) -> bool:
    """Whether the text follows one instruction.

    Raises:
        LookupError: the package does not know the instruction, or its data are missing.
    """
    name, kwargs = wanted["names"][index], wanted["kwargs"][index]
    registry: dict[str, Any] = importlib.import_module(f"{PACKAGE}.instructions_registry").INSTRUCTION_DICT
    if name not in registry:
        raise LookupError(f"the package {PACKAGE} knows no instruction {name!r:.80}")
    check = registry[name](name)
    check.build_description(**kwargs)
    if "prompt" in (check.get_instruction_args() or {}):
        check.build_description(prompt=wanted["prompt"])
    return bool(text.strip()) and bool(check.check_following(text))
