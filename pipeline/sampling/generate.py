"""Sampling what is missing from every source: plans, deployments that take turns, and one shard a bucket at the end."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..cluster.scheduler import DeploymentTask, run_tasks
from ..cluster.services import SourceService
from ..errors import StageError
from ..identities import IMPORTED, digest, imported_id, imported_params
from ..models.pinned_source import PinnedSource
from ..recipe import Domain, EndpointSource, Source
from ..records import CARRIED, RESPONSE, CarriedRow, ResponseRow
from ..run import Run
from ..storage.manifest import Outcome
from ..storage.parts import Parts
from . import token_count
from .flags import flag_duplicates, flags
from .plan import LARGEST_UNIT, UNIT_PROMPTS, Plan, pilot_units, plan, wanted_domains, with_domains

FLAGS = ("truncated", "empty", "refused", "duplicate")


@dataclass(frozen=True, slots=True)
class Want:
    """A request for samples from one source: for all of these prompts that it serves."""

    source: PinnedSource
    prompts: Parts
    """PROMPT, in buckets."""
    label: str
    """Label of its progress."""


def draw(
    run: Run,
    stage: str,
    folder: str,
    wants: Sequence[Want],
    services: Callable[[list[PinnedSource]], Mapping[str, SourceService]],
    pilot: int | None = None,
    keep: Collection[str] | None = None,
) -> int:
    """Samples every response that is wanted and not stored; returns the number of tokens generated.

    Args:
        folder: of the responses' parts.
        wants: several wants of one source run one after the other.
        services: takes the sources that are served here and miss responses; returns their services by name.
        pilot: approximate number of prompts for each source; None means all prompts.
        keep: sources that will be needed again soon. Others are stopped when they are done. None keeps all.

    Raises:
        StageError: some sources were given up. The others have all of their responses.
    """
    done = Parts(run.dir, folder, RESPONSE, "response_id")
    largest = LARGEST_UNIT if pilot is None else UNIT_PROMPTS
    missing = [each for each in _plans(wants, done, run.recipe.sample.buckets, largest) if each[1].missing]
    if not missing:
        return 0
    if pilot is not None:
        for _, planned in missing:
            planned.units = pilot_units(planned.units, pilot)
    served = services([want.source for want, _ in missing if not isinstance(want.source.source, EndpointSource)])
    by_source: dict[str, list[tuple[Want, Plan]]] = {}
    for each in missing:
        by_source.setdefault(each[0].source.source.name, []).append(each)
    tokens: list[int] = []

    def job(name: str, planned: Sequence[tuple[Want, Plan]]) -> DeploymentTask:
        service = served.get(name)

        def work() -> None:
            if service is not None:
                start = {"start_s": run.deployments.start_s(name)}
                run.dir.write_json(start, folder, "meters", f"{name}.start.json")
            for want, plan_ in planned:  # one after the other: a source has one bound on its samples in flight
                tokens.append(_sample(run, folder, want, plan_))

        return DeploymentTask(name, service, work, last=keep is not None and name not in keep)

    failed = run_tasks([job(name, planned) for name, planned in by_source.items()], run.deployments)
    if failed:
        raise StageError(stage, ", ".join(failed), "; ".join(str(e) for e in failed.values()))
    return sum(tokens)


def _sample(run: Run, folder: str, want: Want, planned: Plan) -> int:
    """Samples what one want misses, from a source that is up."""
    from .batch_worker import sample_units  # imports Ray
    from .openai_backend import OpenAIBackend
    from .serve_backend import ServeBackend

    source = want.source.source
    backend = OpenAIBackend(source) if isinstance(source, EndpointSource) else ServeBackend(source.name)
    replicas = source.placement.max_replicas if isinstance(source, Source) else 1
    with (
        run.show_progress(want.label, planned.total, planned.total - planned.missing) as show,
        run.deployments.watched(source.name),
    ):
        config = run.recipe.sample
        prompts = want.prompts.folder
        return sample_units(run.dir, prompts, folder, want.source, backend, planned.units, config, show, replicas)


def _plans(wants: Sequence[Want], done: Parts, num_buckets: int, largest: int) -> list[tuple[Want, Plan]]:
    """The plans, in the order of `wants`. Prompts of several sources are read once."""
    found: dict[int, Plan] = {}
    for folder in dict.fromkeys(want.prompts.folder for want in wants):
        mine = [i for i, want in enumerate(wants) if want.prompts.folder == folder]
        sources = [wants[i].source for i in mine]
        found |= zip(mine, plan(sources, wants[mine[0]].prompts, done, num_buckets, largest), strict=True)
    return [(want, found[i]) for i, want in enumerate(wants)]


def carried_responses(rows: Sequence[CarriedRow]) -> list[ResponseRow]:
    """The responses that prompt rows bring along."""
    found: list[ResponseRow] = []
    for row in rows:
        text = row["text"]
        found.append(
            {
                "response_id": imported_id(row["prompt_id"], row["source"], text, row["sample_index"]),
                "prompt_id": row["prompt_id"],
                "domain": row["domain"],
                "source": row["source"],
                "revision": IMPORTED,
                "sample_index": row["sample_index"],
                "seed": 0,
                "params": json.dumps(imported_params(text)),
                "template": IMPORTED,
                "text": text,
                "finish_reason": IMPORTED,
                "reject": "",
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "flags": flags(text, IMPORTED, ""),
            }
        )
    return found


def _carried(run: Run, bucket: int) -> list[ResponseRow]:
    return carried_responses(Parts(run.dir, "prompts/responses", CARRIED, "carried_id").read(bucket).to_pylist())


def _wanted(run: Run, bucket: int) -> dict[str, Domain]:
    """Identity -> the prompt's domain, of the responses that the recipe asks for or that prompt rows bring along."""
    prompts = run.prompts("train").read(bucket, columns=["domain"])
    domains = dict(zip(*(prompts.column(c).to_pylist() for c in ("prompt_id", "domain")), strict=True))
    carried = {r["response_id"]: domains[r["prompt_id"]] for r in _carried(run, bucket) if r["prompt_id"] in domains}
    return wanted_domains(run.pinned_sources, prompts) | carried


def buckets(run: Run) -> Iterator[tuple[int, list[ResponseRow]]]:
    """The responses that the recipe asks for, one bucket at a time, sorted by identity."""
    parts = Parts(run.dir, "sample", RESPONSE, "response_id")
    for bucket in range(run.recipe.sample.buckets):
        wanted = _wanted(run, bucket)
        if wanted:
            yield bucket, with_domains(parts.read(bucket).to_pylist(), wanted)


def responses(run: Run) -> list[ResponseRow]:
    """The stored responses that the recipe asks for. Responses to earlier settings are left out."""
    return [row for _, rows in buckets(run) for row in rows]


def import_carried(run: Run) -> None:
    """Stores the responses that prompt rows bring along."""
    parts = Parts(run.dir, "sample", RESPONSE, "response_id")
    for bucket in range(run.recipe.sample.buckets):
        rows = _carried(run, bucket)
        stored = parts.ids(bucket) if rows else set()
        parts.write(bucket, [r for r in rows if r["response_id"] not in stored])


def finish(run: Run, tokens: int) -> Outcome:
    """Ends the stage: writes one shard a bucket, brings domains up to date, counts the tokens of imported responses if
    a rule limits them, flags duplicates, and counts everything."""
    parts = Parts(run.dir, "sample", RESPONSE, "response_id")
    count_tokens = token_count.counter(run) if token_count.is_needed(run) else None
    counts = dict.fromkeys(("responses", "rejected", *FLAGS), 0)
    digests = []
    for bucket in range(run.recipe.sample.buckets):
        rows: list[ResponseRow] = parts.read(bucket).to_pylist()
        if not rows:
            continue
        wanted = _wanted(run, bucket)
        rows = [{**r, "domain": wanted.get(r["response_id"], r["domain"])} for r in rows]
        mine = [r for r in rows if r["response_id"] in wanted]
        if count_tokens is not None:
            imported = [r for r in mine if r["finish_reason"] == IMPORTED]
            for row, num in zip(imported, count_tokens([r["text"] for r in imported]), strict=True):
                row["completion_tokens"] = num
        flag_duplicates(rows)
        parts.compact(bucket, rows)
        counts["responses"] += len(mine)
        counts["rejected"] += sum(bool(r["reject"]) for r in mine)
        for flag in FLAGS:
            counts[flag] += sum(flag in r["flags"] for r in mine)
        digests.append(texts_digest(mine))
    return Outcome(digest(digests), counts, tokens)


def texts_digest(rows: Iterable[Mapping[str, object]]) -> str:
    """Hash of a bucket's responses: identity, text and reject of each. The stage's is the hash of all of these."""
    return digest([[r["response_id"], r["text"], r["reject"]] for r in rows])
