"""A run directory with a finished selection, written by hand: for tests of commands on a selected data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from example_recipe import HUB_MODEL, make_recipe, source_tree
from example_rows import prompt_row, response_row, score_row

from fusechat.pipeline.dataset.outputs import DIGESTS
from fusechat.pipeline.identities import digest, prompt_id
from fusechat.pipeline.recipe import DOMAINS, VERIFIED_DOMAINS, Domain, Recipe
from fusechat.pipeline.records import PROMPT, REJECT, RESPONSE, SCORE, Message
from fusechat.pipeline.selection import apply_rule
from fusechat.pipeline.storage.manifest import Manifest
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

NASTY = '<script>alert(1)</script> | \x1b[31m"red" \u202e'


def write_run(
    folder: Path, num: int = 80, cut: int | None = None, history: Sequence[Message] = ()
) -> tuple[RunDir, Recipe]:
    """A run directory with a finished selection: all domains, two sources with two samples each.

    Args:
        cut: number of the response of each prompt that was cut at its token limit.
        history: earlier turns of every fifth prompt.
    """
    run = RunDir(str(folder))
    prompts: list[dict[str, Any]] = []
    responses: list[dict[str, Any]] = []
    scores: list[dict[str, Any]] = []
    for i in range(num):
        domain: Domain = DOMAINS[i % 4]
        reference = {"gold": str(i)} if domain == "math" else {"tests": "assert f", "entry_point": "f"}
        if domain not in VERIFIED_DOMAINS:
            reference = {}
        prompt = prompt_row(i, f"question {i} {NASTY}", domain, system="Be brief.", id=f"mine-{i}", **reference)
        if i % 5 == 0 and history:
            prompt["messages"][1:1] = history
            prompt["prompt_id"] = prompt_id(prompt["messages"])
        prompts.append(prompt)
        for j in range(4):
            response = response_row(
                prompt,
                digest(prompt["prompt_id"], j),
                source="ab"[j % 2],
                revision="rev",
                sample_index=j // 2,
                seed=100 + j,
                text=f"answer {i} {j} {NASTY}",
                finish_reason="length" if j == cut else "stop",
            )
            responses.append(response)
            correct = j < 2 if domain in ("math", "code") else None
            scores.append(score_row(response, {"rm": 0.2 - j * (i % 9) / 200}, correct))
    recipe = make_recipe(
        run_dir=str(folder),
        sources=[
            source_tree(model={"hub": "google/gemma-2-27b-it", "revision": "main"}),
            source_tree("b", model=HUB_MODEL),
        ],
        rewards=[{"name": "rm", "kind": "likelihood", "source": "a"}],
        sample={"buckets": 3},
    )
    Parts(run, "prompts/train", PROMPT, "prompt_id").write_all(prompts, 3)
    reject = {"stage": "prompts", "id": "p.jsonl:99", "reason": "duplicate", "detail": "of p.jsonl:1"}
    run.write_table(pa.Table.from_pylist([reject], schema=REJECT), "prompts", "rejects.parquet")
    Parts(run, "sample", RESPONSE, "response_id").write_all(responses, 3)
    Parts(run, "score", SCORE, "response_id").write_all(scores, 3)
    run.write_json({"chosen": "rm"}, "score", "agreement.json")
    settings = recipe.model_dump(mode="json")
    run.write_json({"recipe": recipe.name, "target": settings["target"], "settings": settings}, "run.json")
    apply_rule.run_select(run, recipe, "rm")
    write_manifests(run, recipe)
    return run, recipe


def write_manifests(run: RunDir, recipe: Recipe) -> None:
    """Writes the manifests of the stages up to `select`, as if the stages had just written what is stored."""
    inputs: dict[str, str] = {}
    for stage, data in DIGESTS.items():
        manifest = Manifest(stage=stage, config="c", inputs=dict(inputs), data=data(run, recipe))
        run.write_manifest(manifest)
        inputs[stage] = manifest.fingerprint
