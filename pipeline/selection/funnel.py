"""The funnel: counts of prompts by reason and of responses by status, for each domain and source.

Every prompt has exactly one reason and every response exactly one status, so the counts add up.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import NotRequired, TypedDict

import pyarrow as pa

from ..errors import StageError

UNKNOWN_DOMAIN = "unknown"
"""Domain of a rejected prompt whose row has no domain."""

NO_SOURCE = "none"
"""Source of a prompt that yields no row."""

REMOVED = ("duplicate", "near_duplicate", "contaminated")
"""Reject reasons of the intake that involve another prompt. The funnel lists them without the prefix `rejected_`."""

ASIDE = {
    "repeated": "another row has the same identity",
    "not_scored": "a response of an earlier plan, which has no score",
    "source_not_in_recipe": "its source is no longer in the recipe",
}
"""Kinds of rows in the run directory that are not responses of this recipe."""


class Funnel(TypedDict):
    """select/funnel.json."""

    num_prompts: int
    """All training prompts that were read, including those that the intake rejected."""
    reasons: dict[str, int]
    by_domain: dict[str, dict[str, int]]
    """Domain -> reason -> prompts."""
    by_source: dict[str, dict[str, int]]
    """Source of the selected row -> reason -> prompts."""
    responses: dict[str, dict[str, dict[str, int]]]
    """Source -> domain -> status -> responses."""
    aside: dict[str, int]
    """Kind (ASIDE) -> rows."""
    unit: NotRequired[str]
    """What is counted, if it is not prompts: the rows of an imported data set."""


def unit(funnel: Funnel) -> str:
    """What a funnel counts."""
    return funnel.get("unit", "prompts")


def funnel(
    outcomes: pa.Table,
    rejects: pa.Table,
    num_prompts: int,
    responses: Counter[tuple[str, str, str]],
    aside: Counter[str] | None = None,
) -> Funnel:
    """Counts every prompt and every response.

    Args:
        outcomes: OUTCOME, of the prompts that passed the intake.
        rejects: REJECT, of the intake. Held-out rows are ignored, because they are not training prompts.
        num_prompts: number of prompts that passed the intake.
        responses: (source, domain, status) -> number of responses.
        aside: kind (ASIDE) -> number of rows.

    Raises:
        StageError: the reasons do not add up to the prompts.
    """
    classified = list(zip(*(outcomes.column(c).to_pylist() for c in ("domain", "reason", "source")), strict=True))
    reasons = rejects.column("reason").to_pylist()
    has_domain = "domain" in rejects.schema.names  # tables of early versions lack it
    domains = rejects.column("domain").to_pylist() if has_domain else [None] * len(reasons)
    rejected = [(d, r) for d, r in zip(domains, reasons, strict=True) if not r.startswith("heldout_")]
    classified += [(d or UNKNOWN_DOMAIN, r if r in REMOVED else f"rejected_{r}", None) for d, r in rejected]
    total = num_prompts + len(rejected)
    if len(classified) != total:
        raise StageError("select", "funnel", f"{total} prompts were read, {len(classified)} have a reason")
    by_domain: dict[str, Counter[str]] = defaultdict(Counter)
    by_source: dict[str, Counter[str]] = defaultdict(Counter)
    for domain, reason, source in classified:
        by_domain[domain][reason] += 1
        by_source[source or NO_SOURCE][reason] += 1
    statuses: dict[str, dict[str, dict[str, int]]] = {}
    for (source, domain, name), num in sorted(responses.items()):
        statuses.setdefault(source, {}).setdefault(domain, {})[name] = num
    return {
        "num_prompts": total,
        "reasons": _sorted(Counter(reason for _, reason, _ in classified)),
        "by_domain": {domain: _sorted(counts) for domain, counts in sorted(by_domain.items())},
        "by_source": {source: _sorted(counts) for source, counts in sorted(by_source.items())},
        "responses": statuses,
        "aside": _sorted(aside or Counter()),
    }


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
