"""Verifiers for what models write: math answers and code, in killable confined workers.

`VerifierPool` is the door; `extract_answer` and `extract_code` are the pure parts of it. They are imported when first
asked for: a worker forks for each check, and a fork costs what the process holds (threading alone a third of it).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusechat.pipeline.verify.blocks import extract_code
    from fusechat.pipeline.verify.extract import extract_answer
    from fusechat.pipeline.verify.pool import VerifierPool
    from fusechat.pipeline.verify.tasks import CheckTask, Verdict

__all__ = ["CheckTask", "Verdict", "VerifierPool", "extract_answer", "extract_code"]

_HOME = {
    "CheckTask": "tasks",
    "Verdict": "tasks",
    "VerifierPool": "pool",
    "extract_answer": "extract",
    "extract_code": "blocks",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
