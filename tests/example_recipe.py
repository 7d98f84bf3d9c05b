"""A small valid recipe for tests, and a run of it. A test states only the sections that it is about."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from fusechat.pipeline.progress import Progress
from fusechat.pipeline.recipe import Model, Recipe
from fusechat.pipeline.run import Run

MODEL = {"path": "models/a"}
"""The model of the recipe's only source, and its target."""
HUB_MODEL = {"hub": "owner/model", "revision": "main"}
"""A model that no test can fetch: for tests that never read a model."""
PROMPT = {"id": "i", "domain": "instruction", "prompt": "Name a colour."}
"""The only line of the recipe's prompt file."""


def source_tree(name: str = "a", **changes: Any) -> dict[str, Any]:
    """A source that samples one response for each instruction prompt. `changes` replace or add keys."""
    return {"name": name, "model": MODEL, "samples": {"instruction": 1}, **changes}


def recipe_tree(**changes: Any) -> dict[str, Any]:
    """The recipe as YAML gives it: one source `a`, rewarded by its own likelihood.

    Args:
        changes: replace or add whole sections (`sft={...}`, `name="other"`); nothing is merged.
    """
    return {
        "name": "small",
        "run_dir": "run",
        "prompts": {"train": ["train.jsonl"]},
        "sources": [source_tree()],
        "rewards": [{"name": "likelihood", "kind": "likelihood", "source": "a"}],
        "target": {"model": MODEL},
        "sft": {"learning_rate": 1e-5, "num_epochs": 1},
        "dpo": {"learning_rate": 1e-6, "beta": 10},
        **changes,
    }


def make_recipe(**changes: Any) -> Recipe:
    """The validated recipe. See `recipe_tree` for `changes`."""
    return Recipe.model_validate(recipe_tree(**changes))


def write_recipe(path: Path, **changes: Any) -> Path:
    """Writes the recipe, which `changes` may make invalid, as YAML. Returns the path."""
    path.write_text(yaml.safe_dump(recipe_tree(**changes)), "utf-8")
    return path


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object per line."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def write_model(folder: Path) -> None:
    """Writes a model folder without weights, unless a model is there already."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "config.json").exists():
        (folder / "config.json").write_text("{}")


def quiet_run(recipe: Recipe, folder: Path) -> Run:
    """A run that prints nothing. The recipe's relative paths start at `folder`."""
    return Run(recipe, folder, Progress(Console(quiet=True)))


def make_run(folder: Path, prompts: Iterable[Mapping[str, Any]] = (PROMPT,), **changes: Any) -> Run:
    """A quiet run of the recipe in `folder`: the prompt file and the recipe's model folders exist, no stage has run.

    Args:
        prompts: lines of the prompt file.
        changes: as for `recipe_tree`; the run directory is `folder / "run"` unless they name another.
    """
    recipe = make_recipe(**{"run_dir": str(folder / "run"), **changes})
    write_jsonl(folder / "train.jsonl", prompts)
    for section in (*recipe.sources, *recipe.rewards, recipe.target):
        model = getattr(section, "model", None)
        if isinstance(model, Model) and model.path is not None:
            write_model(folder / model.path)
    return quiet_run(recipe, folder)
