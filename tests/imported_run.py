"""A run whose responses all come with the prompt rows, brought to `select` by the real stages.

Only verdicts and rewards are given: the verifier and the reward models run on Ray.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from example_recipe import MODEL, make_recipe, quiet_run, source_tree, write_jsonl, write_model

from fusechat.pipeline.identities import digest
from fusechat.pipeline.records import SCORE, ResponseRow, RewardRow, VerdictRow
from fusechat.pipeline.run import Run
from fusechat.pipeline.sampling import generate
from fusechat.pipeline.scoring import merge
from fusechat.pipeline.stages import prompts, select
from fusechat.pipeline.storage.manifest import Manifest, Outcome
from fusechat.pipeline.storage.parts import Parts

SOURCE = "llama-3.1-405b"
MATH = [
    {
        "id": f"math-{i}",
        "domain": "math",
        "prompt": f"What is {i} + {i}?",
        "gold": str(2 * i),
        "responses": {SOURCE: [f"{i} + {i} = {2 * i}. The answer is {2 * i}.", f"The answer is {2 * i + 1}."]},
    }
    for i in range(1, 7)
]
"""Prompts with a right and a wrong imported response each."""


def write_imported_run(
    folder: Path, files: Mapping[str, Sequence[Mapping[str, Any]]] | None = None, **changes: Any
) -> Run:
    """A run with a finished selection. Each response that contains the row's gold answer is right.

    Args:
        files: name of a prompt file -> its rows. Default: MATH.
        changes: sections of the recipe, as for `make_recipe`.
    """
    files = files or {"train.jsonl": MATH}
    for name, rows in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_jsonl(folder / name, rows)
    write_model(folder / MODEL["path"])
    sections = {
        "run_dir": str(folder / "run"),
        "prompts": {"train": list(files)},
        "sources": [source_tree(), {"name": SOURCE, "kind": "imported"}],
        "select": {"math": {"sft_fraction": 0.3, "margin": {"min": 0, "max": 1}}},
    }
    run = quiet_run(make_recipe(**sections | changes), folder)
    stages: dict[str, Callable[[Run], Outcome]] = {
        "prompts": prompts.run, "sample": _sample, "score": _score, "select": select.run,
    }  # fmt: skip
    inputs: dict[str, str] = {}
    run.claim()
    for stage, work in stages.items():
        outcome = work(run)
        manifest = Manifest(stage=stage, config="c", inputs=dict(inputs), data=outcome.data, counts=outcome.counts)
        run.dir.write_manifest(manifest)
        inputs[stage] = manifest.fingerprint
    return run


def _sample(run: Run) -> Outcome:
    generate.import_carried(run)
    return generate.finish(run, 0)


def _score(run: Run) -> Outcome:
    responses = generate.responses(run)
    golds = {p["prompt_id"]: p["gold"] for p in run.train_prompts.to_pylist()}
    verdicts = {r["response_id"]: _verdict(r, golds[r["prompt_id"]]) for r in responses if golds[r["prompt_id"]]}
    rewards = {r["response_id"]: _reward(r) for r in responses}
    rows = merge.merge(responses, verdicts, {"likelihood": rewards}, {}, "likelihood").to_pylist()
    Parts(run.dir, "score", SCORE, "response_id").write_all(rows, run.recipe.sample.buckets)
    run.dir.write_json({"chosen": "likelihood"}, "score", "agreement.json")
    return Outcome(digest(rows, "likelihood"))


def _verdict(response: ResponseRow, gold: str) -> VerdictRow:
    right = f"The answer is {gold}." in response["text"]
    verdict = "correct" if right else "wrong"
    return {"response_id": response["response_id"], "correct": right, "verdict": verdict, "detail": ""}


def _reward(response: ResponseRow) -> RewardRow:
    """The first of a prompt's responses has the highest reward."""
    score = 1.0 - response["sample_index"] / 10
    return {"response_id": response["response_id"], "score": score, "reject": ""}
