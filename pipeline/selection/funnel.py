"""The funnel: every prompt in one reason, every response in one status, by domain and source; sums that must hold."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import pyarrow as pa

from ..errors import StageError

UNKNOWN_DOMAIN = "unknown"
"""Domain of rejects of the intake whose row did not say it."""

NO_SOURCE = "none"
"""In place of the source where a prompt yields no row."""

REMOVED = ("duplicate", "near_duplicate", "contaminated")
"""What the intake removes for another prompt's sake; these are reasons by their own name."""

ASIDE = {
    "repeated": "a second row with the identity of another",
    "not_scored": "a response of an earlier plan: the scores don't hold it",
    "source_not_in_recipe": "its source is none of the recipe's any more",
}
"""Rows of the run directory that are no responses of this recipe."""


def funnel(
    outcomes: pa.Table,
    rejects: pa.Table,
    num_prompts: int,
    responses: Counter[tuple[str, str, str]],
    aside: Counter[str] | None = None,
) -> Any:
    """Where every prompt and every response went; JSON.

    Args:
        outcomes: OUTCOME of the prompts that passed the intake.
        rejects: REJECT of the intake; held-out rows are left out, they are no prompts to train on.
        num_prompts: prompts that passed the intake.
        responses: (source, domain, status) -> responses.
        aside: rows that are no responses of this recipe, by kind.

    Raises:
        StageError: the reasons do not add up to the prompts.
    """
    ended = list(zip(*(outcomes.column(c).to_pylist() for c in ("domain", "reason", "source")), strict=True))
    reasons = rejects.column("reason").to_pylist()
    known = "domain" in rejects.schema.names
    domains = rejects.column("domain").to_pylist() if known else [None] * len(reasons)
    refused = [(d, r) for d, r in zip(domains, reasons, strict=True) if not r.startswith("heldout_")]
    ended += [(d or UNKNOWN_DOMAIN, r if r in REMOVED else f"rejected_{r}", None) for d, r in refused]
    total = num_prompts + len(refused)
    if len(ended) != total:
        raise StageError("select", "funnel", f"{total} prompts were read, {len(ended)} have a reason")
    by_domain: dict[str, Counter[str]] = defaultdict(Counter)
    by_source: dict[str, Counter[str]] = defaultdict(Counter)
    for domain, reason, source in ended:
        by_domain[domain][reason] += 1
        by_source[source or NO_SOURCE][reason] += 1
    statuses: dict[str, dict[str, dict[str, int]]] = {}
    for (source, domain, name), num in sorted(responses.items()):
        statuses.setdefault(source, {}).setdefault(domain, {})[name] = num
    return {
        "num_prompts": total,
        "reasons": _sorted(Counter(reason for _, reason, _ in ended)),
        "by_domain": {domain: _sorted(counts) for domain, counts in sorted(by_domain.items())},
        "by_source": {source: _sorted(counts) for source, counts in sorted(by_source.items())},
        "responses": statuses,
        "aside": _sorted(aside or Counter()),
    }


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
