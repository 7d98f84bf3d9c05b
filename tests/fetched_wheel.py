"""Wheels that tests need and the environment does not have: fetched by hash, not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest


def fetch_wheel(requirement: str, sha256: str, folder: Path) -> Path:
    """The wheel of a pinned requirement, downloaded into an empty folder. Without it, the test ends (`give_up`)."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{requirement} --hash=sha256:{sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    done = subprocess.run(
        [*command, "-r", str(wanted), "-d", str(folder)], capture_output=True, text=True, check=False, timeout=6000
    )
    if done.returncode:
        give_up(f"{requirement} can't be fetched: {done.stderr.strip().splitlines()[-1]}")
    return next(folder.glob("*.whl"))


def give_up(why: str) -> NoReturn:
    """Skips the test; on CI, which has all that a test needs, the test fails."""
    pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
