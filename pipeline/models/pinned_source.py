"""A source with everything that the identities of its responses depend on."""

from __future__ import annotations

from dataclasses import dataclass

from ..identities import digest
from ..recipe import Policy


@dataclass(frozen=True, slots=True)
class PinnedSource:
    """A source with everything that the identities of its responses depend on."""

    source: Policy
    revision: str
    template: str
    """sha256 of the chat template's text and the system policy; `model/<policy>` for the model's own template."""
    seed: int


def template_identity(text: str | None, system: str) -> str:
    """The template's part of a response's identity."""
    return f"model/{system}" if text is None else digest(text, system)
