"""Proves the outputs of the stages: computes their hashes again, and compares them with what the manifests recorded.

A response's identity says how it was sampled, not what its text is. What proves the text is the hash in the manifest of
the stage `sample`, and that hash is part of the fingerprint that the manifests of the later stages contain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pyarrow as pa

from ..errors import FusechatError
from ..identities import digest
from ..prompts.intake import prompts_digest
from ..recipe import Recipe
from ..records import RESPONSE, SCORE
from ..sampling.generate import texts_digest
from ..scoring.merge import scores_digest
from ..selection.apply_rule import selected_digest
from ..storage.manifest import Manifest
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from .row_checks import OUTPUTS, Violation


def check_outputs(run: RunDir, recipe: Recipe) -> list[Violation]:
    """The stages from `prompts` to `select` whose output is not what their manifests, or those of later stages, say.

    `row` of a violation is the name of the stage.
    """
    manifests: dict[str, Manifest | None] = {s: run.manifest(s) for s in recipe.stages if s in DIGESTS}
    violations = []

    def violation(stage: str, why: str) -> None:
        violations.append(Violation(rule=OUTPUTS, row=stage, why=why))

    for stage, manifest in manifests.items():
        if manifest is None:
            violation(stage, f"{stage}/manifest.json is missing, so nothing proves the stage's output")
        elif other := _other_inputs(manifest, manifests):
            why = f"was made from another output of {' and '.join(other)}; `fusechat {stage}` makes it again"
            violation(stage, why)
        elif (now := _digest(run, recipe, stage)) is None:
            violation(stage, "a file is missing or can't be read")
        elif now != manifest.data:
            violation(stage, f"its files differ from what the stage wrote, by the hash in {stage}/manifest.json")
    return violations


def _digest(run: RunDir, recipe: Recipe, stage: str) -> str | None:
    """Hash of the stage's stored output, or None if a file is missing or can't be read."""
    try:
        return DIGESTS[stage](run, recipe)
    except (ValueError, KeyError, OSError, FusechatError):  # ValueError: from Arrow
        return None


def _other_inputs(manifest: Manifest, manifests: Mapping[str, Manifest | None]) -> list[str]:
    """The stages whose output is not the one that was read."""
    found = []
    for stage, fingerprint in manifest.inputs.items():
        now = manifests.get(stage)
        if now is not None and now.fingerprint != fingerprint:
            found.append(stage)
    return found


def _prompts(run: RunDir, recipe: Recipe) -> str:
    def stored(folder: str, key: str) -> str:
        files = run.files("prompts", folder)
        # Earlier versions wrote fewer columns, and hashed those.
        schema = run.read_table(files[0]).schema if files else pa.schema([(key, pa.string())])
        return Parts(run, f"prompts/{folder}", schema, key).digest(recipe.sample.buckets)

    train, heldout, responses = (
        stored("train", "prompt_id"),
        stored("heldout", "prompt_id"),
        stored("responses", "carried_id"),
    )
    scores = stored("scores", "score_id") if run.files("prompts", "scores") else None
    return prompts_digest(run, train, heldout, responses, scores)


def _sample(run: RunDir, recipe: Recipe) -> str:
    """Only responses that the recipe asked for count. Those are the ones that have a score, or a reason for none.

    After a change of the number of buckets, a bucket may still have responses of another one.
    """
    parts, scored = Parts(run, "sample", RESPONSE, "response_id"), Parts(run, "score", SCORE, "response_id")
    digests = []
    for bucket in range(recipe.sample.buckets):
        if rows := parts.read(bucket, ["text", "reject"]).to_pylist():
            wanted = scored.ids(bucket)
            digests.append(texts_digest([r for r in rows if r["response_id"] in wanted]))
    return digest(digests)


def _score(run: RunDir, recipe: Recipe) -> str:
    rows = [row for file in run.files("score") for row in run.read_table(file).to_pylist()]
    rows.sort(key=lambda row: str(row["response_id"]))
    return scores_digest(rows, run.read_json("score", "agreement.json")["chosen"])


def _select(run: RunDir, recipe: Recipe) -> str:
    return selected_digest(run)


DIGESTS: dict[str, Callable[[RunDir, Recipe], str]] = {
    "prompts": _prompts,
    "sample": _sample,
    "score": _score,
    "select": _select,
}
"""Stage -> computes `Manifest.data` of its stored output."""
