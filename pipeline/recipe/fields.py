"""Field types that several recipe sections share, and the base class of all sections."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
)

from ..machine.hardware import num_cores
from ..records import Domain as Domain

DOMAINS: tuple[Domain, ...] = ("instruction", "math", "code", "chinese")
VERIFIED_DOMAINS: tuple[Domain, ...] = ("math", "code")
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]


class Section(BaseModel):
    """Base class of recipe sections: immutable, and without unknown keys.

    The string under a field is its documentation: docs/generate.py writes it to docs/recipe.md and to the JSON schema.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def _share(value: Any) -> Any:
    """Converts a share of this machine's cores, e.g. `45%`, to a number of CPUs. Returns other values unchanged."""
    if not isinstance(value, str) or not re.fullmatch(r"\s*\d+(\.\d+)?\s*%\s*", value):
        return value
    if not 0 < (percent := float(value.strip(" %"))) <= 100:
        raise ValueError("a share of this machine's cores must be above 0% and at most 100%")
    return round(percent / 100 * num_cores(), 2)


Cpus = Annotated[
    float,
    BeforeValidator(_share),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": r"^[0-9.]+ ?%$"}]}),
]
"""CPUs: a number, or a share of the cores of the machine that starts the run, e.g. `45%`. On a cluster a share is 1."""
StageName = Literal["prompts", "sample", "score", "select", "sft", "dpo", "evaluate", "report"]
