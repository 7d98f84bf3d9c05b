"""Sampling's plan: identities, seeds, and an anti-join that leaves what is durable alone."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusechat.pipeline.config import Sample, Source
from fusechat.pipeline.errors import StageError
from fusechat.pipeline.records import (
    PROMPT,
    RESPONSE,
    Message,
    bucket_of,
    fraction_of,
    prompt_id,
    response_id,
    seed_of,
)
from fusechat.pipeline.sampling import (
    Asked,
    Unit,
    complete,
    plan,
    sampling_params,
    template_identity,
    wanted,
    wanted_ids,
)
from fusechat.pipeline.wire import Generated

CONFIG = Sample(buckets=4, batch_size=3)


def source(**changes: Any) -> Source:
    tree: dict[str, Any] = {
        "name": "a",
        "model": {"path": "models/a"},
        "samples": {"math": 3, "instruction": 1},
        "max_tokens": {"instruction": 7},
        "sampling": {"temperature": 0.5, "max_tokens": 64, "stop": ["\n"]},
    }
    return Source.model_validate({**tree, **changes})


def asked(**changes: Any) -> Asked:
    seed, revision, template = (
        changes.pop("seed", 0),
        changes.pop("revision", "r"),
        changes.pop("template", "model/keep"),
    )
    return Asked(source=source(**changes), revision=revision, template=template, seed=seed)


def prompts(num: int, domains: tuple[str, ...] = ("math", "instruction", "code")) -> pa.Table:
    rows = []
    for i in range(num):
        messages = [Message(role="user", content=f"question {i}")]
        row = {"prompt_id": prompt_id(messages), "id": str(i), "domain": domains[i % len(domains)]}
        rows.append({**row, "messages": messages, "file": "p.jsonl", "line": i + 1})
    return pa.Table.from_pylist(rows, schema=PROMPT)


def ids(units: list[Unit]) -> list[str]:
    return [row["response_id"] for unit in units for row in unit["rows"]]


def answer(identity: str) -> Generated:
    return Generated(
        response_id=identity, text="t", finish_reason="stop", reject="", prompt_tokens=2, completion_tokens=1
    )


# --- identities


PARTS: dict[str, Any] = {
    "prompt": "p",
    "source": "a",
    "revision": "r",
    "template": "t",
    "params": {"temperature": 0.5, "top_p": 1.0},
    "sample_index": 0,
}


def test_an_identity_is_stable_across_versions_of_fusechat() -> None:
    # Pinned: another value would make every response of every run directory count as never sampled.
    assert response_id(**PARTS) == "b3d1ea980ee747f336c51010fe0864cb9e87fba429bd9ccadfa0c53cbf5d72ca"
    assert (
        prompt_id([Message(role="user", content="你好")])
        == "f63ef83ba21b007fd23f1ac2e947e59fe01a3b461e64bac3275e6b0883761dc3"
    )
    params = {"top_p": 1.0, "temperature": 0.5}
    assert response_id(**{**PARTS, "params": params}) == response_id(**PARTS)


def test_an_identity_changes_with_each_of_its_parts() -> None:
    changes: dict[str, Any] = {
        "prompt": "q",
        "source": "b",
        "revision": "s",
        "template": "u",
        "params": {"temperature": 0.6, "top_p": 1.0},
        "sample_index": 1,
    }
    assert changes.keys() == PARTS.keys()
    found = {response_id(**{**PARTS, key: value}) for key, value in changes.items()} | {response_id(**PARTS)}
    assert len(found) == 1 + len(PARTS)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "b"},
        {"revision": "other"},
        {"template": "other"},
        {"sampling": {"temperature": 0.6, "max_tokens": 64, "stop": ["\n"]}},
        {"sampling": {"temperature": 0.5, "max_tokens": 65, "stop": ["\n"]}},
        {"sampling": {"temperature": 0.5, "max_tokens": 64}},
        {"max_tokens": {"instruction": 7, "math": 63}},
    ],
)
def test_a_source_that_is_asked_otherwise_is_sampled_anew(changes: dict[str, Any]) -> None:
    table = prompts(1)
    assert wanted_ids([asked()], table).isdisjoint(wanted_ids([asked(**changes)], table))


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": {"max_model_len": 99}},
        {"placement": {"num_cpus": 3}},
        {"model": {"path": "elsewhere"}},
        {"seed": 5},
        {"max_tokens": {"instruction": 7, "code": 9}},
    ],
)
def test_where_a_source_runs_is_no_part_of_the_identity(changes: dict[str, Any]) -> None:
    table = prompts(6)
    assert wanted_ids([asked()], table) == wanted_ids([asked(**changes)], table)


def test_a_template_is_known_by_its_text_and_the_system_policy() -> None:
    found = [template_identity(t, s) for t in (None, "x", "y") for s in ("keep", "merge")]
    assert len(set(found)) == 6
    assert found[0] == "model/keep"


def test_seeds_fit_31_bits_and_hang_on_seed_and_identity() -> None:
    seeds = [seed_of(s, response_id(**{**PARTS, "sample_index": i})) for s in range(20) for i in range(20)]
    assert all(0 <= s < 2**31 for s in seeds)
    assert max(seeds) > 2**30
    assert len(set(seeds)) == 400
    assert seed_of(0, "r") == 37680042


@given(st.text(max_size=20))
def test_buckets_and_shares_hang_on_the_prompt_alone(content: str) -> None:
    identity = prompt_id([Message(role="user", content=content)])
    assert 0 <= bucket_of(identity, 7) < 7
    assert bucket_of(identity, 1) == 0
    assert 0 <= fraction_of(identity, "sft") < 1
    assert fraction_of(identity, "sft") != fraction_of(identity, "other")


# --- what is wanted


def test_a_domain_that_the_source_does_not_serve_is_not_asked_for() -> None:
    found = {prompt["domain"]: rows for prompt, rows in wanted(asked(), prompts(3))}
    assert {d: len(rows) for d, rows in found.items()} == {"math": 3, "instruction": 1}
    assert [r["sample_index"] for r in found["math"]] == [0, 1, 2]
    assert [json.loads(found[d][0]["params"])["max_tokens"] for d in ("math", "instruction")] == [64, 7]


def test_parameters_carry_vllms_names() -> None:
    params = sampling_params(source().sampling_for("math"))
    assert params["stop"] == ["\n"]
    assert params.keys() == {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "stop"}


# --- the plan


def test_with_nothing_done_all_is_planned_once() -> None:
    table = prompts(30)
    units = plan(asked(), table, set(), CONFIG)
    assert sorted(ids(units)) == sorted(wanted_ids([asked()], table))
    assert len(ids(units)) == 10 * 3 + 10 * 1


def test_with_all_done_nothing_is_planned() -> None:
    table = prompts(30)
    assert plan(asked(), table, wanted_ids([asked()], table), CONFIG) == []


@given(st.data())
def test_the_plan_is_what_is_wanted_less_what_is_done(data: st.DataObject) -> None:
    table = prompts(12)
    all_ids = wanted_ids([asked()], table)
    done = data.draw(st.sets(st.sampled_from(sorted(all_ids))))
    units = plan(asked(), table, done | {"of another recipe"}, CONFIG)
    assert sorted(ids(units)) == sorted(all_ids - done)
    requested = [s["response_id"] for u in units for r in u["requests"] for s in r["samples"]]
    assert requested == ids(units)


def test_all_samples_of_a_prompt_go_in_one_request_of_one_batch() -> None:
    units = plan(asked(), prompts(30), set(), CONFIG)
    seen: set[str] = set()
    for unit in units:
        assert 1 <= len(unit["requests"]) <= CONFIG.batch_size
        here = {r["prompt_id"] for r in unit["rows"]}
        assert len(here) == len(unit["requests"])
        assert not seen & here
        seen |= here
    assert len(seen) == 20


def test_batches_follow_the_buckets() -> None:
    units = plan(asked(), prompts(60), set(), CONFIG)
    buckets = [bucket_of(r["prompt_id"], CONFIG.buckets) for u in units for r in u["rows"]]
    assert buckets == sorted(buckets)
    assert len(units) == -(-40 // CONFIG.batch_size)


def test_a_prompt_that_is_half_done_is_asked_for_the_rest_with_its_own_parameters_and_seeds() -> None:
    table = prompts(1)
    first, *rest = [r for _, rows in wanted(asked(), table) for r in rows]
    (unit,) = plan(asked(), table, {first["response_id"]}, CONFIG)
    assert unit["rows"] == rest
    (request,) = unit["requests"]
    assert request["messages"] == [Message(role="user", content="question 0")]
    assert request["params"] == sampling_params(source().sampling_for("math"))
    assert request["samples"] == [{"response_id": r["response_id"], "seed": r["seed"]} for r in rest]


def test_a_batch_survives_the_trip_through_json() -> None:
    units = plan(asked(), prompts(9), set(), CONFIG)
    assert json.loads(json.dumps(units)) == units


# --- what comes back


def test_answers_are_joined_by_identity_whatever_their_order() -> None:
    (unit,) = plan(asked(), prompts(2), set(), CONFIG)
    rows = complete(unit["rows"], [answer(i) for i in reversed(ids([unit]))])
    assert [r["response_id"] for r in rows] == ids([unit])
    table = pa.Table.from_pylist(rows, schema=RESPONSE)
    assert table.column("text").to_pylist() == ["t"] * 4
    assert set(rows[0]) == set(RESPONSE.names)


@pytest.mark.parametrize("change", ["one too few", "one too many", "another", "none"])
def test_other_identities_than_asked_for_are_refused(change: str) -> None:
    (unit,) = plan(asked(), prompts(1), set(), CONFIG)
    good = [answer(i) for i in ids([unit])]
    bad = {
        "one too few": good[1:],
        "one too many": [*good, answer("x")],
        "another": [*good[1:], answer("x")],
        "none": [],
    }[change]
    with pytest.raises(StageError, match="stage sample, a: the source answered with other identities than asked for"):
        complete(unit["rows"], bad)
