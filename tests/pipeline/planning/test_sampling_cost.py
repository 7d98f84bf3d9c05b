"""The plan of sampling: it uses measurements, states its assumptions, and adds up the time of each turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from example_recipe import make_run, source_tree
from example_rows import make_generated

from fusechat.pipeline.cluster.placement import Need
from fusechat.pipeline.planning.engine_rate import decoding_rate
from fusechat.pipeline.planning.model_shapes import parameters_of
from fusechat.pipeline.planning.prompt_counts import counted
from fusechat.pipeline.planning.sampling_cost import Estimate, describe, estimate, sampled_lengths, simulate
from fusechat.pipeline.recipe import Source
from fusechat.pipeline.records import RESPONSE
from fusechat.pipeline.run import Run
from fusechat.pipeline.sampling.plan import requests, response
from fusechat.pipeline.sampling.throughput import EngineCounters, ThroughputRecorder, ThroughputStats
from fusechat.pipeline.stages.walk import walk
from fusechat.pipeline.storage.parts import Parts

ONE_BILLION = source_tree(model={"path": "models/a-1b"}, samples={"math": 2, "instruction": 1})
"""A source whose model's name says that it has 1G parameters."""


def run(folder: Path, num: int = 40, **changes: Any) -> Run:
    """A run of `num` math prompts, which have been read."""
    rows = [
        {"id": str(i), "domain": "math", "prompt": f"What is {i} + {i}? " + "x" * 80, "gold": "1"} for i in range(num)
    ]
    made = make_run(folder, rows, **{"sources": [ONE_BILLION], "cluster": {"num_cpus": 2}, **changes})
    walk(made, ("prompts",))
    return made


def estimated(work: Run) -> tuple[list[Estimate], float]:
    return estimate(work, counted(work), sampled_lengths(work))


def shown(work: Run) -> str:
    """The table of sampling, as text."""
    return "\n".join(describe(*estimated(work)))


def sampled(work: Run, num: int, tokens: int) -> None:
    """Writes the responses of `num` prompts."""
    pinned = work.pinned_sources[0]
    parts = Parts(work.dir, "sample", RESPONSE, "response_id")
    for _, rows in requests(pinned, work.train_prompts, set())[:num]:
        made = [response(r, make_generated(r["response_id"], prompt_tokens=30, completion_tokens=tokens)) for r in rows]
        parts.write_all(made, work.recipe.sample.buckets)


def test_without_a_measurement_the_assumptions_are_stated(tmp_path: Path) -> None:
    work = run(tmp_path)
    ((one,), total) = estimated(work)
    assert (one.samples, one.missing, one.gpus) == (80, 80, 0)
    assert one.tokens == 80 * 1024  # half of max_tokens
    assert one.basis == "estimated for a CPU and 1.0G parameters, 0.5 of max_tokens per response"
    assert total > one.seconds > one.tokens / one.rate
    assert "--pilot 64" in shown(work)


def test_what_was_sampled_is_measured_and_no_longer_missing(tmp_path: Path) -> None:
    work = run(tmp_path)
    sampled(work, 10, tokens=7)
    meter = ThroughputStats()
    for i in range(20):
        meter.add(1.0, 20.0 + i, 100.0 - i)
    work.dir.write_json(meter.as_json(), "sample", "meters", "a.json")
    work.dir.write_json({"start_s": 33.0}, "sample", "meters", "a.start.json")
    ((one,), _) = estimated(work)
    assert (one.missing, one.tokens) == (60, 60 * 7)
    assert one.basis == "measured"
    assert 33 < one.seconds < 33 + 30
    assert "--pilot" not in shown(work)


def test_a_finished_source_takes_no_time(tmp_path: Path) -> None:
    work = run(tmp_path)
    sampled(work, 40, tokens=7)
    ((one,), total) = estimated(work)
    assert (one.missing, one.seconds, total) == (0, 0.0, 0.0)


def test_an_endpoint_takes_what_its_limits_leave(tmp_path: Path) -> None:
    far = {"kind": "endpoint", "name": "far", "url": "http://127.0.0.1:1/v1", "model": "m", "samples": {"math": 3}}
    work = run(tmp_path, sources=[ONE_BILLION, {**far, "requests_per_minute": 60}])
    one = estimated(work)[0][1]
    assert (one.missing, one.seconds, one.gpus) == (120, 120.0, 0)
    assert one.basis.startswith("its rate limits")


# --- the model of hardware


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"hub": "Qwen/Qwen2.5-72B-Instruct", "revision": "x"}, 72_706_203_648),
        ({"hub": "google/gemma-2-27b-it", "revision": "x"}, 27_227_128_320),
        ({"hub": "mistralai/Mistral-Large-Instruct-2411", "revision": "x"}, 123e9),
        ({"hub": "HuggingFaceTB/SmolLM2-135M-Instruct", "revision": "x"}, 135e6),
        ({"path": "models/mystery"}, 8e9),
    ],
)
def test_a_models_size_is_published_or_in_its_name(model: dict[str, Any], expected: float) -> None:
    source = Source.model_validate(source_tree(model=model))
    assert parameters_of(source.model, source.name) == expected


def test_more_gpus_and_smaller_models_are_faster() -> None:
    def rate(model: str, gpus: int) -> float:
        made = source_tree(
            model={"hub": model, "revision": "x"},
            engine={"tensor_parallel_size": gpus},
            placement={"num_gpus": 1, "accelerator_type": "H100"},
        )
        source = Source.model_validate(made)
        return decoding_rate(parameters_of(source.model, source.name), source.engine, source.placement, 256)

    assert rate("x/8B", 2) == pytest.approx(2 * rate("x/8B", 1))
    assert rate("x/8B", 1) > 5 * rate("x/72B", 1)


def test_turns_take_their_time() -> None:
    needs = {n: Need(n, ({"CPU": c},), "s") for n, c in (("a", 1.0), ("b", 1.0), ("c", 2.0))}
    nodes = [{"CPU": 2.2}]
    reserved = [Need("workers", ({"CPU": 0.1},), "s")]
    assert simulate({"a": 10, "b": 4, "c": 5}, needs, nodes, reserved) == 15  # a and b together, then c
    assert simulate({"a": 10, "b": 4, "far": 20}, needs, nodes, reserved) == 20  # an endpoint needs no resources
    assert simulate({"a": 10, "b": 4, "c": 5}, needs, None, reserved) == 10  # on an unknown cluster


# --- the meter


def test_costs_are_found_again() -> None:
    meter = ThroughputStats()
    for i in range(50):
        prefilled, generated = 100.0 * (i % 5), 200.0 + 10 * (i % 7)
        meter.add(prefilled * 0.001 + generated * 0.004, prefilled, generated)
    prefill, token = meter.costs() or (0, 0)
    assert prefill == pytest.approx(0.001, rel=1e-6)
    assert token == pytest.approx(0.004, rel=1e-6)


def test_all_seconds_are_accounted_for_whatever_the_fit_leaves() -> None:
    meter = ThroughputStats()
    for i in range(50):
        meter.add(1.0 + (i % 3), 100.0 * (i % 5), 200.0 + 10 * (i % 7))
    prefill, token = meter.costs() or (0, 0)
    assert prefill * meter.prefilled + token * meter.generated == pytest.approx(meter.seconds)


def test_too_little_is_no_measurement() -> None:
    meter = ThroughputStats()
    meter.add(1.0, 10.0, 10.0)
    assert meter.costs() is None


def test_only_full_intervals_of_one_life_count() -> None:
    watch = ThroughputRecorder()

    def reading(prompt: float, cached: float, generation: float, replica: str = "a") -> EngineCounters:
        return EngineCounters(replica=replica, prompt=prompt, cached=cached, generation=generation)

    watch.record(0.0, reading(0, 0, 0), True)
    watch.record(1.0, reading(100, 40, 500), True)
    watch.record(2.0, reading(150, 60, 700), False)  # an idle interval
    watch.record(3.0, reading(0, 0, 10), True)  # the engine was replaced
    watch.record(4.0, reading(30, 0, 60), True)
    meter = watch.stats
    assert (meter.intervals, meter.seconds, meter.prefilled, meter.generated) == (2, 2.0, 90, 550)
    watch.record(5.0, reading(9000, 0, 8000, "b"), True)  # from another replica
    watch.record(6.0, reading(50, 0, 100), True)
    watch.record(7.0, reading(9010, 0, 8020, "b"), True)
    assert (meter.intervals, meter.seconds, meter.prefilled, meter.generated) == (4, 6.0, 120, 610)
