"""What FuseChat-3.0's parts are worth on small models: SFT, DPO, pairs of one source, all sources, the margin window.

    .venv/bin/python tests/bench/experiment.py --folder FOLDER [--quick]

Three sources answer the demo's prompts and some of `../shared/prompts`. Eight models that are trained on what comes of
it answer its held-out prompts, beside the untouched target. All by `fusechat` itself, on two cores in about an hour;
called again it goes on where it was. Prints the tables of docs/experiments.md. `--quick` is a small try of the whole.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import small
import yaml

from fusechat.pipeline.evaluation.statistics import interval, mean_interval, paired
from fusechat.pipeline.recipe.load import packaged_recipes
from fusechat.pipeline.records import FINISHED

SHARED = Path(__file__).resolve().parents[3] / "shared" / "prompts"
DEMO = packaged_recipes() / "demo"
MORE = {"math_train": 60, "code_train": 40, "instruction": 40}
"""Rows of ../shared/prompts beside the demo's."""
WINDOW = {"min": 0.05, "max": 1.0}
"""Nats a token: the likelihood's unit. ArmoRM's scores have the paper's 0.01 to 0.1."""
NOTHING = {"learning_rate": 1e-12, "num_epochs": 0.001}
"""An SFT that leaves its model as it is."""
PAIRED = [  # what is compared with what
    ("sft", "target"),
    ("dpo-only", "target"),
    ("sft+dpo", "target"),
    ("sft+dpo", "sft"),
    ("sft+dpo", "dpo-only"),
    ("sft+dpo", "no-window"),
    ("sft+dpo", "across"),
    ("no-window", "across-no-window"),
    ("sft", "one-source-sft"),
    ("sft+dpo", "one-source"),
]


def lines_of(path: Path) -> list[dict[str, Any]]:
    """A JSONL file's rows."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def prompts(quick: bool) -> list[dict[str, Any]]:
    """The training prompts: the demo's, and the first short ones of public sets."""
    found = [row for name in ("math", "code", "instruction", "chinese") for row in lines_of(DEMO / f"{name}.jsonl")]
    for name, num in MORE.items():
        found += [r for r in lines_of(SHARED / f"{name}.jsonl") if len(r["prompt"]) <= 500][:num]
    return found[::20] if quick else found


def heldout(quick: bool, train: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The demo's held-out prompts; a short try has not all templates in its training set."""
    used = {row.get("template") for row in train}
    found = lines_of(DEMO / "heldout.jsonl")[:: 20 if quick else 1]
    return [{**row, "template_seen": row["template"] in used} if "template" in row else row for row in found]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def recipe(folder: Path, name: str, train: Path, **sections: Any) -> Path:
    """The demo's recipe with this experiment's prompts, samples and rules."""
    tree = yaml.safe_load((DEMO.parent / "demo.yaml").read_text("utf-8"))
    for source in tree["sources"]:
        if "chat_template" in source:
            source["chat_template"] = str(DEMO.parent / source["chat_template"])
        chinese = {"chinese": 1} if source["name"].startswith("qwen") else {}
        source["samples"] = {"math": 2, "code": 2, "instruction": 2, **chinese}
    half = {"sft_fraction": 0.5, "margin": WINDOW}
    tree |= {
        "name": name,
        "run_dir": str(folder / name),
        "prompts": {"train": [str(train)], "heldout": [str(folder / "heldout.jsonl")]},
        "select": {"instruction": half, "math": half, "code": half, "chinese": {"sft_fraction": 1}},
    }
    tree["score"]["reward"] = "likelihood"
    tree["dpo"]["learning_rate"] = 5e-6
    for key, value in sections.items():
        tree[key] = {**tree[key], **value} if isinstance(tree[key], dict) else value
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False, allow_unicode=True), "utf-8")
    return path


def walk(path: Path, *stages: str) -> None:
    """Brings these stages of a recipe up to date."""
    for stage in stages:
        began = time.monotonic()
        subprocess.run([small.FUSECHAT, stage, str(path)], check=True, stdout=sys.stderr)
        print(f"{path.stem} {stage}: {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)


def model_of(stage: Path) -> str:
    """The folder of the model that a training stage ended with."""
    return str(stage / json.loads((stage / "result.json").read_text("utf-8"))["folder"] / "model")


def begin_from(base: Path, run: Path) -> None:
    """A run directory that has what `base` has sampled, scored and selected."""
    if not run.exists():
        for part in ("prompts", "sample", "score", "select"):
            shutil.copytree(base / part, run / part)


def as_one_source(run: Path, path: Path) -> Path:
    """The run's prompts as a file in which the responses of all sources that ended by themselves are one source's."""
    texts: dict[str, list[str]] = defaultdict(list)
    for shard in sorted((run / "sample").glob("bucket-*/*.parquet")):
        for row in pq.read_table(shard).to_pylist():
            if row["finish_reason"] in FINISHED and row["domain"] != "chinese":
                texts[row["prompt_id"]].append(row["text"])
    rows = []
    for shard in sorted((run / "prompts" / "train").glob("**/*.parquet")):
        for row in pq.read_table(shard).to_pylist():
            kept = {k: row[k] for k in ("id", "domain", "messages", "gold", "tests", "entry_point", "template")}
            kept |= {"responses": {"all": sorted(texts[row["prompt_id"]])}}
            rows.append({k: v for k, v in kept.items() if v is not None and v != {"all": []}})
    return write(path, rows)


def main() -> None:
    """Trains and evaluates, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where the runs are kept, about 8 GB")
    parser.add_argument("--quick", action="store_true", help="a twentieth of the prompts: does it work at all")
    options = parser.parse_args()
    if not SHARED.is_dir():
        raise SystemExit(f"{SHARED} is not there: the experiment's further prompts are its")
    began, folder = time.monotonic(), options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rows = prompts(options.quick)
    train = write(folder / "train.jsonl", rows)
    write(folder / "heldout.jsonl", heldout(options.quick, rows))

    def variant(name: str, train: Path = train, **sections: Any) -> Path:
        return recipe(folder, name, train, **sections)

    base = folder / "base"
    walk(variant("base"), "prompts", "sample", "score", "select", "sft", "dpo")
    sources = yaml.safe_load((folder / "base.yaml").read_text("utf-8"))["sources"]
    qwen = next(s for s in sources if s["name"].startswith("qwen"))
    aligned = {"model": {"path": model_of(base / "sft")}}
    imported = [{**qwen, "samples": {"chinese": 1}}, {"name": "all", "kind": "imported"}]
    free = {domain: {"sft_fraction": 0.5, "margin": {"min": -1000}} for domain in ("math", "code", "instruction")}
    merged = as_one_source(base, folder / "across.jsonl")
    across: dict[str, Any] = {"train": merged, "sources": imported}
    from_sft: dict[str, Any] = {"target": aligned, "sft": NOTHING}
    variants = {
        "dpo-only": variant("dpo-only", sft=NOTHING),
        "no-window": variant("no-window", select=free, **from_sft),
        "across": variant("across", **across, **from_sft),
        "across-no-window": variant("across-no-window", select=free, **across, **from_sft),
        "one-source": variant("one-source", sources=[qwen]),
    }
    for name, path in variants.items():
        begin_from(folder / "across" if name == "across-no-window" else base, folder / name)
        walk(path, "prompts", "sample", "score", "select", "sft", "dpo")

    places = {"one-source-sft": folder / "one-source" / "sft"} | {name: folder / name / "dpo" for name in variants}
    own = [{"name": name, "model": {"path": model_of(place)}} for name, place in places.items()]
    walk(variant("base", evaluate={"models": ["target", "sft", "dpo", *own]}), "evaluate")
    print(f"{small.machine()}, {(time.monotonic() - began) / 60:.0f} minutes, `{' '.join(sys.argv[:1])}`\n")
    tables(folder, {"sft": base / "sft", "sft+dpo": base / "dpo", **places})


def tables(folder: Path, trained: dict[str, Path]) -> None:
    """What each model was trained on and how it answers; the differences that the paper speaks of."""
    answers: dict[str, dict[str, Any]] = defaultdict(dict)
    for row in pq.read_table(folder / "base" / "evaluate" / "answers.parquet").to_pylist():
        answers["sft+dpo" if row["model"] == "dpo" else row["model"]][row["prompt_id"]] = row

    def scores(model: str, *domains: str) -> list[float]:
        rows = [row for _, row in sorted(answers[model].items()) if row["domain"] in domains]
        return [float(bool(row["correct"])) for row in rows]

    print("| model | rows or pairs | verified, % | math | code | judge's rating, 1 to 5 | tokens an answer |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for model, rows in answers.items():
        place = trained.get(model)
        used = ""
        if place:
            kind, what = ("sft", "rows") if place.name == "sft" else ("pairs", "pairs")
            used = f"{pq.read_metadata(place.parent / 'select' / f'{kind}.parquet').num_rows} {what}"
        mean, low, high = interval(scores(model, "math", "code"))
        rated, least, most = mean_interval([r["rating"] for r in rows.values() if r["rating"] is not None])
        tokens = sum(r["completion_tokens"] for r in rows.values()) / len(rows)
        of = [f"{100 * interval(scores(model, domain))[0]:.1f}" for domain in ("math", "code")]
        print(
            f"| {model} | {used} | {100 * mean:.1f} ({100 * low:.1f}-{100 * high:.1f}) | {of[0]} | {of[1]} "
            f"| {rated:.2f} ({least:.2f}-{most:.2f}) | {tokens:.0f} |"
        )
    print("\n| difference on verified prompts | points | p |\n| --- | --- | --- |")
    for first, second in PAIRED:
        found = paired(scores(first, "math", "code"), scores(second, "math", "code"))
        ends = f"{100 * found.low:+.1f} to {100 * found.high:+.1f}"
        print(f"| {first} - {second} | {100 * found.difference:+.1f} ({ends}) | {found.p:.3f} |")


if __name__ == "__main__":
    main()
