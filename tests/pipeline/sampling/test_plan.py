"""The plan of sampling: identities, seeds, and an anti-join that skips durable responses."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from example_rows import make_generated, prompt_row
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.pipeline.identities import bucket_of, fraction_of, prompt_id, response_id, seed_of
from fusechat.pipeline.models.pinned_source import PinnedSource, template_identity
from fusechat.pipeline.recipe import Source
from fusechat.pipeline.records import PROMPT, RESPONSE, Domain, Message
from fusechat.pipeline.sampling import plan as sampling
from fusechat.pipeline.sampling.flags import flag_duplicates, flags
from fusechat.pipeline.sampling.messages import rejected
from fusechat.pipeline.sampling.plan import (
    UNIT_PROMPTS,
    Plan,
    plan,
    requests,
    response,
    sampling_params,
    wanted_ids,
    wanted_responses,
)
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

BUCKETS = 4


def source(**changes: Any) -> Source:
    tree: dict[str, Any] = {
        "name": "a",
        "model": {"path": "models/a"},
        "samples": {"math": 3, "instruction": 1},
        "max_tokens": {"instruction": 7},
        "sampling": {"temperature": 0.5, "max_tokens": 64, "stop": ["\n"]},
    }
    return Source.model_validate({**tree, **changes})


def asked(**changes: Any) -> PinnedSource:
    seed, revision, template = (
        changes.pop("seed", 0),
        changes.pop("revision", "r"),
        changes.pop("template", "model/keep"),
    )
    return PinnedSource(source=source(**changes), revision=revision, template=template, seed=seed)


def prompts(num: int, domains: tuple[Domain, ...] = ("math", "instruction", "code")) -> pa.Table:
    rows = [prompt_row(i, f"question {i}", domains[i % len(domains)]) for i in range(num)]
    return pa.Table.from_pylist(rows, schema=PROMPT)


def run_dir(path: Path, table: pa.Table, done: set[str] | None = None) -> tuple[Parts, Parts]:
    """Writes prompts, and a response for each identity in `done`."""
    run = RunDir(str(path))
    there, responses = Parts(run, "prompts/train", PROMPT, "prompt_id"), Parts(run, "sample", RESPONSE, "response_id")
    there.write_all(table.to_pylist(), BUCKETS)
    for _, rows in wanted_responses(asked(), table):
        finished = [r for r in rows if r["response_id"] in (done or ())]
        responses.write_all([response(r, make_generated(r["response_id"])) for r in finished], BUCKETS)
    return there, responses


def planned(path: Path, table: pa.Table, done: set[str] | None = None, **changes: Any) -> Plan:
    (found,) = plan([asked(**changes)], *run_dir(path, table, done), BUCKETS)
    return found


def ids(found: Plan, path: Path) -> list[str]:
    """Identities of the responses that the plan's units request."""
    run = RunDir(str(path))
    parts, done = Parts(run, "prompts/train", PROMPT, "prompt_id"), Parts(run, "sample", RESPONSE, "response_id")
    return [
        row["response_id"]
        for u in found.units
        for _, rows in requests(asked(), parts.read(u["bucket"])[u["start"] : u["stop"]], done.ids(u["bucket"]))
        for row in rows
    ]


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
    found = {prompt["domain"]: rows for prompt, rows in wanted_responses(asked(), prompts(3))}
    assert {d: len(rows) for d, rows in found.items()} == {"math": 3, "instruction": 1}
    assert [r["sample_index"] for r in found["math"]] == [0, 1, 2]
    assert [json.loads(found[d][0]["params"])["max_tokens"] for d in ("math", "instruction")] == [64, 7]


def test_parameters_carry_vllms_names() -> None:
    params = sampling_params(source().sampling_for("math"))
    assert params["stop"] == ["\n"]
    assert params.keys() == {"temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_tokens", "stop"}


def test_stop_tokens_are_a_parameter_only_where_they_are_given() -> None:
    params = sampling_params(source(sampling={"stop_token_ids": [7, 9]}).sampling_for("math"))
    assert params["stop_token_ids"] == [7, 9]
    assert wanted_ids([asked(sampling={"stop_token_ids": [7]})], prompts(1)).isdisjoint(
        wanted_ids([asked(sampling={"stop_token_ids": [9]})], prompts(1))
    )


# --- the plan


def test_with_nothing_done_all_is_planned_once(tmp_path: Path) -> None:
    table = prompts(150)
    found = planned(tmp_path, table)
    assert sorted(ids(found, tmp_path)) == sorted(wanted_ids([asked()], table))
    assert found.total == found.missing == 50 * 3 + 50 * 1


def test_with_all_done_nothing_is_planned(tmp_path: Path) -> None:
    table = prompts(30)
    found = planned(tmp_path, table, wanted_ids([asked()], table))
    assert (found.units, found.missing, found.total) == ([], 0, 40)


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_plan_is_what_is_wanted_less_what_is_done(data: st.DataObject) -> None:
    table = prompts(12)
    all_ids = wanted_ids([asked()], table)
    done = data.draw(st.sets(st.sampled_from(sorted(all_ids))))
    with tempfile.TemporaryDirectory() as folder:
        found = planned(Path(folder), table, done)
        assert sorted(ids(found, Path(folder))) == sorted(all_ids - done)
    assert found.missing == sum(u["missing"] for u in found.units) == len(all_ids - done)


def test_responses_of_other_settings_count_for_nothing(tmp_path: Path) -> None:
    table = prompts(30)
    found = planned(tmp_path, table, wanted_ids([asked()], table), revision="other")
    assert found.missing == found.total == 40


def test_units_follow_the_buckets_and_hold_few_prompts(tmp_path: Path) -> None:
    found = planned(tmp_path, prompts(300))
    assert [u["bucket"] for u in found.units] == sorted(u["bucket"] for u in found.units)
    assert all(u["stop"] - u["start"] == UNIT_PROMPTS for u in found.units)
    assert len({(u["bucket"], u["start"]) for u in found.units}) == len(found.units)


def test_units_grow_with_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "UNITS", 4)
    found = planned(tmp_path, prompts(300))
    assert {u["stop"] - u["start"] for u in found.units} == {200 // 4}
    assert sorted(ids(found, tmp_path)) == sorted(wanted_ids([asked()], prompts(300)))


def test_a_pilot_takes_a_few_slices_from_everywhere(tmp_path: Path) -> None:
    units = planned(tmp_path, prompts(1500)).units
    few = sampling.pilot_units(units, 64)
    assert len(few) == 4
    assert {(u["bucket"], u["start"]) for u in few} <= {(u["bucket"], u["start"]) for u in units}
    assert len({u["bucket"] for u in few}) == BUCKETS
    assert sampling.pilot_units(units[:1], 64) == units[:1]


def test_all_samples_of_a_prompt_go_in_one_request() -> None:
    table = prompts(30)
    found = requests(asked(), table, set())
    assert len(found) == 20
    assert len({r["prompt_id"] for _, rows in found for r in rows}) == 20
    for request, rows in found:
        assert [s["response_id"] for s in request["samples"]] == [r["response_id"] for r in rows]


def test_a_prompt_that_is_half_done_is_asked_for_the_rest_with_its_own_parameters_and_seeds() -> None:
    table = prompts(1)
    first, *rest = [r for _, rows in wanted_responses(asked(), table) for r in rows]
    ((request, rows),) = requests(asked(), table, {first["response_id"]})
    assert rows == rest
    assert request["messages"] == [Message(role="user", content="question 0")]
    assert request["params"] == sampling_params(source().sampling_for("math"))
    assert request["samples"] == [{"response_id": r["response_id"], "seed": r["seed"]} for r in rest]


# --- what comes back


def test_a_response_is_a_row_of_the_schema() -> None:
    ((_, rows),) = requests(asked(), prompts(1), set())
    made = [response(r, make_generated(r["response_id"])) for r in rows]
    table = pa.Table.from_pylist(made, schema=RESPONSE)
    assert table.column("text").to_pylist() == ["t"] * 3
    assert set(made[0]) == set(RESPONSE.names)


@pytest.mark.parametrize(
    ("text", "finish_reason", "expected"),
    [
        ("Four.", "stop", []),
        ("Four, because", "length", ["truncated"]),
        ("", "stop", ["empty"]),
        (" \n\t", "length", ["truncated", "empty"]),
        ("I'm sorry, but I can't help with that.", "stop", ["refused"]),
        ("I\u2019m sorry, but no.", "stop", ["refused"]),
        ("As an AI language model, I", "length", ["truncated", "refused"]),
        ("I cannot assist with this request.", "stop", ["refused"]),
        ("很抱歉，我无法提供这类信息。", "stop", ["refused"]),
        ("我不能回答这个问题。", "stop", ["refused"]),
        ("I cannot overstate how large it is.", "stop", []),
        ("The letter begins: I'm sorry, but I can't come.", "stop", []),
        ("Sorry for the delay: 4", "stop", []),
    ],
)
def test_flags_say_what_the_text_itself_says(text: str, finish_reason: str, expected: list[str]) -> None:
    assert flags(text, finish_reason, "") == expected


def test_a_reject_has_no_flags() -> None:
    ((_, rows),) = requests(asked(), prompts(1), set())
    assert response(rows[0], rejected(rows[0]["response_id"], "prompt_too_long: 9"))["flags"] == []


def test_the_first_of_equal_samples_is_no_duplicate_and_flagging_twice_changes_nothing() -> None:
    table = prompts(2, domains=("math",))
    rows = [
        response(r, make_generated(r["response_id"], "same")) for _, rs in requests(asked(), table, set()) for r in rs
    ]
    rows[0]["text"] = "another"
    for _ in range(2):
        flag_duplicates(rows)
        found = {(r["prompt_id"], r["sample_index"]): r["flags"] for r in rows}
        first, second = rows[0]["prompt_id"], rows[3]["prompt_id"]
        assert [found[first, i] for i in range(3)] == [[], [], ["duplicate"]]
        assert [found[second, i] for i in range(3)] == [[], ["duplicate"], ["duplicate"]]


def test_samples_under_other_parameters_are_no_duplicates() -> None:
    table = prompts(1, domains=("math",))
    rows = []
    for changes in ({}, {"sampling": {"temperature": 0.9}}):
        ((_, found),) = requests(asked(samples={"math": 1}, **changes), table, set())
        rows += [response(r, make_generated(r["response_id"], "same")) for r in found]
    flag_duplicates(rows)
    assert [r["flags"] for r in rows] == [[], []]
