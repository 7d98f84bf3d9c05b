"""Drawing what is missing from every source: plans, deployments that take turns, and whole shards at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fusechat.pipeline.cluster.scheduler import Job, take_turns
from fusechat.pipeline.errors import StageError
from fusechat.pipeline.recipe import EndpointSource, Source
from fusechat.pipeline.records import CARRIED, RESPONSE, digest, response_id
from fusechat.pipeline.run import Outcome, Run
from fusechat.pipeline.sampling import plan
from fusechat.pipeline.sampling.plan import Asked, Rows
from fusechat.pipeline.storage.run_dir import Parts

FLAGS = ("truncated", "empty", "refused", "duplicate")


@dataclass(frozen=True, slots=True)
class Want:
    """What one source is asked: all of these prompts that it serves."""

    asked: Asked
    prompts: Parts
    """PROMPT, in buckets."""
    label: str
    """Of its progress."""


def draw(
    run: Run,
    stage: str,
    folder: str,
    wants: Sequence[Want],
    services: Callable[[list[Asked]], Any],
    pilot: int | None = None,
    keep: Collection[str] | None = None,
) -> int:
    """Brings every response that is wanted and not durable; returns the tokens generated.

    Args:
        folder: of the responses' parts.
        wants: several of one source are asked one after the other.
        services: the services by name of the sources that are hosted here; called for those that miss something.
        pilot: prompts a source, about; none takes all.
        keep: sources that are asked again soon; others give their memory back when they are done. None keeps all.

    Raises:
        StageError: sources were given up; the others brought all of theirs.
    """
    from fusechat.pipeline.sampling.batch_worker import Served, feed
    from fusechat.pipeline.sampling.openai_backend import Endpoint

    done = Parts(run.dir, folder, RESPONSE, "response_id")
    largest = plan.LARGEST_UNIT if pilot is None else plan.UNIT_PROMPTS
    missing = [each for each in _plans(wants, done, run.recipe.sample.buckets, largest) if each[1].missing]
    if not missing:
        return 0
    if pilot is not None:
        for _, found in missing:
            found.units = plan.sampled(found.units, pilot)
    hosted = services([want.asked for want, _ in missing if not isinstance(want.asked.source, EndpointSource)])
    tokens = 0

    def job(name: str, mine: Sequence[tuple[Want, plan.Plan]]) -> Job:
        service = hosted.get(name)

        def work() -> None:
            nonlocal tokens
            if service is not None:
                run.dir.write_json({"start_s": run.fleet.start_s(name)}, folder, "meters", f"{name}.start.json")
            for want, found in mine:  # one after the other: a source has one bound on what is in flight
                one, source = want.asked, want.asked.source
                asker = Endpoint(source) if isinstance(source, EndpointSource) else Served(name)
                replicas = source.placement.max_replicas if isinstance(source, Source) else 1
                with (
                    run.shown(want.label, found.total, found.total - found.missing) as show,
                    run.fleet.watched(name),
                ):
                    tokens += feed(
                        run.dir,
                        want.prompts.folder,
                        folder,
                        one,
                        asker,
                        found.units,
                        run.recipe.sample,
                        show,
                        replicas,
                    )

        return Job(name, service, work, last=keep is not None and name not in keep)

    by_source: dict[str, list[tuple[Want, plan.Plan]]] = {}
    for each in missing:
        by_source.setdefault(each[0].asked.source.name, []).append(each)
    failed = take_turns([job(name, mine) for name, mine in by_source.items()], run.fleet)
    if failed:
        raise StageError(stage, ", ".join(failed), "; ".join(str(e) for e in failed.values()))
    return tokens


def _plans(wants: Sequence[Want], done: Parts, num_buckets: int, largest: int) -> list[tuple[Want, plan.Plan]]:
    """The plans, in the wants' order; prompts that several are asked are read once."""
    found: dict[int, plan.Plan] = {}
    for folder in dict.fromkeys(want.prompts.folder for want in wants):
        mine = [i for i, want in enumerate(wants) if want.prompts.folder == folder]
        asked = [wants[i].asked for i in mine]
        found |= zip(mine, plan.plan(asked, wants[mine[0]].prompts, done, num_buckets, largest), strict=True)
    return [(want, found[i]) for i, want in enumerate(wants)]


def carried(table: pa.Table) -> Rows:
    """RESPONSE rows of the responses that prompt rows carry (CARRIED)."""
    found = []
    for row in table.to_pylist():
        text = row["text"]
        # The text is part of the identity: other words under the same prompt are another response.
        params = {"text": digest(text)}
        identity = response_id(row["prompt_id"], row["source"], "imported", "imported", params, row["sample_index"])
        found.append(
            {
                "response_id": identity,
                "prompt_id": row["prompt_id"],
                "domain": row["domain"],
                "source": row["source"],
                "revision": "imported",
                "sample_index": row["sample_index"],
                "seed": 0,
                "params": json.dumps(params),
                "template": "imported",
                "text": text,
                "finish_reason": "imported",
                "reject": "",
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "flags": plan.flags(text, "imported", ""),
            }
        )
    return found


def wanted_of(run: Run, bucket: int) -> set[str]:
    """Identities of the training prompts' responses that the recipe asks for or that prompt rows carry."""
    ids = plan.wanted_ids(run.asked, run.prompts("train").read(bucket, columns=["domain"]))
    table = Parts(run.dir, "prompts/responses", CARRIED, "carried_id").read(bucket)
    return ids | {row["response_id"] for row in carried(table)}


def buckets(run: Run) -> Iterator[tuple[int, Rows]]:
    """The stage's responses, a bucket at a time: those that the recipe asks for, sorted by identity."""
    parts = Parts(run.dir, "sample", RESPONSE, "response_id")
    for bucket in range(run.recipe.sample.buckets):
        wanted = wanted_of(run, bucket)
        if wanted:
            yield bucket, [r for r in parts.read(bucket).to_pylist() if r["response_id"] in wanted]


def bring_carried(run: Run) -> None:
    """Makes responses that prompt rows carry part of the stage's output."""
    parts = Parts(run.dir, "sample", RESPONSE, "response_id")
    for bucket in range(run.recipe.sample.buckets):
        rows = carried(Parts(run.dir, "prompts/responses", CARRIED, "carried_id").read(bucket))
        there = parts.ids(bucket) if rows else set()
        parts.write(bucket, [r for r in rows if r["response_id"] not in there])


def finish(run: Run, tokens: int) -> Outcome:
    """Ends the stage: one shard a bucket, duplicates flagged, everything counted."""
    parts = Parts(run.dir, "sample", RESPONSE, "response_id")
    counts = dict.fromkeys(("responses", "rejected", *FLAGS), 0)
    digests = []
    for bucket in range(run.recipe.sample.buckets):
        rows = parts.read(bucket).to_pylist()
        if not rows:
            continue
        plan.flag_duplicates(rows)
        parts.compact(bucket, rows)
        wanted = wanted_of(run, bucket)
        mine = [r for r in rows if r["response_id"] in wanted]
        counts["responses"] += len(mine)
        counts["rejected"] += sum(bool(r["reject"]) for r in mine)
        for flag in FLAGS:
            counts[flag] += sum(flag in r["flags"] for r in mine)
        digests.append(digest([[r["response_id"], r["text"], r["reject"]] for r in mine]))
    return Outcome(digest(digests), counts, tokens)
