"""Estimates the cost of sampling before it runs: prompts, samples, tokens, GPUs, disk and time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..cluster.placement import Need, Resources, place
from ..machine.accelerators import SHARE_OF_MAX_TOKENS
from ..recipe import EndpointSource, Policy, Source
from ..records import RESPONSE
from ..run import Run
from ..sampling import plan
from ..sampling.throughput import ThroughputStats
from ..storage.parts import Parts
from .engine_rate import decoding_rate, gpus_of, hardware_of
from .model_shapes import shape_or_guess
from .prompt_counts import PromptCounts
from .text_tables import aligned, clock, short, size

BYTES_A_TOKEN = 2.0
"""Compressed bytes on disk per response token, if nothing was measured."""
BYTES_A_ROW = 160
"""Further bytes per response, for its identities."""
RAY_S, FLOW_S = 8.0, 6.0
"""Seconds to start Ray, and to start the actor that sends requests to a source."""
DRAIN = 0.3
"""Extra time at the end of sampling, when the engine is no longer full, as a share of the time of one full batch."""
ENGINE_S = {"cpu": 60.0, "gpu": 180.0}
"""Seconds to start an engine that was never measured."""

Lengths = dict[tuple[str, str], tuple[float, float]]
"""(source, domain) -> mean tokens of response and prompt, if responses were sampled."""


@dataclass(slots=True)
class Estimate:
    """The estimated cost of one source."""

    name: str
    samples: int
    """Samples of the whole recipe."""
    missing: int
    """Samples that are not in the run directory yet."""
    tokens: float
    """Tokens to generate for the missing samples."""
    prefill: float
    """Prompt tokens to process for the missing samples."""
    gpus: float
    """GPUs of the replicas that run from the start."""
    disk: float
    """Bytes of the missing responses."""
    seconds: float
    rate: float
    """Generated tokens/s at full concurrency."""
    basis: str
    """How the rate was obtained."""


def estimate(run: Run, counts: PromptCounts, measured: Lengths) -> tuple[list[Estimate], float]:
    """Estimates each source, and the seconds until all sources are done.

    Args:
        measured: see `sampled_lengths`.
    """
    responses = Parts(run.dir, "sample", RESPONSE, "response_id")
    measured_row = _bytes_a_row(responses)
    estimates = []
    for (total, missing_by_domain), pinned in zip(_missing(run, counts, responses), run.pinned_sources, strict=True):
        source, missing = pinned.source, missing_by_domain.total()
        known = [measured[source.name, d] for d in source.samples if (source.name, d) in measured]
        tokens = 0.0
        for domain in source.samples:
            guess = SHARE_OF_MAX_TOKENS * source.sampling_for(domain).max_tokens
            tokens += missing_by_domain[domain] * measured.get((source.name, domain), (guess, 0.0))[0]
        mean_prompt = sum(p for _, p in known) / len(known) if known else 0.0
        prefill = sum(
            missing_by_domain[d] * (mean_prompt or count.tokens)
            for d, count in counts.train.items()
            if d in source.samples
        )
        seconds, rate, basis = _seconds(run, source, tokens, prefill, missing)
        row = measured_row or BYTES_A_ROW + BYTES_A_TOKEN * tokens / max(missing, 1)
        estimates.append(
            Estimate(
                name=source.name,
                samples=total,
                missing=missing,
                tokens=tokens,
                prefill=prefill,
                gpus=_gpus(source),
                disk=row * missing,
                seconds=seconds if missing else 0.0,
                rate=rate,
                basis=basis + ("" if known else f", {SHARE_OF_MAX_TOKENS:g} of max_tokens per response"),
            )
        )
    return estimates, _total(run, estimates)


def _missing(run: Run, counts: PromptCounts, responses: Parts) -> list[tuple[int, Counter[str]]]:
    """For each source: the samples of the whole recipe, and how many of them are missing by domain."""
    if not counts.expected:
        plans = plan.plan(run.pinned_sources, run.prompts("train"), responses, run.recipe.sample.buckets)
        return [(planned.total, planned.missing_by_domain) for planned in plans]
    found = []
    for pinned in run.pinned_sources:
        samples = pinned.source.samples
        wanted = Counter[str]({d: round(c.rows) * samples.get(d, 0) for d, c in counts.train.items()})
        found.append((wanted.total(), wanted))
    return found


def _gpus(source: Policy) -> float:
    return gpus_of(source.engine, source.placement) if isinstance(source, Source) else 0.0


def sampled_lengths(run: Run) -> Lengths:
    """Mean lengths of the responses that were sampled."""
    responses = Parts(run.dir, "sample", RESPONSE, "response_id")
    table = responses.read(columns=["source", "domain", "completion_tokens", "prompt_tokens", "reject"])
    accepted = table.filter(pc.equal(table.column("reject"), ""))
    means = accepted.group_by(["source", "domain"]).aggregate(
        [("completion_tokens", "mean"), ("prompt_tokens", "mean")]
    )
    return {
        (r["source"], r["domain"]): (r["completion_tokens_mean"], r["prompt_tokens_mean"]) for r in means.to_pylist()
    }


def _bytes_a_row(responses: Parts) -> float:
    """Bytes of a response on disk; 0 if there are too few to measure.

    All responses are written as one file, because the small parts, which are merged later, take more space.
    """
    table: pa.Table = responses.read()
    if len(table) < 200:
        return 0.0
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return float(sink.getvalue().size) / len(table)


def _seconds(run: Run, source: Policy, tokens: float, prefill: float, missing: int) -> tuple[float, float, str]:
    """Seconds for one source with its start, tokens/s, and how the rate was obtained."""
    start_s = _start_s(run, source)
    if isinstance(source, EndpointSource):
        return _endpoint_seconds(source, tokens, prefill, missing)
    assert isinstance(source, Source)
    replicas = source.placement.replicas
    file = ("sample", "meters", f"{source.name}.json")
    meter = ThroughputStats(**run.dir.read_json(*file)) if run.dir.exists(*file) else None
    costs = meter.costs() if meter is not None else None
    if meter is not None and costs is not None:
        per_prefill, per_token = costs
        work = (prefill * _uncached_share(meter) * per_prefill + tokens * per_token) / replicas
        rate, basis = replicas / per_token, "measured"
    else:
        parameters = shape_or_guess(source.model, source.name, run.base).parameters
        rate = replicas * decoding_rate(parameters, source.engine, source.placement, run.recipe.sample.concurrency)
        work = tokens / rate
        basis = f"estimated for {hardware_of(source.placement)[0]} and {short(parameters)} parameters"
    batch_s = tokens / max(missing, 1) * run.recipe.sample.concurrency / rate
    return start_s + FLOW_S + work + DRAIN * min(batch_s, work), rate, basis


def _uncached_share(meter: ThroughputStats) -> float:
    """Share of the prompt tokens that were not in the prefix cache."""
    return meter.prefilled / meter.prompt if meter.prompt else 1.0


def _start_s(run: Run, source: Policy) -> float:
    """Seconds to start the source's engine: as last measured, else ENGINE_S."""
    file = ("sample", "meters", f"{source.name}.start.json")
    if run.dir.exists(*file):
        return float(run.dir.read_json(*file)["start_s"])
    return 0.0 if isinstance(source, EndpointSource) else ENGINE_S["gpu" if _gpus(source) else "cpu"]


def _endpoint_seconds(source: EndpointSource, tokens: float, prefill: float, missing: int) -> tuple[float, float, str]:
    """An endpoint is as fast as its rate limits allow. Without rate limits, only a pilot can tell."""
    limits = [0.0]
    if source.requests_per_minute:
        limits.append(60 * missing / source.requests_per_minute)
    if source.tokens_per_minute:
        limits.append(60 * (tokens + prefill) / source.tokens_per_minute)
    seconds = max(limits)
    return seconds, tokens / seconds if seconds else 0.0, "its rate limits" if seconds else "unknown: no rate limit"


def _total(run: Run, estimates: Sequence[Estimate]) -> float:
    """Seconds until the last source is done on this machine or, if the recipe does not fit on it, on a cluster on
    which all sources run at the same time."""
    from ..cluster.connect import local_nodes
    from ..cluster.needs import reserved_needs, serving_needs

    needs = {n.name: n for n in serving_needs(run.recipe)}
    nodes = local_nodes(run.recipe.cluster) if run.recipe.cluster.address is None else None
    waiting = [needs[e.name] for e in estimates if e.seconds and e.name in needs]
    if nodes is not None and not all(place([need, *reserved_needs()], nodes) for need in waiting):
        nodes = None
    return seconds_on(run, estimates, nodes)


def seconds_on(run: Run, estimates: Sequence[Estimate], nodes: Sequence[Resources] | None) -> float:
    """Seconds until the last source is done, when sources that do not fit at the same time run one after the other.

    Args:
        nodes: as for `simulate`.
    """
    from ..cluster.needs import reserved_needs, serving_needs

    waiting = {e.name: e.seconds for e in estimates if e.seconds}
    if not waiting:
        return 0.0
    return RAY_S + simulate(waiting, {n.name: n for n in serving_needs(run.recipe)}, nodes, reserved_needs())


def simulate(
    seconds: Mapping[str, float], needs: Mapping[str, Need], nodes: Sequence[Resources] | None, reserved: Sequence[Need]
) -> float:
    """Seconds that the scheduler (cluster/scheduler.py) would need for all sources.

    Args:
        seconds: source -> seconds that it needs alone.
        nodes: resources of each node; None if the cluster is unknown, then all sources run at the same time.
        reserved: what must stay free for the work that uses the sources.
    """
    if nodes is None:
        return max(seconds.values())
    waiting, running, now = list(seconds), dict[str, float](), 0.0
    while waiting or running:
        for name in list(waiting):
            together = [needs[n] for n in (*running, name) if n in needs]
            if not running or name not in needs or place([*together, *reserved], nodes):
                waiting.remove(name)
                running[name] = now + seconds[name]
        now = min(running.values())
        running = {n: end for n, end in running.items() if end > now}
    return now


def describe(estimates: Sequence[Estimate], total: float) -> list[str]:
    """The estimates as lines of text: a table, and where its numbers come from."""
    head = ("sampling", "samples", "missing", "prompt", "tokens", "tokens/s", "GPUs", "GPU-hours", "time", "disk")
    rows = [head]
    for e in estimates:
        rate = f"{e.rate:.0f}" if e.rate else "?"
        hours = f"{e.gpus * e.seconds / 3600:.1f}"
        work = (f"{e.samples}", f"{e.missing}", short(e.prefill), short(e.tokens))
        rows.append((e.name, *work, rate, f"{e.gpus:g}", hours, clock(e.seconds), size(e.disk)))
    samples, missing = sum(e.samples for e in estimates), sum(e.missing for e in estimates)
    prompt, tokens = short(sum(e.prefill for e in estimates)), short(sum(e.tokens for e in estimates))
    hours = f"{gpu_hours(estimates):.1f}"
    disk = size(sum(e.disk for e in estimates))
    rows.append(("all", f"{samples}", f"{missing}", prompt, tokens, "", "", hours, clock(total), disk))
    lines = [
        *aligned(rows),
        "prompt: tokens of the prompts, once for each sample; tokens: to generate for what is missing; time: with the",
        "engine's start, of all sources with waiting for resources. How the rates were obtained:",
        *(f"  {e.name}: {e.basis}" for e in estimates),
    ]
    if any(not e.basis.startswith("measured") for e in estimates):
        lines.append("`--pilot 64` samples 64 prompts from each source, keeps the responses, and measures the rates")
    return lines


def gpu_hours(estimates: Sequence[Estimate]) -> float:
    """GPU-hours of all sources."""
    return sum(e.gpus * e.seconds for e in estimates) / 3600
