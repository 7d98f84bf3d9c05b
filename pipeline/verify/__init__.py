"""Verifiers for what models write: math answers and code, in killable confined workers.

`VerifierPool` is the door; `extract_answer` and `extract_code` are the pure parts of it.
"""

from __future__ import annotations

from fusechat.pipeline.verify.blocks import extract_code
from fusechat.pipeline.verify.extract import extract_answer
from fusechat.pipeline.verify.pool import CheckTask, Verdict, VerifierPool

__all__ = ["CheckTask", "Verdict", "VerifierPool", "extract_answer", "extract_code"]
