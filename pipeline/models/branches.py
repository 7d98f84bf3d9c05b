"""Hub branches and tags, pinned to commits: a branch that moves must not change a run's weights without notice."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel

from ..errors import FusechatError, StageError, one_line
from ..recipe import DatasetTable, Model, PromptTable, Recipe
from ..recipe.paths import models, suite_tables, tables

Kind = Literal["model", "dataset"]
Part = Literal["models", "prompts", "suites"]
"""A part of the recipe that names repositories of the hub."""
MODELS: tuple[Part, ...] = ("models",)
PROMPTS: tuple[Part, ...] = ("prompts",)
SUITES: tuple[Part, ...] = ("suites",)
ALL = (*MODELS, *PROMPTS, *SUITES)
COMMIT = re.compile(r"[0-9a-f]{40}")
DATASETS = "datasets/"
"""Prefix of a data set's id, as in its address on the hub. A model's id has none."""
TIMEOUT_S = 10.0
"""Seconds that the hub may take to answer."""
CACHED_FILES: dict[Kind, str] = {"model": "config.json", "dataset": "README.md"}
"""Kind of repository -> a file that the hub's cache has of everyone that was loaded."""
MAX_LOOKUPS = 8
"""Look-ups at the same time."""
T = TypeVar("T")
Pinned = Model | PromptTable | DatasetTable
"""A part of the recipe that names a repository of the hub by a revision."""


def pinned(
    recipe: Recipe,
    commits: Mapping[str, str],
    say: Callable[[str], None],
    *,
    base: Path,
    resolve: Collection[Part] = ALL,
) -> tuple[Recipe, dict[str, str]]:
    """The recipe with a commit in place of every hub branch and tag of models and data sets, and the commit of each.

    Args:
        commits: `hub@revision`, or `datasets/hub@revision` -> commit, of a run that has begun; these are kept.
        say: gets one line for each branch that has moved since.
        base: folder that relative paths are relative to. A data set that is a folder there has no commit.
        resolve: the parts of the recipe whose branches the hub is asked for; `commits` are applied to all.

    Raises:
        StageError: the hub can't be reached, and its cache does not contain the branch.
    """
    known = dict(commits)
    if resolve:
        named: list[tuple[str, str, Pinned]] = []
        if "models" in resolve:
            named += [("models", who, model) for who, model in models(recipe)]
        sets: list[tuple[str, PromptTable | DatasetTable]] = []
        if "prompts" in resolve:
            sets += [("prompts", table) for table in tables(recipe)]
        if "suites" in resolve:
            sets += [("evaluate", table) for table in suite_tables(recipe)]
        named += [(stage, t.name, t) for stage, t in sets if t.hub is not None and not (base / t.hub).is_dir()]
        new = {
            name: (stage, who) for stage, who, node in named if (name := branch(node)) is not None and name not in known
        }
        with ThreadPoolExecutor(max_workers=MAX_LOOKUPS) as lookups:
            kinds = {"model" if part == "models" else "dataset" for part in resolve}
            asked = [name for name in commits if kind_of(name) in kinds]
            moved = lookups.map(_moved_to, asked)
            looked_up = {name: lookups.submit(commit_of, name) for name in new}
            for name, now in zip(asked, moved, strict=True):
                if now is not None and now != commits[name]:
                    say(f"{name}: has moved to {now}; this run stays with {commits[name]}")
            for name, commit in looked_up.items():
                try:
                    known[name] = commit.result()
                except FusechatError as error:
                    raise StageError(*new[name], str(error)) from error

    def pin(node: Pinned) -> Pinned:
        commit = known.get(branch(node) or "")
        return node if commit is None else node.model_copy(update={"revision": commit})

    return _replace(recipe, pin), known


def kind_of(name: str) -> Kind:
    """What a `hub@revision` is."""
    return "dataset" if name.startswith(DATASETS) else "model"


def branch(node: Pinned) -> str | None:
    """`hub@revision` of a model or data set that is given by a branch or tag; None of any other."""
    if node.hub is None or node.revision is None or COMMIT.fullmatch(node.revision):
        return None
    return f"{DATASETS if isinstance(node, PromptTable | DatasetTable) else ''}{node.hub}@{node.revision}"


def commit_of(name: str) -> str:
    """The commit that a branch or tag names, given as `hub@revision` or `datasets/hub@revision`.

    Without a network, the commit comes from the hub's local cache.

    Raises:
        FusechatError: neither knows it.
    """
    from httpx2 import HTTPError  # a connection that breaks off is not wrapped by the hub's client
    from huggingface_hub import HfApi, try_to_load_from_cache

    hub, _, revision = name.rpartition("@")
    kind = kind_of(name)
    hub = hub.removeprefix(DATASETS)
    try:
        commit = HfApi().repo_info(hub, repo_type=kind, revision=revision, timeout=TIMEOUT_S).sha
        if commit is None:
            raise ValueError("the hub names no commit")
        return str(commit)
    except (HTTPError, OSError, ValueError) as error:  # the hub's own errors are OSErrors or ValueErrors
        try:
            cached = try_to_load_from_cache(hub, CACHED_FILES[kind], revision=revision, repo_type=kind)
        except ValueError:  # not a valid repository id
            cached = None
        if isinstance(cached, str) and (match := re.search(r"/snapshots/([0-9a-f]{40})/", cached)):
            return match.group(1)
        raise FusechatError(
            f"{name} can't be fetched from the hub: {one_line(error)}; a commit as revision needs no look-up"
        ) from error


def _moved_to(name: str) -> str | None:
    """The commit that `hub@revision` names now; None if nobody can say."""
    try:
        return commit_of(name)
    except FusechatError:
        return None


def _replace(node: T, pin: Callable[[Pinned], Pinned]) -> T:
    """A copy of a part of the recipe in which every model and table is replaced by what `pin` makes of it."""
    if isinstance(node, Pinned):
        return pin(node)  # type: ignore[return-value]
    if isinstance(node, tuple):
        return tuple(_replace(item, pin) for item in node)  # type: ignore[return-value]
    if isinstance(node, BaseModel):
        new = {name: _replace(getattr(node, name), pin) for name in type(node).model_fields}
        changed = {name: value for name, value in new.items() if value is not getattr(node, name)}
        return node.model_copy(update=changed) if changed else node
    return node
