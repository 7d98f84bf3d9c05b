"""Ready-made collections of suites: recipes/suites/*.yaml, which `evaluate.suites` may name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "recipes" / "suites"
"""Folder of the collections that ship with fusechat."""


def names() -> list[str]:
    """The collections' names."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def _collection(name: str) -> tuple[dict[str, Any], ...]:
    return tuple(yaml.safe_load((FOLDER / f"{name}.yaml").read_text("utf-8"))["suites"])


def expanded(value: Any) -> Any:
    """`evaluate.suites` with suites in place of names. Anything that is not a name is left as it is.

    Raises:
        ValueError: there is no such collection or suite.
    """
    if isinstance(value, str):
        return list(_suites(value))
    if not isinstance(value, list | tuple):
        return value
    return [suite for entry in value for suite in (_suites(entry) if isinstance(entry, str) else (entry,))]


def original_index(value: Any, index: int) -> int:
    """The position, in a list with names, of the entry from which a suite of the expanded list comes."""
    if not isinstance(value, list):
        return index
    origins = [i for i, entry in enumerate(value) for _ in (_suites(entry) if isinstance(entry, str) else (entry,))]
    return origins[index] if index < len(origins) else index


def _suites(name: str) -> tuple[dict[str, Any], ...]:
    """The suites of a name: a collection, or a suite with or without its collection."""
    if name in names():
        return _collection(name)
    collection, slash, suite = name.rpartition("/")
    for each in [collection] if slash else names():
        found = tuple(s for s in (_collection(each) if each in names() else ()) if s["name"] == suite)
        if found:
            return found
    suites = ", ".join(f"{c}/{s['name']}" for c in names() for s in _collection(c))
    raise ValueError(f"no collection or suite {name!r}; there are {', '.join(names())}, {suites}")


def completed(suites: Any, judge: str | None, limit: int | None, files: str | None) -> Any:
    """The suites with the settings that `evaluate` has for all of them.

    Args:
        judge: `evaluate.suite_judge`.
        limit: `evaluate.suite_limit`.
        files: `evaluate.suite_files`.

    Raises:
        ValueError: judged suites have no judge.
    """
    if not isinstance(suites, list | tuple):
        return suites
    entries = [_completed(s, judge, limit, files) if isinstance(s, Mapping) else s for s in suites]
    shipped = {s["name"] for c in names() for s in _collection(c)}
    unjudged = [s["name"] for s in entries if isinstance(s, Mapping) and _lacks_judge(s) and s.get("name") in shipped]
    if unjudged:
        raise ValueError(
            f"{', '.join(unjudged)} need a judge: set evaluate.suite_judge to one of evaluate.judges or to a source, "
            "or name only suites that are verified"
        )
    return entries


def _lacks_judge(suite: Mapping[str, Any]) -> bool:
    return suite.get("kind") == "judged" and suite.get("judge") is None


def _completed(suite: Mapping[str, Any], judge: str | None, limit: int | None, files: str | None) -> dict[str, Any]:
    entry = dict(suite)
    if judge is not None and _lacks_judge(suite):
        entry["judge"] = judge
    if limit is not None and entry.get("limit") is None:
        entry["limit"] = limit
    tables = entry.get("files")
    if files is not None and isinstance(tables, list | tuple):
        local = [t for t in tables if not _is_remote(t)]
        if len(local) < len(tables):
            entry["files"] = [f"{files}/{entry.get('name')}", *local]
    if files is not None and _is_remote(entry.get("answers")):
        entry["answers"] = f"{files}/{entry.get('name')}_answers"
    return entry


def _is_remote(table: Any) -> bool:
    """Whether a file or table is on the hub or has a web address."""
    place = (table.get("hub") and "://") or table.get("path") if isinstance(table, Mapping) else table
    return isinstance(place, str) and "://" in place


def with_names(schema: dict[str, Any]) -> None:
    """Adds the names to the JSON schema of `evaluate.suites`."""
    schema["type"] = ["array", "string"]
    schema["items"]["oneOf"].append({"type": "string"})
