"""Stage `report`: the page, the benchmark tables and the model cards, from the files of the run."""

from __future__ import annotations

from ..errors import InputError
from ..identities import file_hash
from ..report import model_card, page
from ..run import Run
from ..storage.manifest import STAGES, Outcome

INPUTS: tuple[str, ...] = STAGES[:-1]
"""Of these, those that the recipe calls for (graph.py)."""


def settings(context: Run) -> list[object]:
    """The recipe's name."""
    return [context.recipe.name]


def run(context: Run) -> Outcome:
    """Writes the report.

    Raises:
        InputError: it can't be read back.
    """
    path = page.write(context.dir, context.recipe)
    model_card.write_all(context.dir, context.recipe)
    try:
        return Outcome(file_hash(path))
    except OSError as error:
        raise InputError(str(path), 0, f"can't be read: {error.strerror}") from error
