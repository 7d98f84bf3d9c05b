"""Sampling: prompts to responses, by Ray Data over the sources' deployments.

The plan is pure: which samples are wanted, less which are durable. Ray Data runs it; each batch is durable as a
Parquet part before it counts as done.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import pyarrow as pa

from fusechat.pipeline.config import Domain, Sample, Sampling, Source
from fusechat.pipeline.errors import StageError
from fusechat.pipeline.flow import Done, attempts, drive, each
from fusechat.pipeline.records import RESPONSE, bucket_of, digest, response_id, seed_of
from fusechat.pipeline.shards import Parts, RunDir
from fusechat.pipeline.wire import Generated, GenerateRequest, Wanted


@dataclass(frozen=True, slots=True)
class Asked:
    """A source with everything that its responses' identities hang on."""

    source: Source
    revision: str
    template: str
    """sha256 of the chat template's text and the system policy; `model` where the model's own template rules."""
    seed: int


class Unit(TypedDict):
    """One batch: what a Ray Data row carries."""

    requests: list[GenerateRequest]
    rows: list[dict[str, Any]]
    """What is known of each wanted response beforehand: RESPONSE less what the model adds."""


def sampling_params(sampling: Sampling) -> dict[str, Any]:
    """vLLM's SamplingParams of a recipe's sampling section."""
    return {**sampling.model_dump(exclude={"stop"}), "stop": list(sampling.stop)}


def template_identity(text: str | None, system: str) -> str:
    """What the response's identity keeps of the template."""
    return f"model/{system}" if text is None else digest(text, system)


def wanted(asked: Asked, prompts: pa.Table) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each prompt that the source serves, with the rows of all its samples; prompts in the table's order."""
    source = asked.source
    params: dict[str, dict[str, Any]] = {d: sampling_params(source.sampling_for(d)) for d in source.samples}
    texts = {d: json.dumps(p, sort_keys=True) for d, p in params.items()}
    for prompt in prompts.select(["prompt_id", "domain", "messages"]).to_pylist():
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


def wanted_ids(asked: Sequence[Asked], prompts: pa.Table) -> set[str]:
    """Identities of all responses that the recipe asks for."""
    return {row["response_id"] for a in asked for _, rows in wanted(a, prompts) for row in rows}


def plan(asked: Asked, prompts: pa.Table, done: set[str], config: Sample) -> list[Unit]:
    """Batches of what is wanted and not durable yet (an anti-join on identities).

    All samples of a prompt go in one batch, so that they share the prompt's prefix in vLLM's cache. Batches follow the
    buckets, so that each writes few parts.
    """
    missing = []
    for prompt, rows in wanted(asked, prompts):
        left = [r for r in rows if r["response_id"] not in done]
        if left:
            missing.append((bucket_of(prompt["prompt_id"], config.buckets), prompt, left))
    missing.sort(key=lambda m: (m[0], m[1]["prompt_id"]))
    units = []
    for start in range(0, len(missing), config.batch_size):
        batch = missing[start : start + config.batch_size]
        requests = [
            GenerateRequest(
                messages=prompt["messages"],
                params=json.loads(rows[0]["params"]),
                samples=[Wanted(response_id=r["response_id"], seed=r["seed"]) for r in rows],
            )
            for _, prompt, rows in batch
        ]
        units.append(Unit(requests=requests, rows=[r for _, _, rows in batch for r in rows]))
    return units


def complete(rows: Sequence[Mapping[str, Any]], generated: Sequence[Generated]) -> list[dict[str, Any]]:
    """RESPONSE rows from what was asked and what came back, joined by identity.

    Raises:
        StageError: the source answered with other identities than it was asked for.
    """
    by_id = {g["response_id"]: g for g in generated}
    if by_id.keys() != {r["response_id"] for r in rows}:
        raise StageError("sample", str(rows[0]["source"]), "the source answered with other identities than asked for")
    return [{**row, **by_id[row["response_id"]]} for row in rows]


class Feeder:
    """Ray Data's worker: sends batches to one source and makes what comes back durable."""

    def __init__(self, run: RunDir, folder: str, app: str, config: Sample) -> None:
        from ray import serve

        self._parts = Parts(run, folder, RESPONSE, "response_id")
        self._handle = serve.get_app_handle(app)
        self._config = config

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        """Ray Data's calling convention: a column of units in, a column of results out."""
        return each(batch, self._feed)

    def _feed(self, text: str) -> Done:
        unit: Unit = json.loads(text)
        answers = attempts(lambda: self._handle.generate.remote(unit["requests"]).result(), self._config.max_attempts)
        rows = complete(unit["rows"], [g for answer in answers for g in answer])
        self._parts.write_all(rows, self._config.buckets)
        return Done(rows=len(rows), tokens=sum(r["completion_tokens"] for r in rows), error="")


def feed(
    run: RunDir,
    folder: str,
    app: str,
    units: Sequence[Unit],
    config: Sample,
    on_batch: Callable[[int, int], None],
) -> int:
    """Runs the batches of one source to their end; returns the tokens generated.

    Raises:
        StageError: a batch failed `config.max_attempts` times; what other batches brought is kept.
    """
    work = [json.dumps(u) for u in units]
    return drive(
        Feeder,
        (run, folder, app, config),
        work,
        stage="sample",
        who=app,
        concurrency=config.concurrency,
        on_batch=on_batch,
    )
