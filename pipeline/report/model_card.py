"""The model card of a trained model: its data, its training settings and its evaluation results."""

from __future__ import annotations

import json
from collections.abc import Sequence

import yaml

from ..dataset.card import DATA_SECTIONS, block, origin, sources, table
from ..evaluation.result_types import AccuracyFigures, HeldoutMetrics
from ..recipe import Recipe
from ..storage.atomic import write_atomically
from ..storage.run_dir import RunDir
from . import benchmarks

TRAININGS = {"sft": "supervised fine-tuning", "dpo": "direct preference optimization"}
SETTINGS = ("learning_rate", "num_epochs", "global_batch_size", "max_length", "lr_scheduler", "warmup_ratio", "bf16")
NOT_EVALUATED = "Not evaluated yet.\n"
OWN_SETTINGS = {"sft": ("packing",), "dpo": ("beta", "loss_type")}


def write_all(run: RunDir, recipe: Recipe) -> None:
    """Writes the card of each trained model of the run, with the evaluation results."""
    for stage in recipe.trainings:
        if run.exists(stage, "result.json"):
            write(run, recipe, stage, evaluated=True)


def write(run: RunDir, recipe: Recipe, stage: str, *, evaluated: bool) -> None:
    """Writes README.md to the folder of a stage's model.

    Args:
        evaluated: whether the run's evaluation results belong to this model. Right after a training, they belong to an
            older model.
    """
    folder = run.local_path(stage, run.read_json(stage, "result.json")["folder"], "model")
    write_atomically(folder / "README.md", card(run, recipe, stage, evaluated=evaluated).encode("utf-8", "replace"))


def card(run: RunDir, recipe: Recipe, stage: str, *, evaluated: bool) -> str:
    """The card as Markdown with YAML front matter for the hub; see `write` for the arguments."""
    assert recipe.target is not None  # it was trained
    target = recipe.target.model
    base = target.hub or (" ".join(target.wheels.packages) if target.wheels else "")
    front_matter: dict[str, str | list[str]] = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "other",
        "tags": ["fusechat", "trl", stage],
        **({"base_model": base} if target.hub else {}),
    }
    sft, pairs = (run.read_table("select", f"{name}.parquet") for name in ("sft", "pairs"))
    stages = [s for s in TRAININGS if s in recipe.trainings and (s == stage or stage == "dpo")]
    numbers = {"sft": f"{len(sft)} SFT rows", "dpo": f"{len(pairs)} preference pairs"}
    data, trained = " and ".join(numbers[s] for s in stages), ", then ".join(TRAININGS[s] for s in stages)
    return "\n".join(
        [
            f"---\n{yaml.safe_dump(front_matter, sort_keys=False)}---\n",
            f"# {recipe.name}: {stage}\n",
            f"{base or 'The target'} after {trained} on {data} {origin(recipe)}\n",
            "## Results\n",
            _results(run) if evaluated else NOT_EVALUATED,
            "## Training\n",
            table(["", *stages], _settings(run, recipe, stages)),
            "## Data, and the sources' terms\n",
            sources(
                recipe, sft if "sft" in stages else sft.slice(0, 0), pairs if "dpo" in stages else pairs.slice(0, 0)
            ),
            "## Recipe\n",
            block(recipe, "name", "seed", *DATA_SECTIONS, "target", *recipe.trainings),
        ]
    )


def _results(run: RunDir) -> str:
    parts = []
    if run.exists("evaluate", "metrics.json"):
        metrics: HeldoutMetrics = run.read_json("evaluate", "metrics.json")
        models = metrics["models"]
        names, domains = list(models), list(next(iter(models.values())))
        rows: list[list[object]] = []
        for domain in domains:
            cells = [_accuracy(models[name][domain]) for name in names]
            rows.append([domain, models[names[0]][domain]["num_items"], *cells])
        parts.append("Held-out prompts, accuracy in % (95% interval):\n")
        parts.append(table(["domain", "prompts", *names], rows))
    if suites := benchmarks.load_benchmarks(run):
        parts.append(benchmarks.markdown(suites))
    return "\n".join(parts) or NOT_EVALUATED


def _accuracy(result: AccuracyFigures) -> str:
    return f"{100 * result['accuracy']:.1f} ({100 * result['low']:.1f} to {100 * result['high']:.1f})"


def _settings(run: RunDir, recipe: Recipe, trained: Sequence[str]) -> list[list[object]]:
    """The settings and figures of the model's trainings, in order."""
    configs = {s: getattr(recipe, s).model_dump(mode="json") for s in trained}
    names = [*SETTINGS, "lora", *(n for s in trained for n in OWN_SETTINGS[s])]
    rows: list[list[object]] = [[name, *(configs[s].get(name, "") for s in trained)] for name in names]
    files = {s: run.local_path(s, "metrics.jsonl") for s in trained}
    lines = {s: [json.loads(line) for line in file.read_text("utf-8").splitlines()] for s, file in files.items()}
    rows.append(["steps", *(lines[s][-1]["step"] for s in trained)])
    rows.append(["tokens", *(sum(line["tokens"] for line in lines[s]) for s in trained)])
    return [
        *rows,
        ["loss, first and last", *(f"{lines[s][0]['loss']:.3f}, {lines[s][-1]['loss']:.3f}" for s in trained)],
    ]
