"""Every path that a recipe names, in one place: what a job takes along, and what must exist where it runs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from .dataset_options import DatasetTable
from .evaluate_options import EvaluatedModel, HarnessSuite, JudgedSuite
from .model_options import Model
from .prompt_options import PromptFile
from .reward_options import OwnReward
from .schema import Recipe
from .table_options import PromptTable


class NamedPath(NamedTuple):
    """A path with the recipe key that names it."""

    key: str
    path: str

    @property
    def is_relative(self) -> bool:
        """Whether it starts at the recipe's folder."""
        return not Path(self.path).is_absolute() and "://" not in self.path


def input_paths(recipe: Recipe) -> Iterator[NamedPath]:
    """The files and folders that a run reads beside its models.

    These are prompt files, evaluation sets, chat templates, the files of suites, and folders of harness tasks. The
    key file of the REST service is not among them: a run does not read it.
    """
    prompts, dataset, evaluate = recipe.prompts, recipe.dataset, recipe.evaluate
    yield from _prompt_files("prompts.train", prompts.train)
    yield from _prompt_files("prompts.heldout", prompts.heldout)
    if prompts.contamination is not None:
        yield from _prompt_files("prompts.contamination.sets", prompts.contamination.sets)
    if dataset is not None:
        for kind, group in groupby(dataset.tables, key=itemgetter(0)):
            for i, (_, table) in enumerate(group):
                yield from _optional(f"dataset.{kind}.{i}", table.path)
    for source in recipe.served:
        yield from _optional(f"sources.{source.name}.chat_template", source.chat_template)
    if recipe.target is not None:
        yield from _optional("target.chat_template", recipe.target.chat_template)
    for model in evaluate.models:
        if isinstance(model, EvaluatedModel):
            yield from _optional(f"evaluate.models.{model.name}.chat_template", model.chat_template)
    for suite in evaluate.suites:
        if isinstance(suite, HarnessSuite):
            yield from _optional(f"evaluate.suites.{suite.name}.include_path", suite.include_path)
        else:
            key, local = f"evaluate.suites.{suite.name}", f"{evaluate.suite_files}/{suite.name}"
            yield from _prompt_files(f"{key}.files", tuple(file for file in suite.files if file != local))
            if isinstance(suite, JudgedSuite) and suite.answers not in (None, f"{local}_answers"):
                yield from _prompt_files(f"{key}.answers", (suite.answers,))
    yield from _optional("evaluate.suite_files", evaluate.suite_files)


def tables(recipe: Recipe) -> Iterator[PromptTable | DatasetTable]:
    """The recipe's tables of prompts, and those of an SFT set and pairs."""
    yield from (entry for entry in recipe.prompts.entries if isinstance(entry, PromptTable))
    if recipe.dataset is not None:
        yield from (table for _, table in recipe.dataset.tables)


def suite_tables(recipe: Recipe) -> Iterator[PromptTable]:
    """The tables of the recipe's suites, and those of answers to compare with."""
    for suite in recipe.evaluate.suites:
        if not isinstance(suite, HarnessSuite):
            entries = (*suite.files, suite.answers) if isinstance(suite, JudgedSuite) else suite.files
            yield from (entry for entry in entries if isinstance(entry, PromptTable))


def models(recipe: Recipe) -> Iterator[tuple[str, Model]]:
    """The recipe's models, each with the name by which errors call it."""
    for source in recipe.served:
        yield source.name, source.model
    for reward in recipe.rewards:
        if isinstance(reward, OwnReward):
            yield reward.name, reward.model
    if recipe.target is not None:
        yield "target", recipe.target.model
    for entry in recipe.evaluate.models:
        if isinstance(entry, EvaluatedModel):
            yield entry.name, entry.model


def model_paths(recipe: Recipe) -> Iterator[NamedPath]:
    """The model folders, where a model is given by its path."""
    keys = [f"sources.{s.name}" for s in recipe.served]
    keys += [f"rewards.{r.name}" for r in recipe.rewards if isinstance(r, OwnReward)]
    keys += ["target"] if recipe.target is not None else []
    keys += [f"evaluate.models.{m.name}" for m in recipe.evaluate.models if isinstance(m, EvaluatedModel)]
    for key, (_, model) in zip(keys, models(recipe), strict=True):
        yield from _optional(f"{key}.model.path", model.path)


def _prompt_files(key: str, entries: tuple[PromptFile, ...]) -> Iterator[NamedPath]:
    for i, entry in enumerate(entries):
        yield from _optional(f"{key}.{i}", entry if isinstance(entry, str) else entry.path)
        if isinstance(entry, PromptTable) and entry.function is not None:
            yield NamedPath(f"{key}.{i}.function", entry.function.rpartition(":")[0])


def _optional(key: str, path: str | None) -> Iterator[NamedPath]:
    if path is not None:
        yield NamedPath(key, path)
