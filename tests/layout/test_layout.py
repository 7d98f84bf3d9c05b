"""The plan of the code: no import cycles, files that can be read in one sitting, names that are found once."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "services", "training")
LONGEST = 300
FILES = sorted(
    f for package in PACKAGES for f in (ROOT / package).rglob("*.py") if "recipes" not in f.relative_to(ROOT).parts
)


def test_no_file_imports_itself_by_way_of_others() -> None:
    """Imports inside functions count too."""
    graph = grimp.build_graph("fusechat", cache_dir=None)
    assert len(graph.modules) >= len(FILES)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle of imports: {' -> '.join(reversed(error.args[1]))}")


def test_a_file_is_read_in_one_sitting() -> None:
    lines = {str(f.relative_to(ROOT)): len(f.read_text().splitlines()) for f in FILES}
    assert not {name: num for name, num in lines.items() if num > LONGEST}


def test_no_two_public_classes_share_a_name() -> None:
    found: dict[str, list[str]] = defaultdict(list)
    for file in FILES:
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(str(file.relative_to(ROOT)))
    assert not {name: files for name, files in found.items() if len(files) > 1}


def test_what_is_private_to_ray_is_named_in_one_file() -> None:
    """Ray's own promise ends at `_private` and `_internal`; an update of Ray is then a change of one file."""
    private = ("ray._private", "ray.llm._internal", "ray.serve._private")
    found = {str(f.relative_to(ROOT)) for f in FILES if any(name in f.read_text() for name in private)}
    assert found == {"pipeline/cluster/ray_internals.py"}


def test_no_private_name_is_read_across_files() -> None:
    """`_x` of a module of ours is imported by no other."""
    found = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            ours = isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("fusechat"))
            if ours:
                assert isinstance(node, ast.ImportFrom)
                private = [a.name for a in node.names if a.name.startswith("_")]
                found += [f"{file.relative_to(ROOT)}: {name}" for name in private]
    assert not found


def documents() -> list[Path]:
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", documents(), ids=lambda d: d.name)
def test_a_document_names_files_that_are_there(document: Path) -> None:
    """A full path is there; a bare name of a Python file is that of some file."""
    known = {f.name for f in (*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "helm").glob("*.py"))}
    missing = []
    for name in re.findall(r"`((?:[\w.-]+/)*[\w-]+\.(?:py|yaml|json|lock|sh|toml))`", document.read_text()):
        path = Path(name)
        ours = path.parts[0] in (*PACKAGES, "helm", "k8s", "docs", "tests", "requirements", "docker")
        if (ours and not (ROOT / path).exists()) or (
            len(path.parts) == 1 and path.suffix == ".py" and name not in known
        ):
            missing.append(name)
    assert not missing


def test_the_drawn_layers_are_those_that_are_checked() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in contracts if c["type"] == "layers")
    drawing = (ROOT / "docs/architecture.md").read_text().split("```mermaid")[2].split("```")[0]
    drawn = [
        {name.removesuffix(".py").strip() for name in box.split(",")}
        for box in re.findall(r"\[([^\]]+)\]", drawing)
        if box not in ("services", "training")
    ]
    assert drawn == [set(layer.split(" | ")) for layer in layers]
