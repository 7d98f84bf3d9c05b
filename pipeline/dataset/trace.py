"""Traces a row, response, prompt or model back to everything that the run directory contains about it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import polars as pl
import pyarrow as pa

from ..errors import UserError
from ..prompts.ready_dataset import REASONS as IMPORTED_REASONS
from ..recipe import Domain, Recipe
from ..records import OutcomeRow, PairRow, PromptRow, RejectRow, ResponseRow, ScoreRow, SftRow
from ..scoring.agreement import AgreementReport
from ..selection.rule import REASONS, STATUSES
from ..storage.run_dir import RunDir
from .decisions import decide_again
from .trace_types import (
    ModelTrace,
    PromptTrace,
    RejectTrace,
    ResponseTrace,
    RowTrace,
    Trace,
    TracedOutcome,
    TracedResponse,
    TracedScores,
)

MODELS = {"sft": "sft", "dpo": "pairs"}
"""Stage -> the table of select/ that it trains on."""

SHORTEST = 4
"""Minimum length of an identity's prefix. A user's own id must be given in full."""


def trace(run: RunDir, recipe: Recipe, identity: str) -> Trace:
    """Everything that the run directory contains about an identity, as JSON.

    Args:
        identity: identity of a row, response or prompt, or the start of one; a prompt's own id; or `sft` or `dpo`.

    Raises:
        UserError: nothing has this identity, or several things do.
    """
    if identity in MODELS:
        return _trace_model(run, recipe, identity)
    matches: dict[tuple[str, str], Callable[[], Trace]] = {}
    for table in ("sft", "pairs"):
        for row in _starting(run, [f"select/{table}.parquet"], "row_id", identity):
            ids = [row["response_id"]] if table == "sft" else [row["chosen_id"], row["rejected_id"]]
            matches["row", row["row_id"]] = partial(_trace_row, run, recipe, row, table, ids)
    for response in _starting(run, run.files("sample"), "response_id", identity):
        matches["response", response["response_id"]] = partial(_trace_response, run, recipe, response)
    prompts = _prompt_files(run)
    for prompt in [*_starting(run, prompts, "prompt_id", identity), *_equal(run, prompts, "id", identity)]:
        matches["prompt", prompt["prompt_id"]] = partial(_trace_prompt, run, recipe, prompt["prompt_id"])
    if not matches:
        for reject in _equal(run, ["prompts/rejects.parquet", "select/rejects.parquet"], "id", identity):
            matches["reject", reject["id"]] = partial(_trace_reject, reject)
    if not matches:
        raise UserError(
            f"trace: {identity!r} is not the start of a row's, response's or prompt's identity (at least {SHORTEST} "
            "characters), not a prompt's own id, and neither sft nor dpo"
        )
    if len(matches) > 1:
        examples = ", ".join(f"{kind} {name[:16]}" for kind, name in sorted(matches)[:4])
        raise UserError(
            f"trace: {identity!r} is the start of {len(matches)} identities ({examples}); give a longer one"
        )
    return next(iter(matches.values()))()


def lines(trace: Mapping[str, object], depth: int = 0) -> Iterable[str]:
    """A trace as indented text. Values are quoted as JSON, so that model-written text can't control a terminal."""
    indent = "  " * depth
    for key, value in trace.items():
        if isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from lines(value, depth + 1)
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield f"{indent}{key}: {len(value)}"
            for entry in value:
                bulleted = {f"- {k}" if i == 0 else f"  {k}": v for i, (k, v) in enumerate(entry.items())}
                yield from lines(bulleted, depth + 1)
        else:
            yield f"{indent}{key}: {value if isinstance(value, int | float) else json.dumps(value, ensure_ascii=True)}"


def _trace_row(run: RunDir, recipe: Recipe, row: SftRow | PairRow, table: str, ids: Sequence[str]) -> RowTrace:
    """Traces a row of the data set.

    Args:
        ids: ids of the row's responses.
    """
    responses = {r["response_id"]: r for r in _responses(run, recipe, row["prompt_id"])}
    return {
        "kind": "row",
        "table": f"select/{table}.parquet",
        "row": {k: v for k, v in row.items() if k not in ("prompt", "completion", "chosen", "rejected")},
        "outcome": _outcome(run, recipe, row["prompt_id"]),
        "prompt": _prompt(run, row["prompt_id"]),
        "responses": [responses[i] for i in ids if i in responses],
    }


def _trace_response(run: RunDir, recipe: Recipe, response: ResponseRow) -> ResponseTrace:
    prompt = response["prompt_id"]
    traced = next(r for r in _responses(run, recipe, prompt) if r["response_id"] == response["response_id"])
    return {"kind": "response", **traced, "outcome": _outcome(run, recipe, prompt), "prompt": _prompt(run, prompt)}


def _trace_prompt(run: RunDir, recipe: Recipe, prompt: str) -> PromptTrace:
    rows = [r["row_id"] for t in MODELS.values() for r in _equal(run, [f"select/{t}.parquet"], "prompt_id", prompt)]
    return {
        "kind": "prompt",
        "prompt": _prompt(run, prompt),
        "outcome": _outcome(run, recipe, prompt),
        "rows": rows,
        "responses": _responses(run, recipe, prompt),
    }


def _trace_reject(reject: RejectRow) -> RejectTrace:
    return {"kind": "reject", **reject}


def _outcome(run: RunDir, recipe: Recipe, prompt: str) -> TracedOutcome | None:
    rows: list[OutcomeRow] = _equal(run, ["select/outcomes.parquet"], "prompt_id", prompt)
    if not rows:
        return None
    reason = rows[0]["reason"]
    means = (REASONS if recipe.dataset is None else IMPORTED_REASONS).get(reason, "")
    return {"reason": reason, "means": means, "source": rows[0]["source"]}


def _prompt(run: RunDir, prompt: str) -> PromptRow | None:
    return next(iter(_equal(run, _prompt_files(run), "prompt_id", prompt)), None)


def _prompt_files(run: RunDir) -> list[str]:
    """Files with training prompts, those of an imported data set too."""
    return [*run.files("prompts", "train"), *run.files("select", "prompts")]


def _responses(run: RunDir, recipe: Recipe, prompt: str) -> list[TracedResponse]:
    """The prompt's responses with their scores and their statuses. The selection rule is applied again to get these."""
    rows: list[ResponseRow] = _equal(run, run.files("sample"), "prompt_id", prompt)
    score_rows: list[ScoreRow] = _equal(run, run.files("score"), "prompt_id", prompt)
    scores = {s["response_id"]: s for s in score_rows}
    domain: Domain = rows[0]["domain"] if rows else "instruction"
    statuses = decide_again(prompt, domain, rows, scores, _chosen_reward_model(run), recipe).statuses
    traced: list[TracedResponse] = []
    for row in sorted(rows, key=lambda r: (r["source"], r["sample_index"], r["response_id"])):
        name, score = statuses.get(row["response_id"], "aside"), scores.get(row["response_id"])
        means = STATUSES.get(name, "from an earlier plan, or from a source that is not in the recipe")
        traced.append({**row, "status": name, "means": means, **_scores(score)})
    return traced


def _scores(score: ScoreRow | None) -> TracedScores:
    if score is None:
        return {}
    return {
        "rewards": dict(score["rewards"]),
        "reward_rejects": dict(score["reward_rejects"]),
        "correct": score["correct"],
        "verdict": score["verdict"],
        "detail": score["detail"],
    }


def _chosen_reward_model(run: RunDir) -> str | None:
    if not run.exists("score", "agreement.json"):
        return None
    agreement: AgreementReport = run.read_json("score", "agreement.json")
    return agreement["chosen"]


def _trace_model(run: RunDir, recipe: Recipe, stage: str) -> ModelTrace:
    """The rows that a model was trained on: those of the table that the training did not reject."""
    manifest = run.manifest(stage)
    if manifest is None or not run.exists(stage, "result.json"):
        raise UserError(f"trace: the stage {stage} has not been run in {run.url}")
    folder = run.read_json(stage, "result.json")["folder"]
    path = (stage, folder, "rejects.parquet")
    rejects: list[RejectRow] = run.read_table(*path).to_pylist() if run.exists(*path) else []
    rejected = {r["id"] for r in rejects}
    rows = run.read_table("select", f"{MODELS[stage]}.parquet", columns=["row_id"]).column("row_id").to_pylist()
    selected = run.manifest("select")
    return {
        "kind": "model",
        "stage": stage,
        "folder": f"{stage}/{folder}",
        "fingerprint": manifest.fingerprint,
        "versions": manifest.versions,
        "selection_changed_since": selected is not None and manifest.inputs.get("select") != selected.fingerprint,
        "num_rows": len(rows) - len(rejected),
        "rejects": rejects,
        "starts_from": "dpo starts from the sft model" if stage == "dpo" and recipe.sft is not None else "the target",
        "rows": [r for r in rows if r not in rejected],
    }


def _starting(run: RunDir, files: Sequence[str], column: str, prefix: str) -> list[Any]:
    if len(prefix) < SHORTEST:
        return []
    return _rows(run, files, column, pl.col(column).str.starts_with(prefix))


def _equal(run: RunDir, files: Sequence[str], column: str, value: str) -> list[Any]:
    return _rows(run, files, column, pl.col(column) == value)


def _rows(run: RunDir, files: Sequence[str], column: str, matches: pl.Expr) -> list[Any]:
    """The rows that match, without repeats. First reads only `column`, then whole rows of the files with a match."""
    rows: dict[str, object] = {}
    for file in files:
        if not run.exists(file):
            continue
        keys = pl.from_arrow(run.read_table(file, columns=[column]))
        assert isinstance(keys, pl.DataFrame)
        numbers = keys.with_row_index().filter(matches)["index"]
        if len(numbers):
            for row in run.read_table(file).take(pa.array(numbers.to_list())).to_pylist():
                rows.setdefault(json.dumps(row, sort_keys=True, default=str), row)
    return list(rows.values())
