"""The sizes that a recipe comes in."""

from __future__ import annotations

from typing import Any

from pydantic import (
    Field,
)

from .fields import Section, StageName


class Work(Section):
    """What a stage takes."""

    tflop: float = Field(default=0, ge=0)
    """10^12 operations, as many as matrix products would do in the time that it takes beyond `seconds`."""
    seconds: float = Field(default=0, ge=0)
    """What no faster arithmetic shortens: fetching, the start of engines and workers."""


class Size(Section):
    """One size of a recipe that comes in several."""

    work: dict[StageName, Work] = Field(min_length=1)
    memory_gb: float = Field(default=0, ge=0)
    """GiB that the machine needs."""
    changes: dict[str, Any] = Field(default={})
    """Settings in place of the recipe's, as `--set` has them: `sft.num_epochs: 2`."""
