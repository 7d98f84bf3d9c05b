"""Writes what is generated from the recipe's models: the tables in docs/recipe.md, and the JSON schema for editors.

    .venv/bin/python docs/generate.py

A table is between `<!-- keys of Source beyond Policy -->` and `<!-- end of keys -->`. `beyond Policy` omits the keys
that Source inherits unchanged from Policy. tests/docs/ checks that both files are up to date.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from fusechat.pipeline import recipe
from fusechat.pipeline.recipe import Recipe, Section
from fusechat.pipeline.recipe.load import packaged_recipes

PAGE = Path(__file__).parent / "recipe.md"
SCHEMA = packaged_recipes() / "recipe.schema.json"
TABLE = re.compile(r"(<!-- keys of (\w+)(?: beyond (\w+))? -->\n)(.*?)(<!-- end of keys -->\n)", re.DOTALL)
HEADING = re.compile(r"^##+ (.+)$", re.MULTILINE)  # one `#` begins a comment in an example
NAME = re.compile(r"\^\[a-z0-9\]\[a-z0-9\._-\]\{0,(\d+)\}\$")
"""Patterns of names; the group is the largest number of further characters."""


def generated() -> dict[Path, str]:
    """Returns each generated file -> its text."""
    return {PAGE: page(), SCHEMA: json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"}


def schema() -> dict[str, Any]:
    """Returns the JSON schema of a recipe file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **_one_line(Recipe.model_json_schema())}


def _one_line(node: Any) -> Any:
    """Joins the lines of all descriptions."""
    if isinstance(node, list):
        return [_one_line(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _plain(value) if key == "description" and isinstance(value, str) else _one_line(value)
        for key, value in node.items()
    }


def page() -> str:
    """Returns docs/recipe.md with its tables up to date."""
    text = PAGE.read_text("utf-8")
    links = _links(text)

    def table(match: re.Match[str]) -> str:
        start, name, base, _, end = match.groups()
        return f"{start}{_table(name, base, links)}{end}"

    return TABLE.sub(table, text)


def shown_keys(name: str, base: str | None) -> dict[str, FieldInfo]:
    """Returns the keys in the table of a section: all, or those that differ from a base's."""
    fields = _model(name).model_fields
    inherited = _model(base).model_fields if base else {}
    return {key: field for key, field in fields.items() if key not in inherited or _differs(field, inherited[key])}


def _differs(field: FieldInfo, other: FieldInfo) -> bool:
    return (field.annotation, field.default, field.description) != (other.annotation, other.default, other.description)


def sections() -> Iterator[type[Section]]:
    """Yields every section that a recipe can contain."""
    seen: set[type[Section]] = set()
    waiting: list[Any] = [Recipe]
    while waiting:
        node = waiting.pop(0)
        if isinstance(node, type) and issubclass(node, Section):
            if node not in seen:
                seen.add(node)
                yield node
                waiting += [field.annotation for field in node.model_fields.values()]
        else:
            waiting += get_args(node)


def _model(name: str) -> type[Section]:
    model = getattr(recipe, name)
    assert issubclass(model, Section)
    return model  # type: ignore[no-any-return]


def _links(text: str) -> dict[str, str]:
    """Returns section -> link to the heading above its table, as GitHub names the anchors of headings."""
    links = {}
    for match in TABLE.finditer(text):
        heading = [h.group(1) for h in HEADING.finditer(text, 0, match.start())][-1]
        anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        links[match.group(2)] = f"[{heading}](#{anchor})"
    return links


def _table(name: str, base: str | None, links: dict[str, str]) -> str:
    properties = _model(name).model_json_schema()
    if "$ref" in properties:
        properties = properties["$defs"][name]
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, field in shown_keys(name, base).items():
        kind = _type(properties["properties"][key], links)
        if field.default is None:
            kind = kind.removesuffix(" or `null`")
        cells = (f"`{key}`", kind, _default(field), _plain(field.description or ""))
        rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_unset=True)
        if not value:
            return "its defaults"
    if value in (None, "", (), {}):
        return "none"
    if isinstance(value, tuple):
        value = list(value)
    shown = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return f"`{shown.removesuffix('...' + chr(10)).strip()}`"


def _type(node: dict[str, Any], links: dict[str, str]) -> str:
    """Returns the type and the allowed values of a JSON schema node in words."""
    if "$ref" in node:
        return links[node["$ref"].rsplit("/", 1)[-1]]
    for key in ("anyOf", "oneOf"):
        if key in node:
            return " or ".join(dict.fromkeys(_type(option, links) for option in node[key]))
    if "const" in node:
        return f"`{node['const']}`"
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    match node.get("type"):
        case "null":
            return "`null`"
        case "boolean":
            return "`true` or `false`"
        case "integer" | "number" as kind:
            return f"{kind}{_bounds(node)}"
        case "array":
            return f"list ({_type(node['items'], links)})" + _at_least(node)
        case "object":
            return f"mapping ({_mapping(node, links)})"
        case "string":
            return _text(node.get("pattern"))
    return "any value"


def _bounds(node: dict[str, Any]) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return "".join(f", {word} {node[key]:g}" for key, word in words.items() if key in node)


def _at_least(node: dict[str, Any]) -> str:
    return f", at least {node['minItems']}" if "minItems" in node else ""


def _mapping(node: dict[str, Any], links: dict[str, str]) -> str:
    if "patternProperties" in node:
        ((pattern, value),) = node["patternProperties"].items()
        return f"{_text(pattern)} → {_type(value, links)}"
    names = _type(node.get("propertyNames", {"type": "string"}), links)
    value = node["additionalProperties"]
    return f"{names} → {_type(value if isinstance(value, dict) else {}, links)}"


def _text(pattern: str | None) -> str:
    if pattern is None:
        return "text"
    if name := NAME.fullmatch(pattern):
        return "name" if name[1] == "62" else f"name, at most {int(name[1]) + 1} characters"
    return "share, e.g. `45%`" if pattern.endswith("%$") else f"text of the form `{pattern}`"


def _plain(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text, "utf-8")
