"""Loads a recipe file: YAML, `--set` changes, and errors that name the file and the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    ValidationError,
)

from ..errors import InputError, RecipeError
from . import sizes, suite_collections
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
    "one_text",
    "by_case",
    "value",
    "values",
    "condition",
    "response_column",
    "scored_column",
}
"""Tags of union members (kinds of sources, rewards, ...), which pydantic includes in the location of an error."""


def find(recipe: str) -> Path:
    """Returns the file of a recipe, given by its path or by the name of a recipe that ships with fusechat.

    Raises:
        InputError: there is no such recipe.
    """
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
        changes: `section.key=value` each. The value is read as YAML. List items are addressed by position or by `name`.

    Raises:
        InputError: the file cannot be read as YAML.
        RecipeError: a key is unknown or missing, has the wrong type, or has a value that is not allowed.
    """
    tree = read_yaml(path)
    changed = _copy(tree)
    for change in changes:
        _apply(changed, change)
    if (size := sizes.choose(changed)) is not None:
        for key, value in sizes.changes(tree, size).items():
            try:
                _put(tree, key, value)
            except RecipeError as error:
                raise RecipeError(f"sizes.{size}.changes.{key}", error.given, error.allowed, str(path)) from None
    for change in changes:  # they override the changes of the size
        _apply(tree, change)
    if size is not None:
        tree["size"] = size
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise _recipe_error(error, tree, str(path)) from None


def read_yaml(path: Path, what: str = "a recipe is a mapping of sections") -> dict[str, Any]:
    """Reads a YAML file that contains a mapping.

    Args:
        what: the error message for a file that contains something else.

    Raises:
        InputError: the file cannot be read, is not valid YAML, or does not contain a mapping.
    """
    file = str(path)
    try:
        tree = _copy(yaml.load(path.read_text(encoding="utf-8"), _Loader))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(file, 0, f"can't be read: {error}") from error
    except RecursionError:
        raise InputError(file, 0, "not valid YAML: nested too deeply, or an alias contains itself") from None
    except yaml.reader.ReaderError as error:
        raise InputError(file, 0, f"not valid YAML: {error.reason} (position {error.position})") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise InputError(file, line, f"not valid YAML: {error.problem or error.context}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:  # raised by the loader, e.g. for 2027-13-45
        raise InputError(file, 0, f"not valid YAML: a value can't be read: {error}") from error
    if not isinstance(tree, dict):
        raise InputError(file, 0, what)
    return tree


class _Loader(yaml.SafeLoader):
    """YAML loader that refuses duplicate keys. PyYAML would silently drop all but the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Returns the mapping of a node.

        Raises:
            yaml.constructor.ConstructorError: a key occurs twice.
        """
        seen = set()
        for key, _ in node.value:
            if key.value in seen and isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} occurs twice", key.start_mark
                )
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


def _copy(node: Any) -> Any:
    """Returns a copy without shared parts, so that a change does not affect other aliases of a YAML anchor."""
    if isinstance(node, dict):
        return {key: _copy(value) for key, value in node.items()}
    return [_copy(value) for value in node] if isinstance(node, list) else node


def _apply(tree: dict[str, Any], change: str) -> None:
    key, equals, text = change.partition("=")
    if not equals or not all(key.split(".")):
        raise RecipeError("--set", change, "must have the form section.key=value")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise RecipeError(key, text, "the value after = must be YAML") from None
    _put(tree, key, value)


def _put(tree: dict[str, Any], key: str, value: Any) -> None:
    """Sets the value of a dotted key."""
    node: Any = tree
    rest = key.split(".")
    if rest[:2] == ["evaluate", "suites"] and len(rest) > 2:
        _expand_suites(tree, key)
    while True:
        index, num = _step(node, rest, key)
        rest = rest[num:]
        if not rest:
            node[index] = value
            return
        node = node.setdefault(index, {}) if isinstance(node, dict) else node[index]


def _expand_suites(tree: dict[str, Any], key: str) -> None:
    """Replaces names of suites with the suites, so that a change can address them."""
    evaluate = tree.get("evaluate")
    if isinstance(evaluate, dict) and "suites" in evaluate:
        try:
            evaluate["suites"] = _copy(suite_collections.expanded(evaluate["suites"]))
        except ValueError as error:
            raise RecipeError(key, evaluate["suites"], str(error)) from None


def _step(node: Any, parts: list[str], key: str) -> tuple[str | int, int]:
    """Returns the next key or index inside `node`, and how many parts of the key it takes: names may contain dots."""
    if isinstance(node, dict):
        return parts[0], 1
    if not isinstance(node, list):
        raise RecipeError(key, parts[0], "is inside a value, not in a section")
    names = {item["name"]: i for i, item in enumerate(node) if isinstance(item, dict) and "name" in item}
    for num in range(len(parts), 0, -1):
        if (name := ".".join(parts[:num])) in names:
            return names[name], num
    if parts[0].isdecimal() and int(parts[0]) < len(node):
        return int(parts[0]), 1
    items = ", ".join(map(str, names)) or (f"positions 0 to {len(node) - 1}" if node else "none")
    raise RecipeError(key, parts[0], f"no such item; the items are {items}")


def _recipe_error(error: ValidationError, tree: dict[str, Any], file: str) -> RecipeError:
    # Unknown keys come first, because a mistyped key explains why another one is missing.
    first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    kind, given = first["type"], first["input"]
    context = first.get("ctx", {})
    message = first["msg"].removeprefix("Value error, ")
    parts = _path(_original(first["loc"], tree), tree)
    if kind == "extra_forbidden":
        message = f"unknown key; allowed here: {', '.join(_allowed(first['loc'])) or 'see docs/recipe.md'}"
    elif kind == "missing":
        message, given = "is required", None
    elif kind in ("union_tag_invalid", "union_tag_not_found"):
        parts, given = [*parts, "kind"], context.get("tag")
        message = f"must be one of {context.get('expected_tags', 'the kinds of docs/recipe.md')}"
    elif not parts:  # a check across sections, whose message starts with the key
        key, _, message = message.partition(": ")
        loc = tuple(int(part) if part.isdecimal() else part for part in key.split("."))
        parts = [str(part) for part in _original(loc, tree)]
        given = _value(tree, ".".join(parts))
    more = error.error_count() - 1
    return RecipeError(".".join(parts), given, message + (f" (and {more} more)" if more else ""), file)


def _original(loc: tuple[int | str, ...], tree: dict[str, Any]) -> tuple[int | str, ...]:
    """The location in the recipe's own list of suites, which may have names in place of suites."""
    if loc[:2] != ("evaluate", "suites") or len(loc) < 3 or not isinstance(loc[2], int):
        return loc
    return (*loc[:2], suite_collections.original_index(_value(tree, "evaluate.suites"), loc[2]), *loc[3:])


def _path(loc: tuple[int | str, ...], tree: Any) -> list[str]:
    """Converts pydantic's location to a key of the file: removes union tags and the mark of a bad mapping key."""
    node, parts = tree, []
    for part in loc:
        is_tag = part in TAGS or str(part).startswith("literal[")
        if part == "[key]" or (is_tag and not (isinstance(node, dict) and part in node)):
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
    """Returns the keys of the section that contains `loc`."""
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
    """Returns the folder of the recipes that ship with fusechat."""
    return Path(__file__).parents[1] / "recipes"
