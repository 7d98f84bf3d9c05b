"""Why a row is there and another is not: from any identity to all that the run directory knows of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import polars as pl
import pyarrow as pa

from ..errors import UserError
from ..recipe import VERIFIED_DOMAINS, Domain, Recipe
from ..selection.apply_rule import in_sft_share
from ..selection.rule import REASONS, STATUSES, CandidateResponse, decide, status
from ..storage.run_dir import RunDir

MODELS = {"sft": "sft", "dpo": "pairs"}
"""Stage -> the table of select/ that it is trained on."""

SHORTEST = 4
"""Characters of a prefix; a user's own id is always taken whole."""


def trace(run: RunDir, recipe: Recipe, identity: str) -> dict[str, Any]:
    """What stands behind an identity; JSON with `kind` row, response, prompt, reject or model.

    Args:
        identity: a row's, response's or prompt's identity or the start of one, a prompt's own id, or `sft` or `dpo`.

    Raises:
        UserError: nothing has it, or several things.
    """
    if identity in MODELS:
        return _model(run, identity)
    found: dict[tuple[str, str], Callable[[], dict[str, Any]]] = {}
    for table in ("sft", "pairs"):
        for row in _starting(run, [f"select/{table}.parquet"], "row_id", identity):
            found["row", row["row_id"]] = partial(_row, run, recipe, row, table)
    for response in _starting(run, run.files("sample"), "response_id", identity):
        found["response", response["response_id"]] = partial(_one_response, run, recipe, response)
    prompts = run.files("prompts", "train")
    for prompt in [*_starting(run, prompts, "prompt_id", identity), *_equal(run, prompts, "id", identity)]:
        found["prompt", prompt["prompt_id"]] = partial(_whole_prompt, run, recipe, prompt["prompt_id"])
    if not found:
        for reject in _equal(run, ["prompts/rejects.parquet"], "id", identity):
            found["reject", reject["id"]] = partial(dict, {"kind": "reject"}, **reject)
    if not found:
        raise UserError(
            f"trace: {identity!r} starts no identity of a row, response or prompt (at least {SHORTEST} characters), "
            "and is neither a prompt's own id nor sft or dpo"
        )
    if len(found) > 1:
        some = ", ".join(f"{kind} {name[:16]}" for kind, name in sorted(found)[:4])
        raise UserError(f"trace: {identity!r} is the start of {len(found)} identities ({some}); give more of it")
    return next(iter(found.values()))()


def lines(found: dict[str, Any]) -> Iterable[str]:
    """What was traced, as indented text; values are quoted as JSON, so nothing a model wrote acts on a terminal."""
    yield from _lines(found, 0)


def _lines(value: Any, depth: int) -> Iterable[str]:
    pad = "  " * depth
    for key, item in value.items():
        if isinstance(item, dict):
            yield f"{pad}{key}:"
            yield from _lines(item, depth + 1)
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            yield f"{pad}{key}: {len(item)}"
            for one in item:
                yield from _lines(
                    {f"- {k}" if i == 0 else f"  {k}": v for i, (k, v) in enumerate(one.items())}, depth + 1
                )
        else:
            yield f"{pad}{key}: {item if isinstance(item, int | float) else json.dumps(item, ensure_ascii=True)}"


def _row(run: RunDir, recipe: Recipe, row: dict[str, Any], table: str) -> dict[str, Any]:
    ids = [row["response_id"]] if table == "sft" else [row["chosen_id"], row["rejected_id"]]
    responses = {r["response_id"]: r for r in _responses(run, recipe, row["prompt_id"])}
    return {
        "kind": "row",
        "table": f"select/{table}.parquet",
        "row": {k: v for k, v in row.items() if k not in ("prompt", "completion", "chosen", "rejected")},
        "outcome": _outcome(run, row["prompt_id"]),
        "prompt": _prompt(run, row["prompt_id"]),
        "responses": [responses[i] for i in ids if i in responses],
    }


def _one_response(run: RunDir, recipe: Recipe, response: dict[str, Any]) -> dict[str, Any]:
    prompt = response["prompt_id"]
    found = next(r for r in _responses(run, recipe, prompt) if r["response_id"] == response["response_id"])
    return {"kind": "response", **found, "outcome": _outcome(run, prompt), "prompt": _prompt(run, prompt)}


def _whole_prompt(run: RunDir, recipe: Recipe, prompt: str) -> dict[str, Any]:
    rows = [r["row_id"] for t in MODELS.values() for r in _equal(run, [f"select/{t}.parquet"], "prompt_id", prompt)]
    return {
        "kind": "prompt",
        "prompt": _prompt(run, prompt),
        "outcome": _outcome(run, prompt),
        "rows": rows,
        "responses": _responses(run, recipe, prompt),
    }


def _outcome(run: RunDir, prompt: str) -> dict[str, Any] | None:
    for row in _equal(run, ["select/outcomes.parquet"], "prompt_id", prompt):
        return {"reason": row["reason"], "means": REASONS.get(row["reason"], ""), "source": row["source"]}
    return None


def _prompt(run: RunDir, prompt: str) -> dict[str, Any] | None:
    return next(iter(_equal(run, run.files("prompts", "train"), "prompt_id", prompt)), None)


def _responses(run: RunDir, recipe: Recipe, prompt: str) -> list[dict[str, Any]]:
    """The prompt's responses with their scores and what became of each, which the rule says once more."""
    rows = _equal(run, run.files("sample"), "prompt_id", prompt)
    scores = {s["response_id"]: s for s in _equal(run, run.files("score"), "prompt_id", prompt)}
    chosen = run.read_json("score", "agreement.json")["chosen"] if run.exists("score", "agreement.json") else None
    known = [s.name for s in recipe.sources]
    candidates = {
        r["response_id"]: CandidateResponse(
            response_id=r["response_id"],
            source=r["source"],
            text=r["text"],
            tokens=r["completion_tokens"],
            finished=r["finish_reason"] != "length",
            rejected=bool(r["reject"]),
            correct=scores[r["response_id"]]["correct"],
            reward=dict(scores[r["response_id"]]["rewards"]).get(chosen),
        )
        for r in rows
        if r["response_id"] in scores and r["source"] in known
    }
    domain: Domain = rows[0]["domain"] if rows else "instruction"
    rule, verified = recipe.select.rule(domain), domain in VERIFIED_DOMAINS
    share = in_sft_share(prompt, rule)
    decision = decide(list(candidates.values()), verified=verified, rule=rule, sft_share=share)
    found = []
    for r in sorted(rows, key=lambda r: (r["source"], r["sample_index"], r["response_id"])):
        mine, score = candidates.get(r["response_id"]), scores.get(r["response_id"])
        name = status(mine, decision, verified=verified, rule=rule) if mine else "aside"
        means = STATUSES.get(name, "of an earlier plan or of a source that is none of the recipe's")
        told: dict[str, Any] = {"status": name, "means": means}
        if score is not None:
            told |= {n: dict(score[n]) for n in ("rewards", "reward_rejects")}
            told |= {n: score[n] for n in ("correct", "verdict", "detail")}
        found.append({**r, **told})
    return found


def _model(run: RunDir, stage: str) -> dict[str, Any]:
    """The rows that a training saw: those of the table that the training did not refuse."""
    manifest = run.manifest(stage)
    if manifest is None or not run.exists(stage, "result.json"):
        raise UserError(f"trace: the stage {stage} has not been run in {run.url}")
    folder = run.read_json(stage, "result.json")["folder"]
    refused = (stage, folder, "rejects.parquet")
    rejects = run.read_table(*refused).to_pylist() if run.exists(*refused) else []
    gone = {r["id"] for r in rejects}
    rows = run.read_table("select", f"{MODELS[stage]}.parquet", columns=["row_id"]).column("row_id").to_pylist()
    selected = run.manifest("select")
    newer = selected is not None and manifest.inputs.get("select") != selected.fingerprint
    return {
        "kind": "model",
        "stage": stage,
        "folder": f"{stage}/{folder}",
        "fingerprint": manifest.fingerprint,
        "versions": manifest.versions,
        "selection_changed_since": newer,
        "num_rows": len(rows) - len(gone),
        "rejects": rejects,
        "starts_from": "dpo starts from the sft model" if stage == "dpo" else "the target",
        "rows": [r for r in rows if r not in gone],
    }


def _starting(run: RunDir, files: list[str], column: str, prefix: str) -> list[dict[str, Any]]:
    if len(prefix) < SHORTEST:
        return []
    return _rows(run, files, column, pl.col(column).str.starts_with(prefix))


def _equal(run: RunDir, files: list[str], column: str, value: str) -> list[dict[str, Any]]:
    return _rows(run, files, column, pl.col(column) == value)


def _rows(run: RunDir, files: list[str], column: str, matches: pl.Expr) -> list[dict[str, Any]]:
    """The rows that match; the whole row is read only from files where one does. A row in two files counts once."""
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        if not run.exists(file):
            continue
        keys = pl.from_arrow(run.read_table(file, columns=[column]))
        assert isinstance(keys, pl.DataFrame)
        places = keys.with_row_index().filter(matches)["index"]
        if len(places):
            for row in run.read_table(file).take(pa.array(places.to_list())).to_pylist():
                found.setdefault(json.dumps(row, sort_keys=True, default=str), row)
    return list(found.values())
