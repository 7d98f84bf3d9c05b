"""run.json: the recipe that a run directory belongs to, and what the run decided when it began."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TypedDict

from .errors import RunDirectoryError
from .recipe import Recipe, precision
from .storage.run_dir import RunDir

FILE = "run.json"


class RunJSON(TypedDict, total=False):
    """Content of run.json. Earlier versions wrote fewer keys."""

    recipe: str
    target: dict[str, object] | None
    settings: dict[str, object]
    precision: dict[str, str]
    """Recipe key -> precision of the models."""
    unmarked: list[str]
    """See RunState.unmarked."""
    commits: dict[str, str]
    """`hub@revision`, or `datasets/hub@revision` -> commit."""


class RunState:
    """The state of a run directory.

    Args:
        original: the recipe as the user wrote it.
        precisions: recipe key -> precision, as resolved for this machine.
    """

    def __init__(self, directory: RunDir, original: Recipe, precisions: Mapping[str, str]) -> None:
        self._dir, self._original, self._precisions = directory, original, dict(precisions)

    @cached_property
    def _stored(self) -> RunJSON:
        """Content of run.json when it was first read; empty before the run begins."""
        content: RunJSON = self._dir.read_json(FILE) if self._dir.exists(FILE) else {}
        return content

    def check_recipe(self) -> None:
        """Checks that the run directory belongs to this recipe, or to none.

        Raises:
            RunDirectoryError: it belongs to another recipe.
        """
        if self._stored:
            self._check_same("recipe", self._stored.get("recipe"), self._original.name)
            stored, given = self._stored.get("target"), self._target
            if stored is not None and given is not None:  # a run that ends with the data set has no target yet
                self._check_same("target", stored, given)

    def precision_changes(self) -> Iterator[str]:
        """Yields a message for each precision that changed since the run began."""
        if self._stored:
            stored_precisions, _ = precision.begun_in(self._stored)
            yield from precision.changes(stored_precisions, self._precisions)

    def write(self) -> None:
        """Writes run.json."""
        content = RunJSON(
            recipe=self._original.name,
            target=self._target or self._stored.get("target"),
            settings=self._original.model_dump(mode="json"),
            precision=self._precisions,
            unmarked=self.unmarked,
        )
        if (commits := self.commits) is not None:
            content["commits"] = commits
        self._dir.write_json(content, FILE)

    @property
    def _target(self) -> dict[str, object] | None:
        """The target without its system-message policy. If that changes, the run repeats trainings and answers only."""
        target = self._original.target
        return None if target is None else target.model_dump(mode="json", exclude={"system"})

    def _check_same(self, key: str, stored: object, given: object) -> None:
        if stored != given:
            raise RunDirectoryError(
                f"{self._dir.url}: belongs to another recipe ({key} was {stored}, now {given}); give another run_dir"
            )

    @cached_property
    def unmarked(self) -> list[str]:
        """Keys of engines whose precision no identity contains, because an earlier version began the run in it."""
        if not self._stored:
            return []
        stored_precisions, unmarked = precision.begun_in(self._stored)
        return [key for key in unmarked if stored_precisions[key] == self._precisions.get(key)]

    @property
    def commits(self) -> dict[str, str] | None:
        """`hub@revision` -> commit, of the run's models and data sets (`datasets/hub@revision`).

        None for a run that version 0.1.0 began: it stores none.
        """
        if self._stored and "commits" not in self._stored:
            return None
        return self._stored.get("commits", {})

    def store_commits(self, commits: Mapping[str, str]) -> None:
        """Adds commits to run.json, if the run has begun."""
        if self._dir.exists(FILE):
            self._dir.write_json({**self._dir.read_json(FILE), "commits": dict(commits)}, FILE)
