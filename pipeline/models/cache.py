"""The user's cache of models."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """FUSECHAT_CACHE if set, otherwise `fusechat` in the user's cache folder."""
    if given := os.environ.get("FUSECHAT_CACHE"):
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fusechat"
