"""Checks the `template_seen` of held-out prompts against the templates of the training set."""

from __future__ import annotations

from ..errors import InputError
from ..records import PromptRow


class TemplateCheck:
    """Call `add_heldout` and `add_train` for each prompt, then `check`."""

    def __init__(self) -> None:
        self._heldout: list[tuple[str, int, str, bool | None]] = []
        self._train: set[str] = set()

    def add_heldout(self, row: PromptRow) -> None:
        """Adds a held-out prompt."""
        if row["template"] is not None:
            self._heldout.append((row["file"], row["line"], row["template"], row["template_seen"]))

    def add_train(self, row: PromptRow) -> None:
        """Adds a training prompt."""
        if row["template"] is not None:
            self._train.add(row["template"])

    def check(self) -> None:
        """Checks the held-out prompts.

        Raises:
            InputError: `template_seen` contradicts the training set.
        """
        for file, line, template, claimed in self._heldout:
            seen = template in self._train
            if seen and claimed is not True:
                problem = f"the training set uses template {template!r} too; if intended, set template_seen: true"
                raise InputError(file, line, problem)
            if claimed is True and not seen:
                problem = f"template_seen is true, but the training set does not use template {template!r}"
                raise InputError(file, line, problem)
