"""The numbers and texts of a run's report, read from the files of the run."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ..evaluation.result_types import HeldoutMetrics
from ..recipe import DOMAINS, VERIFIED_DOMAINS, Margin, Recipe
from ..records import FINISHED, RESPONSE, SCORE, AnswerRow, ResponseRow, ScoreRow
from ..scoring.agreement import AgreementReport, RewardRelations
from ..selection.funnel import Funnel, unit
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from . import benchmarks
from .content_types import (
    Example,
    FunnelRow,
    ReportContent,
    ResponseCounts,
    StageSummary,
    Yields,
)
from .paper_table import paper_table

NUM_EXAMPLES = 12


def collect_content(run: RunDir, recipe: Recipe) -> ReportContent:
    """Every number and text of the report."""
    responses: list[ResponseRow] = Parts(run, "sample", RESPONSE, "response_id").read().to_pylist()
    scored: list[ScoreRow] = Parts(run, "score", SCORE, "response_id").read().to_pylist()
    scores = {s["response_id"]: s for s in scored}
    responses = [r for r in responses if r["response_id"] in scores] if scores else responses
    agreement: AgreementReport | None = _read_json(run, "score", "agreement.json")
    chosen = agreement["chosen"] if agreement else None
    funnel: Funnel | None = _read_json(run, "select", "funnel.json")
    metrics: HeldoutMetrics | None = _read_json(run, "evaluate", "metrics.json")
    windows = {d: recipe.select.rule(d).margin for d in DOMAINS} if recipe.dataset is None else {}
    suites = benchmarks.load_benchmarks(run)
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "prompt_tables": _read_json(run, "prompts", "tables.json") or [],
        "funnel": funnel,
        "funnel_rows": _funnel_rows(funnel),
        "counted": unit(funnel) if funnel else "prompts",
        "imported": recipe.dataset is not None,
        "agreement": agreement,
        "responses": _responses_by_source(responses, scores),
        "relations": _relations(agreement),
        "rewards": _rewards(responses, scores, chosen),
        "unit": _unit(recipe, chosen),
        "margins": _margins(responses, scores, chosen),
        "yields": _yields(run, recipe),
        "windows": {d: (window.min, window.max) for d, window in windows.items()},
        "curves": {s: _loss_curve(run, s) for s in ("sft", "dpo") if run.exists(s, "metrics.jsonl")},
        "metrics": metrics,
        "benchmarks": suites,
        "paper": paper_table(suites, None if recipe.target is None else recipe.target.model.hub),
        "headline": _headline(metrics, recipe, suites),
        "examples": _examples(run, recipe),
        "stages": _stages(run, recipe),
    }


def _read_json(run: RunDir, *parts: str) -> Any:
    """Content of a JSON file, or None if the stage that writes it was not run."""
    return run.read_json(*parts) if run.exists(*parts) else None


def _relations(agreement: AgreementReport | None) -> RewardRelations:
    """The relations of the rewards; empty if the run's score stage did not write them."""
    nothing: RewardRelations = {"verdicts": {}, "lengths": {}, "ranks": []}
    return nothing if agreement is None else {**nothing, **agreement.get("run", nothing)}


def _unit(recipe: Recipe, chosen: str | None) -> str:
    kind = next((r.kind for r in recipe.rewards if r.name == chosen), "")
    names = {
        "likelihood": "mean log-probability, nats a token",
        "judge": "rating",
        "armorm": "ArmoRM score",
        "classifier": "logit",
        "imported": "imported score",
    }
    return f"{chosen}: {names.get(kind, 'score')}"


def _funnel_rows(funnel: Funnel | None) -> list[FunnelRow]:
    """The template compares the sum of the counts with the number of prompts."""
    if not funnel:
        return []
    total = funnel["num_prompts"]
    rows: list[FunnelRow] = [
        {"reason": r, "num": n, "share": n / total if total else 0} for r, n in funnel["reasons"].items()
    ]
    return sorted(rows, key=lambda x: (not x["reason"].startswith("selected"), -x["num"]))


def _responses_by_source(responses: Sequence[ResponseRow], scores: Mapping[str, ScoreRow]) -> list[ResponseCounts]:
    groups: dict[tuple[str, str], list[ResponseRow]] = defaultdict(list)
    for r in responses:
        groups[r["source"], r["domain"]].append(r)
    table: list[ResponseCounts] = []
    for (source, domain), rows in sorted(groups.items()):
        verdicts = [scores[r["response_id"]]["correct"] for r in rows if r["response_id"] in scores]
        verified = [correct for correct in verdicts if correct is not None]
        table.append(
            {
                "source": source,
                "domain": domain,
                "num": len(rows),
                "finished": sum(r["finish_reason"] in FINISHED for r in rows),
                "rejected": sum(bool(r["reject"]) for r in rows),
                "correct": sum(verified) if verified else None,
                "verified": len(verified),
                "tokens": sum(r["completion_tokens"] for r in rows) / len(rows),
                "counted": any(r["completion_tokens"] or r["finish_reason"] != "imported" for r in rows),
            }
        )
    return table


def _reward(score: ScoreRow | None, chosen: str | None) -> float | None:
    """The score of the chosen reward model, if it is finite."""
    value = dict(score["rewards"]).get(chosen) if score is not None and chosen is not None else None
    return value if value is not None and math.isfinite(value) else None


def _rewards(
    responses: Sequence[ResponseRow], scores: Mapping[str, ScoreRow], chosen: str | None
) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for r in responses:
        value = _reward(scores.get(r["response_id"]), chosen)
        if value is not None:
            correct = scores[r["response_id"]]["correct"]
            verdict = "" if correct is None else " correct" if correct else " wrong"
            groups[f"{r['source']} {r['domain']}{verdict}"].append(value)
    return dict(sorted(groups.items()))


def _margins(
    responses: Sequence[ResponseRow], scores: Mapping[str, ScoreRow], chosen: str | None
) -> dict[str, list[float]]:
    """Best minus worst reward of one source, once for each prompt and source, before the margin window is applied."""
    groups: dict[tuple[str, str, str], list[tuple[float, bool | None]]] = defaultdict(list)
    for r in responses:
        value = _reward(scores.get(r["response_id"]), chosen)
        if value is not None and r["finish_reason"] in FINISHED:
            groups[r["domain"], r["prompt_id"], r["source"]].append((value, scores[r["response_id"]]["correct"]))
    margins: dict[str, list[float]] = defaultdict(list)
    for (domain, _, _), members in groups.items():
        if domain in VERIFIED_DOMAINS:
            right, wrong = [v for v, c in members if c], [v for v, c in members if c is False]
            if right and wrong:
                margins[domain].append(max(right) - min(wrong))
        elif len(members) > 1 and domain == "instruction":
            values = [v for v, _ in members]
            margins[domain].append(max(values) - min(values))
    return dict(margins)


def _yields(run: RunDir, recipe: Recipe) -> Yields | None:
    """Prompts with a pair, by the upper end of a window that starts at the recipe's smallest margin."""
    from ..dataset import margins

    if not run.exists("select", "candidates.parquet"):
        return None
    candidates = margins.stored(run)
    if not candidates.height:
        return None
    select = recipe.select if recipe.dataset is None else None  # an imported data set has no window
    windows = {d: select.rule(d).margin if select else Margin() for d in candidates["domain"].unique()}
    low = min(w.min for w in windows.values())
    ends = margins.edges(candidates, low)
    curves = margins.curve(candidates, low, ends)
    return {"edges": ends, "curves": curves, "low": low, "tops": {d: w.max for d, w in windows.items()}}


def _loss_curve(run: RunDir, stage: str) -> list[tuple[int, float]]:
    lines = run.local_path(stage, "metrics.jsonl").read_text("utf-8").splitlines()
    return [(m["step"], m["loss"]) for line in lines if "loss" in (m := json.loads(line))]


def _headline(metrics: HeldoutMetrics | None, recipe: Recipe, suites: benchmarks.Benchmarks | None) -> str:
    if "evaluate" not in recipe.stages:
        return "The recipe evaluates no model."
    if not metrics and suites is not None:
        return f"The models were evaluated on {len(suites['suites'])} benchmarks. There are no held-out prompts."
    if not metrics:
        return "The models have not been evaluated."
    verified = {(c["model"], c["baseline"]): c for c in metrics["comparisons"] if c["domain"] == "verified"}
    last = last_model(recipe)
    comparison = verified.get((last, "target"))
    if comparison is None:
        return "There are no verified held-out answers."
    before, after = metrics["models"]["target"]["verified"], metrics["models"][last]["verified"]
    trained = " and ".join(stage.upper() for stage in recipe.trainings)
    low, high = comparison["low"], comparison["high"]
    verb = "rose" if low > 0 else "fell" if high < 0 else "did not change beyond chance"
    return (
        f"Held-out accuracy {verb}: {100 * before['accuracy']:.1f}% before, {100 * after['accuracy']:.1f}% after "
        f"{trained}, a difference of {100 * comparison['difference']:+.1f} points (95% interval {100 * low:+.1f} to "
        f"{100 * high:+.1f}, {comparison['num_items']} prompts)."
    )


def last_model(recipe: Recipe) -> str:
    """The model that the last training makes, or the target."""
    return next(reversed(recipe.trainings), "target")


def _examples(run: RunDir, recipe: Recipe) -> list[Example]:
    """Up to NUM_EXAMPLES prompts with the answers of the run's models, chosen by a fixed rule.

    There are four kinds: got better, got worse, judged (not verified) and unchanged. The kinds take turns, and each
    gives its prompts in the order of their ids.
    """
    if not run.exists("evaluate", "answers.parquet"):
        return []
    prompts: dict[str, Example] = {}
    answers: list[AnswerRow] = run.read_table("evaluate", "answers.parquet").to_pylist()
    for a in answers:
        entry = prompts.setdefault(
            a["prompt_id"], {"id": a["id"], "domain": a["domain"], "prompt": a["prompt"], "answers": {}}
        )
        entry["answers"][a["model"]] = a
    kinds: dict[str, list[Example]] = {"got better": [], "got worse": [], "judged": [], "unchanged": []}
    last = last_model(recipe)
    for _, entry in sorted(prompts.items()):
        if not {"target", last} <= entry["answers"].keys():
            continue
        before, after = entry["answers"]["target"]["correct"], entry["answers"][last]["correct"]
        if after is None:
            kind = "judged"
        elif before == after:
            kind = "unchanged"
        else:
            kind = "got better" if after else "got worse"
        kinds[kind].append({**entry, "kind": kind})
    chosen: list[Example] = []
    while len(chosen) < NUM_EXAMPLES and any(kinds.values()):
        for members in kinds.values():
            if members and len(chosen) < NUM_EXAMPLES:
                chosen.append(members.pop(0))
    return chosen


def _stages(run: RunDir, recipe: Recipe) -> list[StageSummary]:
    summaries: list[StageSummary] = []
    for stage in recipe.stages[:-1]:
        manifest = run.manifest(stage)
        if manifest is None:
            summaries.append({"stage": stage, "run": False})
            continue
        summaries.append(
            {
                "stage": stage,
                "run": True,
                "seconds": manifest.seconds,
                "tokens": manifest.tokens,
                "counts": ", ".join(f"{v} {k}" for k, v in manifest.counts.items()),
                "fingerprint": manifest.fingerprint[:16],
                "versions": ", ".join(f"{k} {v}" for k, v in Counter(manifest.versions).items()),
            }
        )
    return summaries
