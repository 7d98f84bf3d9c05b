"""Verifies math answers and code from models, in sandboxed worker processes that can be killed.

`VerifierPool` is the entry point; `extract_answer` and `extract_code` are its pure functions. Names are imported on
first use: a worker forks for each check, and the cost of a fork grows with the process (threading alone adds a third).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .code.blocks import extract_code
    from .math.extract import extract_answer
    from .pool import VerifierPool
    from .tasks import CheckTask, Verdict

__all__ = ["CheckTask", "Verdict", "VerifierPool", "extract_answer", "extract_code"]

_MODULES = {
    "CheckTask": "tasks",
    "Verdict": "tasks",
    "VerifierPool": "pool",
    "extract_answer": "math.extract",
    "extract_code": "code.blocks",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
