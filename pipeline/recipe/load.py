"""Reading a recipe file: YAML, `--set` changes, and errors that name file and key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    ValidationError,
)

from ..errors import InputError, RecipeError
from . import sizes
from .schema import Recipe

TAGS = {
    "vllm",
    "endpoint",
    "imported",
    "likelihood",
    "judge",
    "armorm",
    "classifier",
    "reward_name",
    "reward_rule",
    "file",
    "table",
    "model_name",
    "model_entry",
    "verified",
    "judged",
    "harness",
}
"""Kinds of sources, rewards and rules, which pydantic puts into the path of an error."""


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
    tree = read_yaml(path)
    asked = _plain(tree)
    for change in changes:
        _apply(asked, change)
    if (size := sizes.choose(asked)) is not None:
        for key, value in sizes.changes(tree, size).items():
            try:
                _put(tree, key, value)
            except RecipeError as error:
                raise RecipeError(f"sizes.{size}.changes.{key}", error.given, error.allowed, str(path)) from None
    for change in changes:  # they have the last word
        _apply(tree, change)
    if size is not None:
        tree["size"] = size
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise _recipe_error(error, tree, str(path)) from None


def read_yaml(path: Path, what: str = "a recipe is a mapping of sections") -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Args:
        what: said of a file that holds something else.

    Raises:
        InputError: the file can't be read, is not valid YAML, or holds no mapping.
    """
    file = str(path)
    try:
        tree = _plain(yaml.load(path.read_text(encoding="utf-8"), _Loader))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(file, 0, f"can't be read: {error}") from error
    except RecursionError:
        raise InputError(file, 0, "not valid YAML: nested too deeply, or an alias holds itself") from None
    except yaml.reader.ReaderError as error:
        raise InputError(file, 0, f"not valid YAML: {error.reason} (position {error.position})") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise InputError(file, line, f"not valid YAML: {error.problem or error.context}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # out of the loader, e.g. for 2027-13-45
        raise InputError(file, 0, f"not valid YAML: a value can't be read: {error}") from error
    if not isinstance(tree, dict):
        raise InputError(file, 0, what)
    return tree


class _Loader(yaml.SafeLoader):
    """YAML, with keys that stand twice refused: the first of them would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping.

        Raises:
            yaml.constructor.ConstructorError: a key stands twice.
        """
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands twice", key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


def _plain(node: Any) -> Any:
    """A copy that shares nothing, so that changing one place leaves the aliases of a YAML anchor alone."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    return [_plain(value) for value in node] if isinstance(node, list) else node


def _apply(tree: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not all(key.split(".")):
        raise RecipeError("--set", change, "has the form section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(key, text, "the value after = must be YAML") from None
    _put(tree, key, value)


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Sets the value that a dotted key names."""
    node: Any = tree
    rest = key.split(".")
    while True:
        place, num = _step(node, rest, key)
        rest = rest[num:]
        if not rest:
            node[place] = value
            return
        node = node.setdefault(place, {}) if isinstance(node, dict) else node[place]


def _step(node: Any, parts: list[str], key: str) -> tuple[str | int, int]:
    """The next place inside `node`, and how many parts of the key name it: names of sources hold dots."""
    if isinstance(node, dict):
        return parts[0], 1
    if not isinstance(node, list):
        raise RecipeError(key, parts[0], "lies in a value, not in a section")
    names = {item["name"]: i for i, item in enumerate(node) if isinstance(item, dict) and "name" in item}
    for num in range(len(parts), 0, -1):
        if (name := ".".join(parts[:num])) in names:
            return names[name], num
    if parts[0].isdecimal() and int(parts[0]) < len(node):
        return int(parts[0]), 1
    there = ", ".join(map(str, names)) or f"{len(node)} by position"
    raise RecipeError(key, parts[0], f"no such item; there are {there}")


def _recipe_error(error: ValidationError, tree: dict[str, Any], file: str) -> RecipeError:
    # A key that is not known comes first: it explains the one that is missing.
    first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    kind, given = first["type"], first["input"]
    context = first.get("ctx", {})
    message = first["msg"].removeprefix("Value error, ")
    parts = _path(first["loc"], tree)
    if kind == "extra_forbidden":
        message = f"unknown key; allowed here: {', '.join(_allowed(first['loc'])) or 'see docs/recipe.md'}"
    elif kind == "missing":
        message, given = "is required", None
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        parts, given = [*parts, "kind"], context.get("tag")
        message = f"must be one of {context.get('expected_tags', 'the kinds of docs/recipe.md')}"
    elif not parts:  # a check across sections; its message starts with the key
        key, _, message = message.partition(": ")
        parts, given = key.split("."), _value(tree, key)
    more = error.error_count() - 1
    return RecipeError(".".join(parts), given, message + (f" (and {more} more)" if more else ""), file)


def _path(loc: tuple[int | str, ...], tree: Any) -> list[str]:
    """pydantic's location as a key of the file: without the tags of unions and the mark of a bad mapping key."""
    node, parts = tree, []
    for part in loc:
        if part == "[key]" or (part in TAGS and not (isinstance(node, dict) and part in node)):
            continue
        parts.append(str(part))
        inside = (isinstance(node, dict) and part in node) or (isinstance(node, list) and isinstance(part, int))
        node = node[part] if inside else None
    return parts


def _value(tree: Any, key: str) -> Any:
    for part in key.split("."):
        if isinstance(tree, list):
            tree = tree[int(part)] if part.isdecimal() and int(part) < len(tree) else None
        else:
            tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


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
        elif "oneOf" in node:
            options = [o for o in node["oneOf"] if "properties" in _resolve(schema, o)]
            kinds = [_resolve(schema, o)["properties"].get("kind", {}).get("const", part) for o in options]
            node = options[kinds.index(part)]
        else:
            return []
    return sorted(_resolve(schema, node).get("properties", {}))


def _resolve(schema: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    options = [o for o in node.get("anyOf", []) if "$ref" in o]
    return _resolve(schema, options[0]) if options else node


def packaged_recipes() -> Path:
    """The folder of the recipes that ship with fusechat."""
    return Path(__file__).parents[1] / "recipes"
