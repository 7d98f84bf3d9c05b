"""Which responses a recipe needs, which of them are missing, and the requests for them. Reads shards; no other I/O."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import pyarrow as pa

from ..identities import response_id, seed_of
from ..models.pinned_source import PinnedSource
from ..recipe import Domain, Sampling
from ..records import Message, ResponseRow, WantedResponse
from ..storage.parts import Parts
from .flags import flags
from .messages import Generated, GenerateRequest, SampleSeed, SamplingParams

UNIT_PROMPTS, UNITS, LARGEST_UNIT = 16, 1000, 512
"""Prompts per unit (one Ray Data row): few, so that progress is visible; more if there would be over 1000 units; and
the largest number."""
COLUMNS = ("prompt_id", "domain", "messages")


class Unit(TypedDict):
    """The content of a Ray Data row: a slice of a bucket's prompts, in the order of their ids."""

    bucket: int
    start: int
    stop: int
    missing: int
    """Responses that were missing when the unit was planned; fewer are missing if the unit is sent again."""


class PlannedPrompt(TypedDict):
    """The columns of a prompt that a plan reads; `messages` only when requests are made."""

    prompt_id: str
    domain: Domain
    messages: list[Message]


def sampling_params(sampling: Sampling) -> SamplingParams:
    """vLLM's sampling parameters of a Sampling section. Identities of responses contain them."""
    params = SamplingParams(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        min_p=sampling.min_p,
        repetition_penalty=sampling.repetition_penalty,
        max_tokens=sampling.max_tokens,
        stop=list(sampling.stop),
    )
    if sampling.stop_token_ids:  # left out when empty: identities from before this parameter existed stay the same
        params["stop_token_ids"] = list(sampling.stop_token_ids)
    return params


def wanted_responses(source: PinnedSource, prompts: pa.Table) -> Iterator[tuple[PlannedPrompt, list[WantedResponse]]]:
    """Each prompt that the source serves, with a row for each of its samples; in the table's order."""
    policy = source.source
    params = {d: sampling_params(policy.sampling_for(d)) for d in policy.samples}
    params_json = {d: json.dumps(p, sort_keys=True) for d, p in params.items()}
    columns = [c for c in COLUMNS if c in prompts.column_names]
    for prompt in prompts.select(columns).to_pylist():
        domain: Domain = prompt["domain"]
        rows: list[WantedResponse] = []
        for index in range(policy.samples.get(domain, 0)):
            identity = response_id(
                prompt["prompt_id"], policy.name, source.revision, source.template, params[domain], index
            )
            rows.append(
                {
                    "response_id": identity,
                    "prompt_id": prompt["prompt_id"],
                    "domain": domain,
                    "source": policy.name,
                    "revision": source.revision,
                    "sample_index": index,
                    "seed": seed_of(source.seed, identity),
                    "params": params_json[domain],
                    "template": source.template,
                }
            )
        if rows:
            yield prompt, rows


def wanted_domains(sources: Iterable[PinnedSource], prompts: pa.Table) -> dict[str, Domain]:
    """Identity -> the prompt's domain, of all responses that the recipe needs from these sources.

    A stored response has the domain that its prompt had when it was sampled.
    """
    columns = prompts.select(["prompt_id", "domain"])
    return {
        row["response_id"]: row["domain"]
        for source in sources
        for _, rows in wanted_responses(source, columns)
        for row in rows
    }


def wanted_ids(sources: Iterable[PinnedSource], prompts: pa.Table) -> set[str]:
    """Identities of all responses that the recipe needs from these sources."""
    return set(wanted_domains(sources, prompts))


def with_domains(rows: Iterable[ResponseRow], domains: Mapping[str, Domain]) -> list[ResponseRow]:
    """The rows of these responses (identity -> domain of the prompt), in the domains that their prompts have now."""
    return [{**r, "domain": domains[r["response_id"]]} for r in rows if r["response_id"] in domains]


@dataclass(slots=True)
class Plan:
    """The work left for one source."""

    units: list[Unit]
    """Slices with missing responses, in the order of buckets."""
    total: int = 0
    """Responses that the recipe needs from the source."""
    missing_by_domain: Counter[str] = field(default_factory=Counter)

    @property
    def missing(self) -> int:
        """Responses that are not stored yet."""
        return self.missing_by_domain.total()


def plan(
    sources: Sequence[PinnedSource], prompts: Parts, done: Parts, num_buckets: int, largest: int = LARGEST_UNIT
) -> list[Plan]:
    """The work left for each source: an anti-join on identities, with one bucket in memory at a time.

    Args:
        done: the stored responses.
        largest: maximum number of prompts in a unit.
    """
    plans = [Plan([]) for _ in sources]
    # For each source: bucket -> position of a prompt, repeated once for each of its missing responses.
    missing_positions: list[dict[int, list[int]]] = [{} for _ in sources]
    for bucket in range(num_buckets):
        table = prompts.read(bucket, columns=["domain"])
        if not len(table):
            continue
        stored = done.ids(bucket)
        position = {p: i for i, p in enumerate(table.column("prompt_id").to_pylist())}
        for source_plan, positions, source in zip(plans, missing_positions, sources, strict=True):
            for prompt, rows in wanted_responses(source, table):
                num_missing = sum(r["response_id"] not in stored for r in rows)
                source_plan.total += len(rows)
                source_plan.missing_by_domain[prompt["domain"]] += num_missing
                if num_missing:
                    positions.setdefault(bucket, []).extend([position[prompt["prompt_id"]]] * num_missing)
    for source_plan, positions in zip(plans, missing_positions, strict=True):
        size = min(largest, max(UNIT_PROMPTS, sum(len(set(m)) for m in positions.values()) // UNITS))
        for bucket, members in positions.items():
            missing = Counter(m // size for m in members)
            source_plan.units += [
                Unit(bucket=bucket, start=s * size, stop=(s + 1) * size, missing=missing[s]) for s in sorted(missing)
            ]
    return plans


def pilot_units(units: Sequence[Unit], num: int) -> list[Unit]:
    """Units of `UNIT_PROMPTS` with about `num` prompts in total, spread evenly over all units."""
    num_units = min(len(units), max(1, num // UNIT_PROMPTS))
    return [units[i * len(units) // num_units] for i in range(num_units)]


def requests(
    source: PinnedSource, prompts: pa.Table, done: set[str]
) -> list[tuple[GenerateRequest, list[WantedResponse]]]:
    """The requests for these prompts: one per prompt, with all of its samples that are not in `done`.

    All samples of a prompt go into one request, so that they share the prompt's prefix in vLLM's cache.
    """
    found = []
    for prompt, rows in wanted_responses(source, prompts):
        missing = [r for r in rows if r["response_id"] not in done]
        if missing:
            request = GenerateRequest(
                messages=prompt["messages"],
                params=json.loads(missing[0]["params"]),
                samples=[SampleSeed(response_id=r["response_id"], seed=r["seed"]) for r in missing],
            )
            found.append((request, missing))
    return found


def response(row: WantedResponse, generated: Generated) -> ResponseRow:
    """A RESPONSE row, from the wanted response and the generated sample."""
    found = flags(generated["text"], generated["finish_reason"], generated["reject"])
    return {**row, **generated, "flags": found}
