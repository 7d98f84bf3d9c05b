"""What pyproject.toml declares, the lock files, set-up and the README say the same."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
DECLARED = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = DECLARED["project"]
VERSIONS = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
MACHINES = ("x86_64", "aarch64")
LOCKS = ("cpu.lock", "torch.lock", "gpu.lock", "image.lock")


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(r).name) for r in requirements}


def locked(lock: str, version: str, machine: str) -> dict[str, str]:
    """Version by package, as the lock file has it for a Python of that version."""
    environment = {
        "python_version": version,
        "python_full_version": f"{version}.4",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "sys_platform": "linux",
    }
    found: dict[str, str] = {}
    for line in re.findall(r"(?m)^([a-z0-9].*?) *\\$", (ROOT / "requirements" / lock).read_text()):
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert requirement.name not in found
            found[requirement.name] = str(requirement.specifier).removeprefix("==")
    return found


def test_each_declared_python_is_one_that_may_be_used() -> None:
    asked = SpecifierSet(PROJECT["requires-python"])
    assert VERSIONS == ["3.11", "3.12", "3.13"]
    assert [f"3.{minor}" for minor in range(20) if f"3.{minor}.0" in asked] == VERSIONS


def test_the_lowest_is_what_code_is_checked_against() -> None:
    tools = DECLARED["tool"]
    assert tools["mypy"]["python_version"] == VERSIONS[0]
    assert tools["ruff"]["target-version"] == "py" + VERSIONS[0].replace(".", "")
    assert f"--python-version {VERSIONS[0]} " in (ROOT / "Makefile").read_text()


def test_set_up_and_the_readme_name_them_all() -> None:
    script = (ROOT / "requirements/setup.sh").read_text()
    assert f'versions="{" ".join(VERSIONS)}"' in script
    words = f"{', '.join(VERSIONS[:-1])} or {VERSIONS[-1]}"
    assert f"CPython {words}" in script and f"Python {words}" in (ROOT / "README.md").read_text()


def test_the_lock_files_are_for_them_all() -> None:
    for environment in DECLARED["tool"]["uv"]["environments"]:
        bound = re.search(r"python_version < '(.*)'", environment)
        assert bound is not None and f"<{bound[1]}" in PROJECT["requires-python"].split(",")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("version", VERSIONS)
def test_the_lock_files_hold_what_is_declared(version: str, machine: str) -> None:
    core, extras = names(PROJECT["dependencies"]), {k: names(v) for k, v in PROJECT["optional-dependencies"].items()}
    cpu, torch, gpu, image = (locked(lock, version, machine) for lock in LOCKS)
    assert core - {"torch"} | extras["cpu"] | extras["dev"] <= cpu.keys()
    assert core | extras["gpu"] | extras["dev"] <= gpu.keys()
    assert core | extras["gpu"] <= image.keys()
    assert {name: pin for name, pin in torch.items() if name in cpu}.items() <= cpu.items()
    assert image.items() <= gpu.items()


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_pinned_is_locked_so(version: str) -> None:
    pinned = [Requirement(r) for r in PROJECT["dependencies"] if "==" in r]
    assert len(pinned) >= 8
    torch = (ROOT / "requirements/torch.txt").read_text().strip()
    assert torch in PROJECT["dependencies"]
    for lock, without in (("cpu.lock", {"torch"}), ("gpu.lock", set[str]()), ("image.lock", set[str]())):
        found = locked(lock, version, "x86_64")
        assert all(found[r.name] in r.specifier for r in pinned if r.name not in without)
    assert locked("torch.lock", version, "x86_64")["torch"] == torch.removeprefix("torch==")


def test_nothing_is_locked_for_a_python_that_is_not_declared() -> None:
    for lock in LOCKS:
        assert not locked(lock, "3.14", "x86_64")


def test_what_torch_needs_is_listed() -> None:
    """The lock file for a CPU is resolved without torch."""
    asked = [Requirement(r) for r in metadata.requires("torch") or []]
    needed = {canonicalize_name(r.name) for r in asked if r.marker is None or r.marker.evaluate({"extra": ""})}
    cuda = {name for name in needed if name.startswith(("nvidia-", "cuda-", "triton"))}
    listed = (ROOT / "requirements/torch-needs.txt").read_text().splitlines()
    assert needed - cuda == {line for line in listed if not line.startswith("#")}


def imported(folder: str) -> dict[str, Path]:
    """The modules that a folder's code imports by their top names, each with a file that does."""
    found: dict[str, Path] = {}
    for file in (ROOT / folder).rglob("*.py"):
        if "recipes" in file.parts:  # a script of its own, with its modules beside it
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0]: file for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found[node.module.partition(".")[0]] = file
    return found


@pytest.mark.parametrize("folder", ["pipeline", "services", "training"])
def test_every_package_that_is_imported_is_declared(folder: str) -> None:
    of_module = metadata.packages_distributions()
    declared = names(PROJECT["dependencies"])
    brought = {"vllm": "by either extra", "lm_eval": "by the user, where a recipe asks for the harness"}
    for module, file in imported(folder).items():
        if module not in sys.stdlib_module_names and module != "fusechat" and module not in brought:
            packages = {canonicalize_name(name) for name in of_module.get(module, [])}
            assert packages & declared, f"{file.relative_to(ROOT)} imports {module}"
