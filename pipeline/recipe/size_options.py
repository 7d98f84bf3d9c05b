"""Recipe sections for recipes that come in several sizes."""

from __future__ import annotations

from typing import Any

from pydantic import (
    Field,
)

from .fields import Section, StageName


class Work(Section):
    """The work of one stage."""

    tflop: float = Field(default=0, ge=0)
    """10^12 operations: as many as matrix products would do in the time that the stage takes beyond `seconds`."""
    seconds: float = Field(default=0, ge=0)
    """Time that faster arithmetic does not shorten: downloads, and the start of engines and workers."""


class Size(Section):
    """One size of a recipe."""

    work: dict[StageName, Work] = Field(min_length=1)
    """Stage -> its work."""
    memory_gb: float = Field(default=0, ge=0)
    """Memory that the machine needs, in GiB."""
    changes: dict[str, Any] = Field(default={})
    """Settings that replace the recipe's, in the form of `--set`, e.g. `sft.num_epochs: 2`."""
