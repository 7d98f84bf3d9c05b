"""Which responses a recipe asks for, which of them are missing, and what to ask for them. No I/O but the shards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import pyarrow as pa

from ..identities import response_id, seed_of
from ..models.pinned_source import PinnedSource
from ..recipe import Domain, Sampling
from ..records import Message, ResponseRow
from ..storage.parts import Parts
from .flags import flags
from .messages import Generated, GenerateRequest, SamplingParams, Wanted

UNIT_PROMPTS, UNITS, LARGEST_UNIT = 16, 1000, 512
"""Prompts of one Ray Data row: few, so that progress is seen; more where there would be over a thousand rows."""


COLUMNS = ("prompt_id", "domain", "messages")


class Unit(TypedDict):
    """What a Ray Data row says: a slice of a bucket's prompts, in the order of their ids."""

    bucket: int
    start: int
    stop: int
    missing: int
    """Responses that were not durable when it was planned; fewer where the unit is sent again."""


class WantedRow(TypedDict):
    """A wanted response before it is sampled: RESPONSE without what the model adds."""

    response_id: str
    prompt_id: str
    domain: Domain
    source: str
    revision: str
    sample_index: int
    seed: int
    params: str
    template: str


class PlannedPrompt(TypedDict):
    """The columns of a prompt that a plan reads; `messages` only when requests are made."""

    prompt_id: str
    domain: Domain
    messages: list[Message]


def sampling_params(sampling: Sampling) -> SamplingParams:
    """vLLM's SamplingParams of a recipe's sampling section."""
    params: SamplingParams = {**sampling.model_dump(exclude={"stop", "stop_token_ids"}), "stop": list(sampling.stop)}
    # A key of its own only where it says something: identities of what was sampled before it existed stay.
    return params | ({"stop_token_ids": list(sampling.stop_token_ids)} if sampling.stop_token_ids else {})


def wanted(asked: PinnedSource, prompts: pa.Table) -> Iterator[tuple[PlannedPrompt, list[WantedRow]]]:
    """Each prompt that the source serves, with the rows of all its samples; prompts in the table's order."""
    source = asked.source
    params: dict[str, SamplingParams] = {d: sampling_params(source.sampling_for(d)) for d in source.samples}
    texts = {d: json.dumps(p, sort_keys=True) for d, p in params.items()}
    columns = [c for c in COLUMNS if c in prompts.column_names]
    for prompt in prompts.select(columns).to_pylist():
        domain: Domain = prompt["domain"]
        rows: list[WantedRow] = []
        for index in range(source.samples.get(domain, 0)):
            identity = response_id(
                prompt["prompt_id"], source.name, asked.revision, asked.template, params[domain], index
            )
            rows.append(
                {
                    "response_id": identity,
                    "prompt_id": prompt["prompt_id"],
                    "domain": domain,
                    "source": source.name,
                    "revision": asked.revision,
                    "sample_index": index,
                    "seed": seed_of(asked.seed, identity),
                    "params": texts[domain],
                    "template": asked.template,
                }
            )
        if rows:
            yield prompt, rows


def wanted_ids(asked: Iterable[PinnedSource], prompts: pa.Table) -> set[str]:
    """Identities of all responses that the recipe asks for."""
    slim = prompts.select(["prompt_id", "domain"])
    return {row["response_id"] for a in asked for _, rows in wanted(a, slim) for row in rows}


@dataclass(slots=True)
class Plan:
    """What one source is still to be asked."""

    units: list[Unit]
    """Slices that miss something, buckets in order."""
    total: int = 0
    """Responses that the recipe asks the source for."""
    missing_by_domain: Counter[str] = field(default_factory=Counter)

    @property
    def missing(self) -> int:
        """Responses that are not durable."""
        return self.missing_by_domain.total()


def plan(
    asked: Sequence[PinnedSource], prompts: Parts, done: Parts, num_buckets: int, largest: int = LARGEST_UNIT
) -> list[Plan]:
    """What each source is still to be asked: an anti-join on identities, one bucket in memory at a time.

    Args:
        largest: prompts of a unit at most.
    """
    plans = [Plan([]) for _ in asked]
    # bucket -> position of a prompt, once for each response that it misses
    places: list[dict[int, list[int]]] = [{} for _ in asked]
    for bucket in range(num_buckets):
        table = prompts.read(bucket, columns=["domain"])
        if not len(table):
            continue
        there = done.ids(bucket)
        place = {p: i for i, p in enumerate(table.column("prompt_id").to_pylist())}
        for found, mine, one in zip(plans, places, asked, strict=True):
            for prompt, rows in wanted(one, table):
                left = sum(r["response_id"] not in there for r in rows)
                found.total += len(rows)
                found.missing_by_domain[prompt["domain"]] += left
                if left:
                    mine.setdefault(bucket, []).extend([place[prompt["prompt_id"]]] * left)
    for found, mine in zip(plans, places, strict=True):
        size = min(largest, max(UNIT_PROMPTS, sum(len(set(m)) for m in mine.values()) // UNITS))
        for bucket, members in mine.items():
            missing = Counter(m // size for m in members)
            found.units += [
                Unit(bucket=bucket, start=s * size, stop=(s + 1) * size, missing=missing[s]) for s in sorted(missing)
            ]
    return plans


def pilot_units(units: Sequence[Unit], num: int) -> list[Unit]:
    """Units of `UNIT_PROMPTS` that hold about `num` prompts together, spread evenly over all."""
    wanted = min(len(units), max(1, num // UNIT_PROMPTS))
    return [units[i * len(units) // wanted] for i in range(wanted)]


def requests(asked: PinnedSource, prompts: pa.Table, done: set[str]) -> list[tuple[GenerateRequest, list[WantedRow]]]:
    """What to ask for these prompts: one request a prompt with all samples that are not durable.

    All samples of a prompt go in one request, so that they share the prompt's prefix in vLLM's cache.
    """
    found = []
    for prompt, rows in wanted(asked, prompts):
        left = [r for r in rows if r["response_id"] not in done]
        if left:
            request = GenerateRequest(
                messages=prompt["messages"],
                params=json.loads(left[0]["params"]),
                samples=[Wanted(response_id=r["response_id"], seed=r["seed"]) for r in left],
            )
            found.append((request, left))
    return found


def response(row: WantedRow, generated: Generated) -> ResponseRow:
    """A RESPONSE row from what was asked and what came back."""
    found = flags(generated["text"], generated["finish_reason"], generated["reject"])
    return {**row, **generated, "flags": found}
