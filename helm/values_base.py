"""What the sections of the chart's values share."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

Object = dict[str, Any]
"""Part of a Kubernetes object, used unchanged."""
Quantity = str
"""A Kubernetes quantity, e.g. `500m` or `16Gi`."""


class Values(BaseModel):
    """Base class of sections: no unknown keys; each field is documented below it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
