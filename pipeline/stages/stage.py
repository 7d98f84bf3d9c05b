"""What every stage is: its inputs, the settings that its output depends on, and its work."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from pydantic import BaseModel

from ..identities import digest
from ..run import Run
from ..storage.manifest import Outcome


class Stage(Protocol):
    """A module of this package that is a stage."""

    INPUTS: tuple[str, ...]
    """The earlier stages whose output it reads."""

    def settings(self, context: Run) -> list[object]:
        """The settings that its output depends on. Placement and batch sizes are not among them."""

    def run(self, context: Run) -> Outcome:
        """Does the work: reads what earlier stages wrote, and writes the stage's own folder."""


def config_hash(name: str, settings: Sequence[object]) -> str:
    """Hash of a stage's settings, for its manifest."""
    return digest(name, [_plain(value) for value in settings])


def fingerprints(context: Run, inputs: Iterable[str]) -> dict[str, str]:
    """Input stage -> fingerprint of its output, of the stages that the recipe calls for.

    Raises:
        StageError: one of the stages has not been run.
    """
    return {name: context.fingerprint(name) for name in inputs if name in context.recipe.stages}


def _plain(value: object) -> object:
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
