"""Reading a recipe file: YAML, `--set` changes, and errors that name file and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from fusechat.pipeline.config import Recipe, packaged_recipes
from fusechat.pipeline.errors import InputError, RecipeError
from pydantic import ValidationError


def find(recipe: str) -> Path:
    """The file that `recipe` names: a path, or the name of a recipe that ships with fusechat."""
    path = Path(recipe)
    if path.is_file():
        return path
    packaged = packaged_recipes() / f"{recipe}.yaml"
    if packaged.is_file():
        return packaged
    names = ", ".join(sorted(p.stem for p in packaged_recipes().glob("*.yaml")))
    raise InputError(recipe, 0, f"no such recipe file; the recipes that ship are {names}")


def load(path: Path, changes: tuple[str, ...] = ()) -> Recipe:
    """Reads and validates a recipe.

    Args:
        path: the YAML file.
        changes: `section.key=value` each; the value is read as YAML. List items go by position or by `name`.

    Raises:
        InputError: the file can't be read as YAML.
        RecipeError: a key is unknown, has the wrong type or a value that is not allowed.
    """
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(str(path), 0, f"can't be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 0
        problem = getattr(error, "problem", None) or "not YAML"
        raise InputError(str(path), line, f"not valid YAML: {problem}") from error
    if not isinstance(tree, dict):
        raise InputError(str(path), 0, "a recipe is a mapping of sections")
    for change in changes:
        _apply(tree, change)
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise _recipe_error(error, str(path)) from None


def _apply(tree: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise RecipeError("--set", change, "has the form section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(key, text, "the value after = must be YAML") from None
    *parents, last = key.split(".")
    node: Any = tree
    for part in parents:
        node = _child(node, part, key)
    if isinstance(node, dict):
        node[last] = value
    elif isinstance(node, list) and last.isdigit() and int(last) < len(node):
        node[int(last)] = value
    else:
        raise RecipeError(key, text, f"{last!r} can't be set there")


def _child(node: Any, part: str, key: str) -> Any:
    if isinstance(node, dict):
        return node.setdefault(part, {})
    if isinstance(node, list):
        if part.isdigit() and int(part) < len(node):
            return node[int(part)]
        for item in node:
            if isinstance(item, dict) and item.get("name") == part:
                return item
        names = [item["name"] for item in node if isinstance(item, dict) and "name" in item]
        raise RecipeError(key, part, f"no such item; there are {', '.join(names) or len(node)}")
    raise RecipeError(key, part, "is not a section")


def _recipe_error(error: ValidationError, file: str) -> RecipeError:
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "recipe"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"unknown key; allowed here: {', '.join(_allowed(first['loc'])) or 'see docs/recipe.md'}"
    more = error.error_count() - 1
    return RecipeError(key, first["input"], message + (f" (and {more} more)" if more else ""), file)


def _allowed(loc: tuple[int | str, ...]) -> list[str]:
    """Keys of the section that `loc` lies in."""
    schema = Recipe.model_json_schema()
    node: dict[str, Any] = schema
    for part in loc[:-1]:
        node = _resolve(schema, node)
        if isinstance(part, int):
            node = node.get("items", {})
        elif part in node.get("properties", {}):
            node = node["properties"][part]
        elif "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"][part]}
        else:
            return []
    return sorted(_resolve(schema, node).get("properties", {}))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    options = [o for o in node.get("anyOf", []) if "$ref" in o]
    return _resolve(schema, options[0]) if options else node
