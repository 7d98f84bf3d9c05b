"""The results table of the suites: scores, win rates, comparisons and means, computed from the items."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pyarrow as pa

from ..recipe import REFERENCE
from ..records import ItemRow
from ..storage.manifest import versions
from . import align_bench, pairwise, rating
from .result_types import (
    DomainOutcome,
    OptionalScores,
    ScoreFigures,
    SuiteComparison,
    SuiteDescription,
    SuiteResult,
    SuiteResults,
    SuiteScore,
    is_rating,
)
from .statistics import Paired, bounded_interval, holm, interval, paired
from .win_rates import Controlled, length_controlled, style_controlled

ModelPair = tuple[str, str]
"""Model and the baseline that it is compared with."""


def suite_results(
    items: pa.Table,
    suites: Sequence[SuiteDescription],
    models: Mapping[str, Mapping[str, str]],
    references: Mapping[str, Mapping[str, Sequence[int]]],
    categories: Mapping[str, Mapping[str, str]] | None = None,
) -> SuiteResults:
    """The content of evaluate/suites.json.

    Args:
        items: ITEM.
        suites: the suites, in their order.
        models: name -> revision and template, in their order.
        references: suite -> prompt id -> `win_rates.STYLE` of the reference answer in the suite's row.
        categories: suite -> prompt id -> category, of suites whose score is averaged over categories (AlignBench).
    """
    rows: list[ItemRow] = items.to_pylist()
    names = list(models)
    by_category = [(categories or {}).get(suite["name"], {}) for suite in suites]
    by_suite = [
        {n: [r for r in rows if r["suite"] == suite["name"] and r["model"] == n] for n in names} for suite in suites
    ]
    common = [{pair: _common(by_model, *pair) for pair in pairs(names)} for by_model in by_suite]
    compared = _compare(common, by_category)
    results: list[SuiteResult] = []
    for suite, by_model, by_pair, comparisons, of in zip(suites, by_suite, common, compared, by_category, strict=True):
        controlled = _controlled(suite, by_model, references.get(suite["name"], {}))
        scores = {n: _score(suite, by_model[n], controlled.get(n), of) for n in names}
        outcomes = [outcome for pair, both in by_pair.items() for outcome in _outcomes(*pair, both)]
        results.append({**suite, "scores": scores, "comparisons": comparisons, "outcomes": outcomes})
    groups = list(dict.fromkeys(s["group"] for s in results if s["group"]))
    return {
        "models": {n: dict(m) for n, m in models.items()},
        "suites": results,
        "groups": {g: _means(names, [s for s in results if s["group"] == g]) for g in groups},
        "mean": _means(names, results),
        "versions": versions(),
    }


def pairs(models: Sequence[str]) -> list[ModelPair]:
    """The pairs of models to compare: each model with the first, and DPO with the SFT model that it started from."""
    with_first = [(model, models[0]) for model in models[1:]]
    dpo_with_sft = ("dpo", "sft")
    needed = set(dpo_with_sft) <= set(models) and dpo_with_sft not in with_first
    return [*with_first, dpo_with_sft] if needed else with_first


def _common(by_model: Mapping[str, Sequence[ItemRow]], model: str, baseline: str) -> list[tuple[ItemRow, ItemRow]]:
    """The items for which both models have a score, by prompt id."""
    ours, theirs = ({r["prompt_id"]: r for r in by_model[n] if r["score"] is not None} for n in (model, baseline))
    return [(ours[i], theirs[i]) for i in sorted(ours.keys() & theirs.keys())]


def _compare(
    common: Sequence[Mapping[ModelPair, Sequence[tuple[ItemRow, ItemRow]]]], categories: Sequence[Mapping[str, str]]
) -> list[list[SuiteComparison]]:
    """For each suite, the comparisons of all pairs of models.

    Holm's correction treats each pair of models as a family with one test per suite.
    """
    tests: dict[ModelPair, dict[int, Paired]] = {}
    for i, by_pair in enumerate(common):
        for pair, both in by_pair.items():
            if both:
                first, second = ([row[k] for row in both] for k in (0, 1))
                weights = [_weights(rows, categories[i]) for rows in (first, second)]
                needed = any(weights)
                tests.setdefault(pair, {})[i] = paired(
                    [_value(r) for r in first],
                    [_value(r) for r in second],
                    (weights[0] or [1.0] * len(both), weights[1] or [1.0] * len(both)) if needed else None,
                )
    adjusted = {
        pair: dict(zip(by_suite, holm([test.p for test in by_suite.values()]), strict=True))
        for pair, by_suite in tests.items()
    }
    return [
        [
            {"model": pair[0], "baseline": pair[1], **tests[pair][i].figures(), "p_holm": adjusted[pair][i]}
            for pair, both in by_pair.items()
            if both
        ]
        for i, by_pair in enumerate(common)
    ]


def _score(
    suite: SuiteDescription, rows: Sequence[ItemRow], controlled: Controlled | None, categories: Mapping[str, str]
) -> SuiteScore:
    """One model's result on one suite."""
    scored = [r for r in rows if r["score"] is not None]
    answers = max(sum(r["answers"] for r in rows), 1)
    score = _interval(suite, scored, categories)
    optional: OptionalScores = {}
    if suite["contaminated"]:
        clean = [r for r in scored if not r["contaminated"]]
        optional["score_without_contaminated"] = _interval(suite, clean, categories)
    if suite["kind"] == "judged" and not is_rating(suite):
        optional["wins"] = sum(_value(r) > 0.5 for r in scored)
        optional["ties"] = sum(_value(r) == 0.5 for r in scored)
        optional["losses"] = sum(_value(r) < 0.5 for r in scored)
    figure = score
    if controlled is not None:
        win_rate, low, high = controlled.win_rate, controlled.low, controlled.high
        optional["controlled"] = {"win_rate": win_rate, "low": low, "high": high, "effects": controlled.effects}
        figure = {"num_items": len(scored), "value": win_rate, "low": low, "high": high}
    return {
        "num_items": len(scored),
        "without_score": dict(Counter(r["why"].partition(":")[0] for r in rows if r["score"] is None)),
        "answers": sum(r["answers"] for r in rows),
        "rejected": sum(r["rejected"] for r in rows),
        "truncated": sum(r["truncated"] for r in rows),
        "mean_tokens": sum(r["completion_tokens"] * r["answers"] for r in rows) / answers,
        "mean_chars": sum(r["chars"] * r["answers"] for r in rows) / answers,
        "score": score,
        **optional,
        "figure": figure,
    }


def _value(row: ItemRow) -> float:
    """The score of an item that has one."""
    assert row["score"] is not None
    return row["score"]


def _weights(rows: Sequence[ItemRow], categories: Mapping[str, str]) -> list[float] | None:
    """The weights of items in their mean: those of AlignBench's categories, or of Arena-Hard's decisive verdicts.

    None if all weigh the same."""
    if categories:
        return align_bench.weights([categories[r["prompt_id"]] for r in rows])
    weights = [pairwise.weight(r["why"]) for r in rows]
    return weights if len(set(weights)) > 1 else None


def _interval(suite: SuiteDescription, rows: Sequence[ItemRow], categories: Mapping[str, str]) -> ScoreFigures | None:
    if not rows:
        return None
    values, weights = [_value(r) for r in rows], _weights(rows, categories)
    if is_rating(suite):
        value, low, high = bounded_interval(values, rating.LOWEST, rating.HIGHEST, weights)
    else:
        value, low, high = interval(values, weights)
    return {"num_items": len(rows), "value": value, "low": low, "high": high}


def _controlled(
    suite: SuiteDescription, by_model: Mapping[str, Sequence[ItemRow]], references: Mapping[str, Sequence[int]]
) -> dict[str, Controlled]:
    """Model -> its win rate under the suite's control. The baseline has none."""
    if suite["kind"] != "judged" or suite["control"] in ("none", None):
        return {}
    baseline = suite["baseline"]
    assert baseline is not None
    styles = references if baseline == REFERENCE else {r["prompt_id"]: r["style"] for r in by_model[baseline]}
    scored = {n: [r for r in rows if r["score"] is not None] for n, rows in by_model.items() if n != baseline}
    scored = {n: rows for n, rows in scored.items() if rows}
    if suite["control"] == "length":
        return {
            n: length_controlled(
                [_value(r) for r in rows],
                [r["style"][0] for r in rows],
                [styles[r["prompt_id"]][0] for r in rows],
                _weights(rows, {}),
            )
            for n, rows in scored.items()
        }
    all_scored = [r for rows in scored.values() for r in rows]
    if not all_scored:
        return {}
    return style_controlled(
        [r["model"] for r in all_scored],
        [r["prompt_id"] for r in all_scored],
        [_value(r) for r in all_scored],
        [r["style"] for r in all_scored],
        [styles[r["prompt_id"]] for r in all_scored],
        _weights(all_scored, {}),
    )


def _outcomes(model: str, baseline: str, both: Sequence[tuple[ItemRow, ItemRow]]) -> list[DomainOutcome]:
    outcomes: list[DomainOutcome] = []
    for domain in sorted({ours["domain"] for ours, _ in both}):
        differences = [_value(ours) - _value(theirs) for ours, theirs in both if ours["domain"] == domain]
        outcomes.append(
            {
                "model": model,
                "baseline": baseline,
                "domain": domain,
                "better": sum(d > 0 for d in differences),
                "same": sum(d == 0 for d in differences),
                "worse": sum(d < 0 for d in differences),
            }
        )
    return outcomes


def _means(names: Sequence[str], suites: Sequence[SuiteResult]) -> dict[str, float | None]:
    """Model -> mean of its figures, or None if a suite has no figure for the model.

    A rating of 1 to 10 counts as that many percent: the paper's averages (arXiv 2503.04222) add MT-Bench's 8.4 to
    percentages as it is, which 40.5 for Llama-3.1-8B-Instruct shows.
    """
    means: dict[str, float | None] = {}
    for name in names:
        figures = [(s, s["scores"][name]["figure"]) for s in suites]
        values = [f["value"] / 100 if is_rating(s) else f["value"] for s, f in figures if f is not None]
        means[name] = sum(values) / len(values) if values and len(values) == len(figures) else None
    return means
