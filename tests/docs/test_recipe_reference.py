"""The recipe's reference (docs/recipe.md) and JSON schema are generated from its models, complete and up to date."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from fusechat.pipeline.recipe import Recipe, Section, suite_collections
from fusechat.pipeline.recipe.load import packaged_recipes, read_yaml

ROOT = Path(__file__).parents[2]


def _generator() -> ModuleType:
    """docs/generate.py; loaded by its path, because helm/generate.py has the same name."""
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = _generator()
SECTIONS: list[type[Section]] = list(generate.sections())
SHIPPED = sorted(packaged_recipes().glob("*.yaml"))


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(generate.schema())


def test_generated_files_are_up_to_date() -> None:
    for path, text in generate.generated().items():
        assert path.read_text("utf-8") == text, f"{path}: run docs/generate.py"


def test_sections_include_the_nested_ones() -> None:
    assert {"Recipe", "Wheels", "Margin", "PromptTable", "HarnessSuite"} <= {s.__name__ for s in SECTIONS}


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_field_is_documented(section: type[Section]) -> None:
    assert not [key for key, field in section.model_fields.items() if not field.description]


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_the_page_has_every_key_of_the_section(section: type[Section]) -> None:
    tables = [match.group(2, 3) for match in generate.TABLE.finditer((ROOT / "docs" / "recipe.md").read_text("utf-8"))]
    assert len({name for name, _ in tables}) == len(tables), "a section has two tables"
    shown: dict[str, Any] = {}
    for base in reversed(section.__mro__):
        for name, without in tables:
            if name == base.__name__:
                shown |= generate.shown_keys(name, without)
    assert set(shown) == set(section.model_fields)
    for key, field in section.model_fields.items():
        assert (shown[key].description, shown[key].default) == (field.description, field.default), key


def test_the_schema_is_valid() -> None:
    schema = generate.schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)
    assert set(schema["properties"]) == set(Recipe.model_fields)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_names_the_schema_and_follows_it(path: Path) -> None:
    assert path.read_text("utf-8").startswith(f"# yaml-language-server: $schema={generate.SCHEMA.name}\n")
    assert [error.message for error in validator().iter_errors(read_yaml(path))] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sed": 1}, "'sed' was unexpected"),
        ({"seed": "x"}, "'x' is not of type 'integer'"),
        ({"training": {"num_cpus": "45"}}, "'45' is not valid under any of the given schemas"),
        ({"score": {"reward": {"weigths": {}}}}, "is not valid under any of the given schemas"),
    ],
)
def test_the_schema_refuses_mistakes(change: dict[str, Any], message: str) -> None:
    tree = read_yaml(packaged_recipes() / "demo.yaml")
    assert message in " ".join(error.message for error in validator().iter_errors(tree | change))


def test_the_schema_accepts_a_share_of_the_cores() -> None:
    tree = read_yaml(packaged_recipes() / "demo.yaml")
    assert not list(validator().iter_errors(tree | {"training": {"num_cpus": "45%"}}))


def test_the_page_names_the_file_of_answers_of_every_suite_that_has_one() -> None:
    page = (ROOT / "docs" / "recipe.md").read_text("utf-8")
    named = [s["name"] for name in ("fusechat3", "modern") for s in suite_collections.expanded(name) if "answers" in s]
    assert len(named) == 4
    assert not [name for name in named if f"`{name}_answers.jsonl`" not in page]
