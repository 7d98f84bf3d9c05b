"""The card of the data set: its content, how it was made, and the terms of its sources."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa
import yaml

from ..recipe import DOMAINS, AnySource, EndpointSource, Recipe, Source
from ..selection.funnel import Funnel, unit
from ..storage.manifest import versions
from ..storage.run_dir import RunDir

_LLAMA_SINCE_3_1 = (
    "Llama Community License: a model trained on its outputs and distributed has a name that begins with 'Llama', and "
    "shows 'Built with Llama'; over 700 million monthly users need a licence"
)
_QWEN = (
    "Qwen License: a model trained on its outputs and distributed shows 'Built with Qwen' or 'Improved using Qwen'; "
    "over 100 million monthly users need a licence"
)
LICENCES = {
    "gemma": "Gemma Terms of Use: outputs are free, but a model trained on them to perform like Gemma is a derivative, "
    "to which the terms and their prohibited uses pass on",
    "gemma-4": "Apache-2.0",
    "mistral-large": "Mistral AI Research License: for research alone, its outputs too; no commercial use",
    "llama": "a Llama Community License; outputs of Llama 2 and 3 must not improve other models, those from 3.1 on may",
    **{f"llama-3.{i}": _LLAMA_SINCE_3_1 for i in (1, 2, 3)},
    "qwen2.5-72b": _QWEN,
    "qwen2.5-math-72b": _QWEN,
    "qwen2.5-3b": "Qwen Research License: no commercial use",
    "qwen2.5-coder-3b": "Qwen Research License: no commercial use",
    "qwen2.5-coder": "Apache-2.0",
    "qwen": "mostly Apache-2.0; some sizes carry a Qwen licence",
    "smollm2": "Apache-2.0",
}
"""Part of a model's name -> a summary of its terms at the time of writing. The longest matching part counts."""

DATA_SECTIONS = ("sources", "rewards", "select", "dataset")
"""Sections of the recipe that the data set depends on."""
PROVENANCE = (
    " Both sides of a pair are by one source. Each row names its prompt, source, revision, template, parameters, seed, "
    "reward and verdict."
)
NO_LICENCE = "not known to fusechat: see the model's own card"


def card(
    run: RunDir,
    recipe: Recipe,
    sft: pa.Table,
    pairs: pa.Table,
    configs: Mapping[str, Mapping[str, str]],
    usage: str,
) -> str:
    """README.md with the hub's YAML front matter.

    Args:
        sft: SFT_ROW.
        pairs: PAIR.
        configs: name of a configuration -> split -> path of its file.
        usage: how a trainer loads the files.
    """
    head = {
        "pretty_name": recipe.name,
        "license": "other",
        "tags": ["fusechat", "preference", "synthetic"],
        "task_categories": ["text-generation"],
        "size_categories": [_size(len(sft) + len(pairs))],
        "configs": [
            {"config_name": name, "data_files": [{"split": s, "path": p} for s, p in splits.items()]}
            for name, splits in configs.items()
        ],
    }
    funnel: Funnel = run.read_json("select", "funnel.json")
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n",
        f"# {recipe.name}\n",
        f"{len(sft)} SFT rows and {len(pairs)} preference pairs {origin(recipe)}"
        + (PROVENANCE if recipe.dataset is None else "")
        + "\n",
        f"## How a trainer loads it\n\nFOLDER is the folder of this file.\n{usage}",
        "## Composition\n",
        _composition(sft, pairs),
        f"## What became of the {unit(funnel)}\n",
        table(
            ["reason", unit(funnel), "%"],
            [[r, n, f"{100 * n / max(funnel['num_prompts'], 1):.1f}"] for r, n in funnel["reasons"].items()]
            + [["all", funnel["num_prompts"], "100.0"]],
        ),
        *_rules(recipe, {*sft.column("domain").to_pylist(), *pairs.column("domain").to_pylist()}),
        "## Sources and their terms\n",
        sources(recipe, sft, pairs),
        "## Versions\n",
        table(["stage", "fingerprint", "versions"], _stages(run)),
        "## Recipe\n",
        block(recipe, "name", "seed", *DATA_SECTIONS),
    ]
    return "\n".join(parts)


def origin(recipe: Recipe) -> str:
    """The end of a sentence about the rows: how they came about."""
    if (dataset := recipe.dataset) is None:
        rule = "by the rule of FuseChat-3.0 (arXiv 2503.04222)."
        return f"that were selected from the responses of {len(recipe.sources)} models {rule}"
    names = dict.fromkeys(ready.name for _, ready in dataset.tables)
    return f"that were imported ready to train on, from {', '.join(names)}."


def _composition(sft: pa.Table, pairs: pa.Table) -> str:
    counts = [Counter(zip(*(t.column(c).to_pylist() for c in ("domain", "source")), strict=True)) for t in (sft, pairs)]
    keys = sorted(set(counts[0]) | set(counts[1]))
    rows = [[domain, source, counts[0][domain, source], counts[1][domain, source]] for domain, source in keys]
    return table(["domain", "source", "SFT rows", "pairs"], [*rows, ["all", "", len(sft), len(pairs)]])


def _rules(recipe: Recipe, domains: set[str]) -> list[str]:
    """The section of the selection rules; no section if the rows were imported."""
    if recipe.dataset is not None:
        return []
    rows = []
    for domain in DOMAINS:
        rule = recipe.select.rule(domain)
        if domain in domains:
            top = "any" if rule.margin.max is None else rule.margin.max
            rows.append([domain, rule.sft_fraction, f"{rule.margin.min} to {top}", rule.rows, rule.prefer])
    return ["## Rules\n", table(["domain", "SFT share", "margin", "rows a prompt", "winner by"], rows)]


def sources(recipe: Recipe, sft: pa.Table, pairs: pa.Table) -> str:
    """The sources as a table: model, revisions, number of rows (in SFT_ROW and PAIR), and terms."""
    num_rows = Counter(sft.column("source").to_pylist()) + Counter(pairs.column("source").to_pylist())
    revisions: dict[str, set[str]] = {}
    for data in (sft, pairs):
        for source, revision in zip(*(data.column(c).to_pylist() for c in ("source", "revision")), strict=True):
            revisions.setdefault(source, set()).add(revision)
    rows = []
    models = {source.name: model_of(source) for source in recipe.sources}
    if recipe.dataset is not None:  # its rows name their sources
        models = {name: models.get(name, "") for name in sorted(num_rows)}
    for name, model in models.items():
        rows.append([name, model, ", ".join(sorted(revisions.get(name, ()))), num_rows[name], licence(model, name)])
    return table(["source", "model", "revision", "rows", "terms"], rows)


def model_of(source: AnySource) -> str:
    """The source's model: hub id, folder, packages, or an endpoint's model name. Empty if the source is imported."""
    if isinstance(source, Source):
        wheels = source.model.wheels
        return source.model.hub or (" ".join(wheels.packages) if wheels else source.model.path or "")
    return source.model if isinstance(source, EndpointSource) else ""


def licence(model: str, source: str = "") -> str:
    """Summary of the model's terms, by its name, or by the source's name if the model is a folder or a package."""
    for name in (model.lower(), source.lower()):
        if matches := [part for part in LICENCES if part in name]:
            return LICENCES[max(matches, key=len)]
    return NO_LICENCE


def _stages(run: RunDir) -> list[list[str]]:
    rows: list[list[str]] = []
    for stage in ("prompts", "sample", "score", "select"):
        manifest = run.manifest(stage)
        if manifest is not None:
            packages = ", ".join(f"{k} {v}" for k, v in manifest.versions.items())
            rows.append([stage, manifest.fingerprint[:16], packages])
    return rows or [["export", "", ", ".join(f"{k} {v}" for k, v in versions().items())]]


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table. The text of a cell is escaped, so that it can't end the cell."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines) + "\n"


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def block(recipe: Recipe, *sections: str) -> str:
    """Sections of the recipe as a YAML code block."""
    text = yaml.safe_dump(recipe.model_dump(mode="json", include=set(sections)))
    return "```yaml\n" + text.replace("```", "'''") + "```\n"


def _size(num: int) -> str:
    """The hub's size category."""
    names = ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M"]
    return names[min(max(len(str(num)) - 3, 0), len(names) - 1)]
