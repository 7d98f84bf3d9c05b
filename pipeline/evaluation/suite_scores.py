"""The suites' items to the numbers of the table: scores, win rates, comparisons, means."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from ..recipe import REFERENCE
from ..records import ItemRow
from ..storage.manifest import versions
from .statistics import holm, interval, paired
from .win_rates import Controlled, length_controlled, style_controlled


def standings(
    items: pa.Table,
    suites: Sequence[Mapping[str, Any]],
    models: Mapping[str, Mapping[str, str]],
    references: Mapping[str, Mapping[str, Sequence[int]]],
) -> dict[str, Any]:
    """The content of evaluate/suites.json.

    Args:
        items: ITEM.
        suites: what stands beside each suite's figures (pipeline/evaluation/evaluate.py), in their order.
        models: name -> what its answers hang on, in their order.
        references: suite -> prompt id -> `winrates.STYLE` of the answer that the row brings.

    Returns:
        `suites`: what was given, with `scores` (model -> see `_score`), `comparisons` (see `statistics.Paired`, with
        `p_holm` over all suites of a pair of models) and `outcomes` (pair and domain -> better, same, worse);
        `groups`: group -> model -> mean of its suites' figures; `mean`: over all suites; `models`; `versions`.
    """
    rows = items.to_pylist()
    names, found = list(models), []
    for suite in suites:
        mine = {n: [r for r in rows if r["suite"] == suite["name"] and r["model"] == n] for n in names}
        controlled = _controlled(suite, mine, references.get(suite["name"], {}))
        scores = {n: _score(suite, mine[n], controlled.get(n)) for n in names}
        comparisons, outcomes = [], []
        for model, baseline in pairs(names):
            ours, theirs = ({r["prompt_id"]: r for r in mine[n] if r["score"] is not None} for n in (model, baseline))
            both = sorted(ours.keys() & theirs.keys())
            if both:
                compared = paired([ours[i]["score"] for i in both], [theirs[i]["score"] for i in both])
                comparisons.append({"model": model, "baseline": baseline, **asdict(compared)})
                outcomes += _outcomes(model, baseline, [(ours[i], theirs[i]) for i in both])
        found.append({**suite, "scores": scores, "comparisons": comparisons, "outcomes": outcomes})
    _correct(found)
    groups = list(dict.fromkeys(s["group"] for s in found if s["group"]))
    return {
        "models": {n: dict(m) for n, m in models.items()},
        "suites": found,
        "groups": {g: _means(names, [s for s in found if s["group"] == g]) for g in groups},
        "mean": _means(names, found),
        "versions": versions(),
    }


def pairs(models: Sequence[str]) -> list[tuple[str, str]]:
    """Who is compared with whom: each with the first, and DPO with what it started from."""
    found = [(model, models[0]) for model in models[1:]]
    more = ("dpo", "sft")
    return [*found, more] if set(more) <= set(models) and more not in found else found


def _score(suite: Mapping[str, Any], rows: Sequence[ItemRow], controlled: Controlled | None) -> dict[str, Any]:
    """One model's figures on one suite. `figure` is what the table shows: the score, or the win rate under control."""
    known = [r for r in rows if r["score"] is not None]
    answers = max(sum(r["answers"] for r in rows), 1)
    entry: dict[str, Any] = {
        "num_items": len(known),
        "without_score": dict(Counter(r["why"].partition(":")[0] for r in rows if r["score"] is None)),
        "answers": sum(r["answers"] for r in rows),
        "rejected": sum(r["rejected"] for r in rows),
        "truncated": sum(r["truncated"] for r in rows),
        "mean_tokens": sum(r["completion_tokens"] * r["answers"] for r in rows) / answers,
        "mean_chars": sum(r["chars"] * r["answers"] for r in rows) / answers,
        "score": _interval(known),
    }
    if suite["contaminated"]:
        entry["score_without_contaminated"] = _interval([r for r in known if not r["contaminated"]])
    if suite["kind"] == "judged":
        entry["wins"] = sum(_value(r) > 0.5 for r in known)
        entry["ties"] = sum(_value(r) == 0.5 for r in known)
        entry["losses"] = sum(_value(r) < 0.5 for r in known)
        if controlled is not None:
            entry["controlled"] = asdict(controlled)
    entry["figure"] = entry["score"]
    if controlled is not None:
        entry["figure"] = {
            "num_items": len(known), "value": controlled.win_rate, "low": controlled.low, "high": controlled.high
        }  # fmt: skip
    return entry


def _value(row: ItemRow) -> float:
    """The score of an item that has one."""
    assert row["score"] is not None
    return row["score"]


def _interval(rows: Sequence[ItemRow]) -> dict[str, Any] | None:
    if not rows:
        return None
    value, low, high = interval([_value(r) for r in rows])
    return {"num_items": len(rows), "value": value, "low": low, "high": high}


def _controlled(
    suite: Mapping[str, Any], rows: Mapping[str, Sequence[ItemRow]], references: Mapping[str, Sequence[int]]
) -> dict[str, Controlled]:
    """Model -> its win rate under the suite's control; the baseline has none."""
    if suite["kind"] != "judged" or suite["control"] == "none":
        return {}
    baseline = suite["baseline"]
    theirs = references if baseline == REFERENCE else {r["prompt_id"]: r["style"] for r in rows[baseline]}
    known = {n: [r for r in mine if r["score"] is not None] for n, mine in rows.items() if n != baseline}
    known = {n: mine for n, mine in known.items() if mine}
    if suite["control"] == "length":
        return {
            n: length_controlled(
                [_value(r) for r in mine], [r["style"][0] for r in mine], [theirs[r["prompt_id"]][0] for r in mine]
            )
            for n, mine in known.items()
        }
    every = [r for mine in known.values() for r in mine]
    if not every:
        return {}
    return style_controlled(
        [r["model"] for r in every],
        [r["prompt_id"] for r in every],
        [_value(r) for r in every],
        [r["style"] for r in every],
        [theirs[r["prompt_id"]] for r in every],
    )


def _outcomes(model: str, baseline: str, both: Sequence[tuple[ItemRow, ItemRow]]) -> list[dict[str, Any]]:
    found = []
    for domain in sorted({ours["domain"] for ours, _ in both}):
        signs = [_value(ours) - _value(theirs) for ours, theirs in both if ours["domain"] == domain]
        counts = {"better": sum(s > 0 for s in signs), "same": sum(s == 0 for s in signs)}
        found.append(
            {"model": model, "baseline": baseline, "domain": domain, **counts, "worse": sum(s < 0 for s in signs)}
        )
    return found


def _correct(suites: Sequence[Mapping[str, Any]]) -> None:
    """Adds `p_holm`: each pair of models is a family of as many tests as there are suites."""
    families: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for suite in suites:
        for compared in suite["comparisons"]:
            families.setdefault((compared["model"], compared["baseline"]), []).append(compared)
    for members in families.values():
        for compared, p in zip(members, holm([m["p"] for m in members]), strict=True):
            compared["p_holm"] = p


def _means(names: Sequence[str], suites: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Model -> mean of its figures; none where a suite has none for it."""
    found: dict[str, float | None] = {}
    for name in names:
        figures = [s["scores"][name]["figure"] for s in suites]
        found[name] = sum(f["value"] for f in figures) / len(figures) if figures and all(figures) else None
    return found
