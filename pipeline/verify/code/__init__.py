"""Code verification: extracts the code, starts the candidate's process, and runs the tests against it."""

from __future__ import annotations

from .modules import preload

__all__ = ["preload"]
