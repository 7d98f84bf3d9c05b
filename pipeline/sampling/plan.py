"""Sampling, the pure part: which responses a recipe asks for, which of them are missing, what comes back."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import pyarrow as pa

from fusechat.pipeline.recipe import Domain, Policy, Sampling
from fusechat.pipeline.records import digest, response_id, seed_of
from fusechat.pipeline.sampling.messages import Generated, GenerateRequest, Wanted
from fusechat.pipeline.storage.run_dir import Parts

UNIT_PROMPTS, UNITS, LARGEST_UNIT = 16, 1000, 512
"""Prompts of one Ray Data row: few, so that progress is seen; more where there would be over a thousand rows."""
COLUMNS = ("prompt_id", "domain", "messages")


@dataclass(frozen=True, slots=True)
class Asked:
    """A source with everything that its responses' identities hang on."""

    source: Policy
    revision: str
    template: str
    """sha256 of the chat template's text and the system policy; `model` where the model's own template rules."""
    seed: int


class Unit(TypedDict):
    """What a Ray Data row says: a slice of a bucket's prompts, in the order of their ids."""

    bucket: int
    start: int
    stop: int
    missing: int
    """Responses that were not durable when it was planned; fewer where the unit is sent again."""


Rows = list[dict[str, Any]]
"""What is known of each wanted response beforehand: RESPONSE less what the model adds."""


def sampling_params(sampling: Sampling) -> dict[str, Any]:
    """vLLM's SamplingParams of a recipe's sampling section."""
    params = {**sampling.model_dump(exclude={"stop", "stop_token_ids"}), "stop": list(sampling.stop)}
    # A key of its own only where it says something: identities of what was sampled before it existed stay.
    return params | ({"stop_token_ids": list(sampling.stop_token_ids)} if sampling.stop_token_ids else {})


def template_identity(text: str | None, system: str) -> str:
    """What the response's identity keeps of the template."""
    return f"model/{system}" if text is None else digest(text, system)


def wanted(asked: Asked, prompts: pa.Table) -> Iterator[tuple[dict[str, Any], Rows]]:
    """Each prompt that the source serves, with the rows of all its samples; prompts in the table's order."""
    source = asked.source
    params: dict[str, dict[str, Any]] = {d: sampling_params(source.sampling_for(d)) for d in source.samples}
    texts = {d: json.dumps(p, sort_keys=True) for d, p in params.items()}
    columns = [c for c in COLUMNS if c in prompts.column_names]
    for prompt in prompts.select(columns).to_pylist():
        domain: Domain = prompt["domain"]
        rows = []
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


def wanted_ids(asked: Iterable[Asked], prompts: pa.Table) -> set[str]:
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
    asked: Sequence[Asked], prompts: Parts, done: Parts, num_buckets: int, largest: int = LARGEST_UNIT
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


def sampled(units: Sequence[Unit], num: int) -> list[Unit]:
    """Units of `UNIT_PROMPTS` that hold about `num` prompts together, spread evenly over all."""
    wanted = min(len(units), max(1, num // UNIT_PROMPTS))
    return [units[i * len(units) // wanted] for i in range(wanted)]


def requests(asked: Asked, prompts: pa.Table, done: set[str]) -> list[tuple[GenerateRequest, Rows]]:
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


def response(row: Mapping[str, Any], generated: Generated) -> dict[str, Any]:
    """A RESPONSE row from what was asked and what came back."""
    return {**row, **generated, "flags": flags(generated["text"], generated["finish_reason"], generated["reject"])}


REFUSAL = re.compile(
    r"\s*(i'?m (very |so )?sorry,? but|i apologi[sz]e,? but|sorry,? (but )?i (can'?t|cannot)"
    r"|as an ai( language model)?\b"
    r"|i('m| am) (not able|unable) to|i (can'?t|cannot|won'?t) (help|assist|provide|fulfil|comply|answer|do that)"
    r"|(很|非常)?抱歉|对不起|作为(一个|一名)?(人工智能|ai)|我(无法|不能)(提供|回答|协助|帮助|满足))",
    re.IGNORECASE,
)
"""How refusals begin, in the product's two languages."""


def flags(text: str, finish_reason: str, reject: str) -> list[str]:
    """What a sample's own text says about it: `truncated`, `empty`, `refused`. None of them drops it."""
    if reject:
        return []
    found = ["truncated"] if finish_reason == "length" else []
    if not text.strip():
        found.append("empty")
    elif REFUSAL.match(text.replace("\u2019", "'")):
        found.append("refused")
    return found


def flag_duplicates(rows: Rows) -> None:
    """Flags each sample whose text an earlier sample has that was asked for in the same way: `duplicate`."""
    seen = set()
    for row in sorted(rows, key=lambda r: int(r["sample_index"])):
        row["flags"] = [f for f in row["flags"] if f != "duplicate"]
        if row["reject"] or not row["text"].strip():
            continue
        key = tuple(row[k] for k in ("prompt_id", "source", "revision", "template", "params", "text"))
        if key in seen:
            row["flags"].append("duplicate")
        seen.add(key)
