"""What a recipe's sampling will take: prompts, samples, tokens, GPUs, disk and time, before it is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from ..cluster.placement import Need, Resources, place
from ..machine.accelerators import (
    ACCELERATORS,
    CHARS_PER_TOKEN,
    SHARE_OF_MAX_TOKENS,
    Accelerator,
    size_in_name,
)
from ..recipe import EndpointSource, Policy, Source
from ..records import RESPONSE
from ..run import Run
from ..sampling import plan
from ..sampling.throughput import ThroughputStats
from ..storage.parts import Parts

BYTES_A_TOKEN = 2.0
"""On disk, compressed, where nothing was measured; a response's identities take `BYTES_A_ROW` more."""
BYTES_A_ROW = 160
RAY_S, FLOW_S = 8.0, 6.0
"""Seconds to start Ray, and the actor that feeds a source."""
DRAIN = 0.3
"""Share of the time of one full round of responses that the last ones idle."""
ENGINE_S = {"cpu": 60.0, "gpu": 180.0}


CPU = Accelerator(0.02, 0.1)
BANDWIDTH_SHARE, COMPUTE_SHARE = 0.6, 0.4


@dataclass(slots=True)
class Estimate:
    """One source."""

    name: str
    samples: int
    """Of the whole recipe."""
    missing: int
    tokens: float
    """To be generated for what is missing."""
    prefill: float
    """Prompt tokens to be computed for it."""
    gpus: float
    """Of all replicas that are there from the start."""
    disk: float
    """Bytes that the missing responses will take."""
    seconds: float
    rate: float
    """Tokens generated a second while its engine is full."""
    basis: str
    """Where the rate comes from."""


def estimate(run: Run) -> tuple[list[Estimate], float]:
    """Each source's share, and the seconds until all of them are done.

    Raises:
        StageError: the prompts have not been read.
    """
    done = Parts(run.dir, "sample", RESPONSE, "response_id")
    plans = plan.plan(run.pinned_sources, run.prompts("train"), done, run.recipe.sample.buckets)
    lengths = _prompt_tokens(run)
    lengths_of = _measured(done)
    size = _bytes_a_row(run, done)
    found = []
    for one, asked in zip(plans, run.pinned_sources, strict=True):
        source = asked.source
        mine = [lengths_of[source.name, d] for d in source.samples if (source.name, d) in lengths_of]
        tokens = 0.0
        for domain in source.samples:
            guess = SHARE_OF_MAX_TOKENS * source.sampling_for(domain).max_tokens
            tokens += one.missing_by_domain[domain] * lengths_of.get((source.name, domain), (guess, 0.0))[0]
        mean_prompt = sum(p for _, p in mine) / len(mine) if mine else 0.0
        prefill = sum(n * (mean_prompt or lengths.get(d, 0.0)) for d, n in one.missing_by_domain.items())
        seconds, rate, basis = _seconds(run, source, tokens, prefill, one.missing)
        row = size if size else BYTES_A_ROW + BYTES_A_TOKEN * tokens / max(one.missing, 1)
        found.append(
            Estimate(
                name=source.name,
                samples=one.total,
                missing=one.missing,
                tokens=tokens,
                prefill=prefill,
                gpus=_gpus(source),
                disk=row * one.missing,
                seconds=seconds if one.missing else 0.0,
                rate=rate,
                basis=basis + ("" if mine else f", {SHARE_OF_MAX_TOKENS:g} of max_tokens a response"),
            )
        )
    return found, _total(run, found)


def _gpus(source: Policy) -> float:
    if not isinstance(source, Source):
        return 0.0
    engine, placement = source.engine, source.placement
    workers = engine.tensor_parallel_size * engine.pipeline_parallel_size
    return placement.num_gpus * workers * placement.replicas


def _prompt_tokens(run: Run) -> dict[str, float]:
    """Mean prompt tokens by domain, from characters."""
    sums: dict[str, list[int]] = {}
    parts = run.prompts("train")
    for bucket in range(run.recipe.sample.buckets):
        for row in parts.read(bucket, columns=["domain", "messages"]).to_pylist():
            total = sums.setdefault(row["domain"], [0, 0])
            total[0] += sum(len(m["content"]) for m in row["messages"])
            total[1] += 1
    return {d: chars / num / CHARS_PER_TOKEN for d, (chars, num) in sums.items()}


def sampled_lengths(run: Run) -> dict[tuple[str, str], tuple[float, float]]:
    """(source, domain) -> mean tokens of response and prompt, of what was sampled."""
    return _measured(Parts(run.dir, "sample", RESPONSE, "response_id"))


def _measured(done: Parts) -> dict[tuple[str, str], tuple[float, float]]:
    """(source, domain) -> mean completion and prompt tokens of the responses that are there."""
    table = done.read(columns=["source", "domain", "completion_tokens", "prompt_tokens", "reject"])
    kept = table.filter(pc.equal(table.column("reject"), ""))
    means = kept.group_by(["source", "domain"]).aggregate([("completion_tokens", "mean"), ("prompt_tokens", "mean")])
    return {
        (r["source"], r["domain"]): (r["completion_tokens_mean"], r["prompt_tokens_mean"]) for r in means.to_pylist()
    }


def _bytes_a_row(run: Run, done: Parts) -> float:
    """Bytes that a response takes on disk; small parts, which are put together later, would overstate it."""
    table: pa.Table = done.read()
    if len(table) < 200:
        return 0.0
    sink = pa.BufferOutputStream()
    import pyarrow.parquet as pq

    pq.write_table(table, sink, compression="zstd")
    return float(sink.getvalue().size) / len(table)


def _seconds(run: Run, source: Policy, tokens: float, prefill: float, missing: int) -> tuple[float, float, str]:
    """Seconds for one source with its start, tokens/s, and where they come from."""
    start = _start_s(run, source)
    if isinstance(source, EndpointSource):
        return _endpoint_seconds(source, tokens, prefill, missing)
    assert isinstance(source, Source)
    replicas = source.placement.replicas
    file = ("sample", "meters", f"{source.name}.json")
    costs = ThroughputStats(**run.dir.read_json(*file)).costs() if run.dir.exists(*file) else None
    if costs is not None:
        per_prefill, per_token = costs
        share = _uncached(ThroughputStats(**run.dir.read_json(*file)))
        work = (prefill * share * per_prefill + tokens * per_token) / replicas
        rate, basis = replicas / per_token, "measured"
    else:
        rate = replicas * modelled_rate(source, run.recipe.sample.concurrency)
        work, basis = tokens / rate, f"a model of {_hardware(source)[0]} and {_short(parameters_of(source))} parameters"
    round_s = tokens / max(missing, 1) * run.recipe.sample.concurrency / rate
    return start + FLOW_S + work + DRAIN * min(round_s, work), rate, basis


def _uncached(meter: ThroughputStats) -> float:
    return meter.prefilled / meter.prompt if meter.prompt else 1.0


def _start_s(run: Run, source: Policy) -> float:
    file = ("sample", "meters", f"{source.name}.start.json")
    if run.dir.exists(*file):
        return float(run.dir.read_json(*file)["start_s"])
    return 0.0 if isinstance(source, EndpointSource) else ENGINE_S["gpu" if _gpus(source) else "cpu"]


def _endpoint_seconds(source: EndpointSource, tokens: float, prefill: float, missing: int) -> tuple[float, float, str]:
    """An endpoint is as fast as its limits let it be; without limits nothing is known before a pilot."""
    waits = [0.0]
    if source.requests_per_minute:
        waits.append(60 * missing / source.requests_per_minute)
    if source.tokens_per_minute:
        waits.append(60 * (tokens + prefill) / source.tokens_per_minute)
    seconds = max(waits)
    return seconds, tokens / seconds if seconds else 0.0, "its rate limits" if seconds else "unknown: no rate limit"


def modelled_rate(source: Source, concurrency: int) -> float:
    """Tokens/s of one replica by the stated model of its hardware."""
    _, hardware = _hardware(source)
    parameters = parameters_of(source)
    workers = source.engine.tensor_parallel_size
    read = 2 * parameters / (hardware.bandwidth * 1e12 * BANDWIDTH_SHARE * workers)
    computed = 2 * parameters * concurrency / (hardware.compute * 1e12 * COMPUTE_SHARE * workers)
    return concurrency / max(read, computed)


def _hardware(source: Source) -> tuple[str, Accelerator]:
    if not source.placement.num_gpus:
        return "a CPU", CPU
    kind = source.placement.accelerator_type or ""
    return (kind, ACCELERATORS[kind]) if kind in ACCELERATORS else ("an H100", ACCELERATORS["H100"])


def parameters_of(source: Source) -> float:
    """Parameters as the model's name tells them; see `size_in_name`."""
    return size_in_name(source.model.hub or source.model.path or source.name)


def _total(run: Run, estimates: Sequence[Estimate]) -> float:
    """Seconds until the last source is done, turns reckoned with."""
    from ..cluster.connect import local_nodes
    from ..cluster.needs import reserved_needs, serving_needs

    waiting = {e.name: e.seconds for e in estimates if e.seconds}
    if not waiting:
        return 0.0
    needs = {n.name: n for n in serving_needs(run.recipe)}
    nodes = local_nodes(run.recipe.cluster) if run.recipe.cluster.address is None else None
    if nodes is not None and not all(place([needs[n], *reserved_needs()], nodes) for n in waiting if n in needs):
        nodes = None  # made for another cluster than this machine
    return RAY_S + simulate(waiting, needs, nodes, reserved_needs())


def simulate(
    seconds: Mapping[str, float], needs: Mapping[str, Need], nodes: Sequence[Resources] | None, reserved: Sequence[Need]
) -> float:
    """Seconds that scheduler.run_tasks would take; all at once where the cluster is not known."""
    if nodes is None:
        return max(seconds.values())
    waiting, running, now = list(seconds), dict[str, float](), 0.0
    while waiting or running:
        for name in list(waiting):
            beside = [needs[n] for n in (*running, name) if n in needs]
            if not running or name not in needs or place([*beside, *reserved], nodes):
                waiting.remove(name)
                running[name] = now + seconds[name]
        now = min(running.values())
        running = {n: end for n, end in running.items() if end > now}
    return now


def describe(run: Run) -> str:
    """The plan as a table in text."""
    estimates, total = estimate(run)
    counts = Counter(run.prompts("train").read(columns=["domain"]).column("domain").to_pylist())
    lines = [f"prompts: {sum(counts.values())} ({', '.join(f'{n} {d}' for d, n in counts.items())})", ""]
    head = ("source", "samples", "missing", "tokens", "GPUs", "disk", "tokens/s", "time", "basis")
    rows = [
        (
            e.name,
            f"{e.samples}",
            f"{e.missing}",
            _short(e.tokens),
            f"{e.gpus:g}",
            f"{e.disk / 1e6:.1f} MB",
            f"{e.rate:.0f}" if e.rate else "?",
            _time(e.seconds),
            e.basis,
        )
        for e in estimates
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    lines += ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)]
    samples, disk = sum(e.samples for e in estimates), sum(e.disk for e in estimates)
    lines += [
        "",
        f"all: {samples} samples, {sum(e.missing for e in estimates)} missing, "
        f"{_short(sum(e.tokens for e in estimates))} tokens to generate, {disk / 1e6:.1f} MB, "
        f"time {_time(total)} with starts and turns",
    ]
    if any(not e.basis.startswith("measured") for e in estimates):
        lines.append("`--pilot 64` samples 64 prompts a source, keeps them, and reckons with what they took")
    return "\n".join(lines)


def _short(number: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.1f}{unit}"
    return f"{number:.0f}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
