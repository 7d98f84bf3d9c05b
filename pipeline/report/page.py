"""The report of a run: one self-contained page and the same numbers in Markdown, from files alone."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..recipe import VERIFIED_DOMAINS, Recipe
from ..records import FINISHED, RESPONSE, SCORE
from ..storage.manifest import STAGES
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from . import benchmarks, plots, suite_plots

DOMAINS = {
    "verified": "math + code",
    "math": "math",
    "code": "code",
    "verified_seen": "seen templates",
    "verified_unseen": "unseen templates",
}
NUM_EXAMPLES = 12
CLIP = 700


def write(run: RunDir, recipe: Recipe) -> Path:
    """Writes the page, the same in Markdown, and the suites' table; returns the page's path. A stage that was not run
    is said so."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    content = collect(run, recipe)
    figures = {name: Markup(svg) for name, svg in draw(content).items()}
    environment = Environment(
        loader=PackageLoader("fusechat.pipeline.report", "templates"),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda x: f"{100 * x:.1f}"
    environment.filters["points"] = lambda x: f"{100 * x:+.1f}"
    environment.filters["number"] = lambda x: "none" if x is None else f"{x:.3f}"
    environment.filters["p"] = lambda x: "< 0.001" if x < 0.001 else f"{x:.3f}"
    environment.filters["cell"] = benchmarks.words
    environment.filters["clean"] = clean
    environment.filters["quoted"] = quoted
    suites = content["benchmarks"]
    more = {"domains": DOMAINS, "note": benchmarks.NOTE, "table": suites and benchmarks.markdown(suites)}
    page = environment.get_template("report.html.jinja").render(figures=figures, **more, **content)
    text = environment.get_template("report.md.jinja").render(**more, **content)
    if suites:
        benchmarks.write(run, suites)
    run.write_bytes(page.encode("utf-8", "replace"), "report", "report.html")
    run.write_bytes(text.encode("utf-8", "replace"), "report", "report.md")
    return run.local_path("report", "report.html")


def collect(run: RunDir, recipe: Recipe) -> dict[str, Any]:
    """Every number and text of the report."""
    responses = Parts(run, "sample", RESPONSE, "response_id").read().to_pylist()
    scores = {s["response_id"]: s for s in Parts(run, "score", SCORE, "response_id").read().to_pylist()}
    responses = [r for r in responses if r["response_id"] in scores] if scores else responses
    agreement = _json(run, "score", "agreement.json")
    chosen = agreement["chosen"] if agreement else None
    funnel = _json(run, "select", "funnel.json")
    metrics = _json(run, "evaluate", "metrics.json")
    return {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "funnel": funnel,
        "funnel_rows": _funnel_rows(funnel),
        "agreement": agreement,
        "responses": _by_source(responses, scores),
        "relations": _relations(agreement),
        "rewards": _rewards(responses, scores, chosen),
        "unit": _unit(recipe, chosen),
        "margins": _margins(responses, scores, chosen),
        "yields": _yields(run, recipe),
        "windows": {d: (recipe.select.rule(d).margin.min, recipe.select.rule(d).margin.max) for d in _domains()},
        "curves": {s: _curve(run, s) for s in ("sft", "dpo") if run.exists(s, "metrics.jsonl")},
        "metrics": metrics,
        "benchmarks": benchmarks.collect(run),
        "headline": _headline(metrics),
        "examples": _examples(run),
        "stages": _stages(run),
    }


def draw(content: dict[str, Any]) -> dict[str, str]:
    """The pictures, those whose stage was run."""
    makers: dict[str, Callable[[], str]] = {}
    if content["funnel"]:
        makers["funnel"] = lambda: plots.funnel(content["funnel"]["by_domain"])
    if content["rewards"]:
        makers["rewards"] = lambda: plots.rewards(content["rewards"], content["unit"])
    relations = content["relations"]
    if any(found["points"] for found in relations["lengths"].values()):
        makers["lengths"] = lambda: plots.lengths(relations["lengths"])
    if relations["ranks"]:
        makers["ranks"] = lambda: plots.ranks(relations["ranks"])
    if any(content["margins"].values()):
        makers["margins"] = lambda: plots.margins(content["margins"], content["windows"], content["unit"])
    if content["yields"]:
        makers["yields"] = lambda: plots.yield_curves(**content["yields"], unit=content["unit"]).decode()
    if any(content["curves"].values()):
        makers["losses"] = lambda: plots.losses(content["curves"])
    if content["metrics"]:
        makers["accuracies"] = lambda: plots.accuracies(content["metrics"]["models"], DOMAINS)
    if suites := content["benchmarks"]:
        lines, names = suites["lines"], suites["names"]
        makers["bars"] = lambda: suite_plots.bars(lines, names)
        if suite_plots.can_radar(lines, names):
            makers["radar"] = lambda: suite_plots.radar(lines, names)
    return {name: make() for name, make in makers.items()}


def clean(text: str, limit: int = CLIP) -> str:
    """Model text fit to be shown: clipped, control and direction characters made visible."""
    shown = "".join(c if c in "\n\t" or (c.isprintable() and not _turns(c)) else f"\\u{ord(c):04x}" for c in text)
    return shown if len(shown) <= limit else f"{shown[:limit]} … ({len(shown) - limit} more characters)"


def quoted(text: str) -> str:
    """Model text in Markdown: an indented block, which nothing inside can end."""
    return "\n".join("    " + line for line in clean(text).splitlines()) or "    (empty)"


def _turns(c: str) -> bool:
    return c in "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def _domains() -> tuple[Any, ...]:
    from ..recipe import DOMAINS as names

    return names


def _json(run: RunDir, *parts: str) -> Any:
    return run.read_json(*parts) if run.exists(*parts) else None


def _relations(agreement: Any) -> dict[str, Any]:
    """How rewards relate to verdicts, length and one another; empty where the run's score stage did not say."""
    found = (agreement or {}).get("run", {})
    return {"verdicts": found.get("verdicts", {}), "lengths": found.get("lengths", {}), "ranks": found.get("ranks", [])}


def _unit(recipe: Recipe, chosen: str | None) -> str:
    kind = next((r.kind for r in recipe.rewards if r.name == chosen), "")
    names = {
        "likelihood": "mean log-probability, nats a token",
        "judge": "rating",
        "armorm": "ArmoRM score",
        "classifier": "logit",
    }
    return f"{chosen}: {names.get(kind, 'score')}"


def _funnel_rows(funnel: Any) -> list[dict[str, Any]]:
    """Reasons with counts and shares; `total` is checked against the prompts by the template."""
    if not funnel:
        return []
    total = funnel["num_prompts"]
    rows = [{"reason": r, "num": n, "share": n / total if total else 0} for r, n in funnel["reasons"].items()]
    return sorted(rows, key=lambda x: (not x["reason"].startswith("selected"), -x["num"]))


def _by_source(responses: list[Any], scores: dict[str, Any]) -> list[dict[str, Any]]:
    groups: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for r in responses:
        groups[r["source"], r["domain"]].append(r)
    table = []
    for (source, domain), rows in sorted(groups.items()):
        verified = [v for r in rows if (v := scores.get(r["response_id"], {}).get("correct")) is not None]
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
            }
        )
    return table


def _score(score: dict[str, Any] | None, chosen: str | None) -> float | None:
    value = dict(score["rewards"]).get(chosen) if score else None
    return value if value is not None and math.isfinite(value) else None


def _rewards(responses: list[Any], scores: dict[str, Any], chosen: str | None) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for r in responses:
        value = _score(scores.get(r["response_id"]), chosen)
        if value is not None:
            correct = scores[r["response_id"]]["correct"]
            verdict = "" if correct is None else " correct" if correct else " wrong"
            groups[f"{r['source']} {r['domain']}{verdict}"].append(value)
    return dict(sorted(groups.items()))


def _margins(responses: list[Any], scores: dict[str, Any], chosen: str | None) -> dict[str, list[float]]:
    """Best against worst of one source, each prompt and source once, before the window."""
    groups: dict[tuple[str, str, str], list[tuple[float, bool | None]]] = defaultdict(list)
    for r in responses:
        value = _score(scores.get(r["response_id"]), chosen)
        if value is not None and r["finish_reason"] in FINISHED:
            groups[r["domain"], r["prompt_id"], r["source"]].append((value, scores[r["response_id"]]["correct"]))
    found: dict[str, list[float]] = defaultdict(list)
    for (domain, _, _), members in groups.items():
        if domain in VERIFIED_DOMAINS:
            right, wrong = [v for v, c in members if c], [v for v, c in members if c is False]
            if right and wrong:
                found[domain].append(max(right) - min(wrong))
        elif len(members) > 1 and domain == "instruction":
            values = [v for v, _ in members]
            found[domain].append(max(values) - min(values))
    return dict(found)


def _yields(run: RunDir, recipe: Recipe) -> dict[str, Any] | None:
    """Prompts with a pair by the upper end of a window that starts at the recipe's smallest margin."""
    from ..dataset import margins

    if not run.exists("select", "candidates.parquet"):
        return None
    candidates = margins.stored(run)
    if not candidates.height:
        return None
    windows = {d: recipe.select.rule(d).margin for d in candidates["domain"].unique()}
    low = min(w.min for w in windows.values())
    ends = margins.edges(candidates, low)
    curves = margins.curve(candidates, low, ends)
    return {"edges": ends, "curves": curves, "low": low, "tops": {d: w.max for d, w in windows.items()}}


def _curve(run: RunDir, stage: str) -> list[tuple[int, float]]:
    lines = run.local_path(stage, "metrics.jsonl").read_text("utf-8").splitlines()
    return [(m["step"], m["loss"]) for line in lines if "loss" in (m := json.loads(line))]


def _headline(metrics: Any) -> str:
    if not metrics:
        return "The models have not been evaluated."
    found = {(c["model"], c["baseline"]): c for c in metrics["comparisons"] if c["domain"] == "verified"}
    whole = found.get(("dpo", "target"))
    if whole is None:
        return "There are no verified held-out answers."
    before, after = metrics["models"]["target"]["verified"], metrics["models"]["dpo"]["verified"]
    verb = "rose" if whole["low"] > 0 else "fell" if whole["high"] < 0 else "did not change beyond chance"
    return (
        f"Held-out accuracy {verb}: {100 * before['accuracy']:.1f}% before, {100 * after['accuracy']:.1f}% after SFT "
        f"and DPO, a difference of {100 * whole['difference']:+.1f} points (95% interval {100 * whole['low']:+.1f} to "
        f"{100 * whole['high']:+.1f}, {whole['num_items']} prompts)."
    )


def _examples(run: RunDir) -> list[dict[str, Any]]:
    """A dozen prompts with the three answers. By rule: of each kind (got better, got worse, unchanged, unverified) the
    prompts with the smallest identities, in turns."""
    if not run.exists("evaluate", "answers.parquet"):
        return []
    prompts: dict[str, dict[str, Any]] = {}
    for a in run.read_table("evaluate", "answers.parquet").to_pylist():
        entry = prompts.setdefault(
            a["prompt_id"], {"id": a["id"], "domain": a["domain"], "prompt": a["prompt"], "answers": {}}
        )
        entry["answers"][a["model"]] = a
    kinds: dict[str, list[dict[str, Any]]] = {"got better": [], "got worse": [], "judged": [], "unchanged": []}
    for _, entry in sorted(prompts.items()):
        if not {"target", "dpo"} <= entry["answers"].keys():
            continue
        before, after = entry["answers"]["target"]["correct"], entry["answers"]["dpo"]["correct"]
        if after is None:
            kind = "judged"
        elif before == after:
            kind = "unchanged"
        else:
            kind = "got better" if after else "got worse"
        kinds[kind].append({**entry, "kind": kind})
    chosen: list[dict[str, Any]] = []
    while len(chosen) < NUM_EXAMPLES and any(kinds.values()):
        for members in kinds.values():
            if members and len(chosen) < NUM_EXAMPLES:
                chosen.append(members.pop(0))
    return chosen


def _stages(run: RunDir) -> list[dict[str, Any]]:
    found = []
    for stage in STAGES[:-1]:
        manifest = run.manifest(stage)
        if manifest is None:
            found.append({"stage": stage, "run": False})
            continue
        found.append(
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
    return found
