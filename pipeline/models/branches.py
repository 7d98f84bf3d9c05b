"""Hub branches and tags, pinned to commits: a branch that moves must not change a run's weights without notice."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from pydantic import BaseModel

from ..errors import FusechatError, StageError, one_line
from ..recipe import Model, Recipe
from ..recipe.paths import models

COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT_S = 10.0
"""Seconds that the hub may take to answer."""
MAX_LOOKUPS = 8
"""Look-ups at the same time."""
T = TypeVar("T")


def pinned(
    recipe: Recipe, commits: Mapping[str, str], say: Callable[[str], None], *, resolve: bool = True
) -> tuple[Recipe, dict[str, str]]:
    """The recipe with a commit in place of every hub branch and tag, and the commit of each.

    Args:
        commits: `hub@revision` -> commit, of a run that has begun; these are kept.
        say: gets one line for each branch that has moved since.
        resolve: asks the hub; otherwise only `commits` are applied.

    Raises:
        StageError: the hub can't be reached, and its cache does not contain the branch.
    """
    known = dict(commits)
    if resolve:
        new = {name: who for who, model in models(recipe) if (name := branch(model)) is not None and name not in known}
        with ThreadPoolExecutor(max_workers=MAX_LOOKUPS) as lookups:
            moved = lookups.map(_moved_to, commits)
            looked_up = {name: lookups.submit(commit_of, name) for name in new}
            for name, now in zip(commits, moved, strict=True):
                if now is not None and now != commits[name]:
                    say(f"{name}: has moved to {now}; this run stays with {commits[name]}")
            for name, commit in looked_up.items():
                try:
                    known[name] = commit.result()
                except FusechatError as error:
                    raise StageError("models", new[name], str(error)) from error

    def pin(model: Model) -> Model:
        commit = known.get(branch(model) or "")
        return model if commit is None else model.model_copy(update={"revision": commit})

    return _replace(recipe, pin), known


def branch(model: Model) -> str | None:
    """`hub@revision` of a model that is given by a branch or tag; None of any other model."""
    if model.hub is None or model.revision is None or COMMIT.fullmatch(model.revision):
        return None
    return f"{model.hub}@{model.revision}"


def commit_of(name: str) -> str:
    """The commit that a branch or tag names, given as `hub@revision`.

    Without a network, the commit comes from the hub's local cache.

    Raises:
        FusechatError: neither knows it.
    """
    from httpx2 import HTTPError  # a connection that breaks off is not wrapped by the hub's client
    from huggingface_hub import HfApi, try_to_load_from_cache

    hub, _, revision = name.rpartition("@")
    try:
        commit = HfApi().model_info(hub, revision=revision, timeout=TIMEOUT_S).sha
        if commit is None:
            raise ValueError("the hub names no commit")
        return str(commit)
    except (HTTPError, OSError, ValueError) as error:  # the hub's own errors are OSErrors or ValueErrors
        try:
            cached = try_to_load_from_cache(hub, "config.json", revision=revision)
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


def _replace(node: T, pin: Callable[[Model], Model]) -> T:
    """A copy of a part of the recipe in which every model is replaced by `pin(model)`."""
    if isinstance(node, Model):
        return pin(node)  # type: ignore[return-value]
    if isinstance(node, tuple):
        return tuple(_replace(item, pin) for item in node)  # type: ignore[return-value]
    if isinstance(node, BaseModel):
        new = {name: _replace(getattr(node, name), pin) for name in type(node).model_fields}
        changed = {name: value for name, value in new.items() if value is not getattr(node, name)}
        return node.model_copy(update=changed) if changed else node
    return node
