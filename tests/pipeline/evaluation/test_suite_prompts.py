"""The stored answers to a suite: found for each model in the order of the table, and read once."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fusechat.pipeline.evaluation import suite_prompts, suites
from fusechat.pipeline.evaluation.models_under_test import ModelUnderTest
from fusechat.pipeline.recipe import EndpointSource, Evaluate, JudgedSuite, Prompts
from fusechat.pipeline.records import RESPONSE
from fusechat.pipeline.sampling.messages import Generated
from fusechat.pipeline.sampling.plan import response, wanted_responses
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

NUM = 6


@pytest.fixture
def suite(tmp_path: Path) -> suites.LoadedSuite:
    """A suite whose answers have two temperatures."""
    rows = [
        {"id": f"{i}", "domain": "instruction", "prompt": f"What is {i}?", "category": "ab"[i % 2]} for i in range(NUM)
    ]
    (tmp_path / "s.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = JudgedSuite(
        name="s", kind="judged", judge="j", files=("s.jsonl",), baseline="target", temperatures={"b": 0.5}
    )
    return suites.load(config, tmp_path, Prompts(train=("x",)))


@pytest.fixture
def run(tmp_path: Path) -> Any:
    """The parts of a run that suites read."""
    recipe = SimpleNamespace(seed=1, evaluate=Evaluate(), sample=SimpleNamespace(buckets=2))
    log = SimpleNamespace(log=lambda _line: None)
    return SimpleNamespace(dir=RunDir(str(tmp_path / "run")), recipe=recipe, progress=log)


def models(*names: str) -> list[ModelUnderTest]:
    """Models behind an endpoint."""
    same: Any = {"kind": "endpoint", "url": "http://127.0.0.1:9", "model": "m", "samples": {"instruction": 1}}
    return [ModelUnderTest(name, EndpointSource(name=name, **same), "r", "t") for name in names]


def generated(identity: str, name: str) -> Generated:
    return {
        "response_id": identity, "text": f"{name}: {identity}", "finish_reason": "stop", "reject": "",
        "prompt_tokens": 1, "completion_tokens": 1,
    }  # fmt: skip


def store_answers(run: Any, model: ModelUnderTest, suite: suites.LoadedSuite) -> list[tuple[str, str]]:
    """Stores an answer to each prompt; returns response id and text, in the order in which they are read."""
    found = []
    for parts, sampling in suite_prompts.groups(run, suite):
        pinned = model.pinned(sampling, 1, run.recipe.seed)
        rows = [row for _, wanted in wanted_responses(pinned, parts.read()) for row in wanted]
        made = [response(r, generated(r["response_id"], model.name)) for r in rows]
        Parts(run.dir, suite_prompts.SAMPLES, RESPONSE, "response_id").write_all(made, 2)
        found += sorted((r["response_id"], r["text"]) for r in made)
    return found


def test_each_model_gets_its_own_answers_and_only_they_become_rows(
    run: Any, suite: suites.LoadedSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite_prompts.write_prompts(run, suite)
    first, second, other = models("first", "second", "other")
    expected = {m.name: store_answers(run, m, suite) for m in (second, other, first)}
    assert len(expected["other"]) == NUM
    reads: list[str] = []
    rows: list[int] = []
    read, with_domains = Parts.read, suite_prompts.with_domains
    monkeypatch.setattr(Parts, "read", lambda parts, *a, **k: reads.append(parts.folder) or read(parts, *a, **k))
    monkeypatch.setattr(suite_prompts, "with_domains", lambda r, d: rows.append(len(r)) or with_domains(r, d))
    found = suite_prompts.suite_answers(run, [first, second], suite)
    assert list(found) == ["first", "second"]
    for name, responses in found.items():
        assert [(r["response_id"], r["text"]) for r in responses] == expected[name]
        assert {r["domain"] for r in responses} == {"instruction"}
    assert reads.count(suite_prompts.SAMPLES) == 1
    assert rows == [NUM // 2] * 4


def test_a_suites_identity_is_computed_once(suite: suites.LoadedSuite, monkeypatch: pytest.MonkeyPatch) -> None:
    digests: list[int] = []
    digest = suites.digest
    monkeypatch.setattr(suites, "digest", lambda *parts: digests.append(1) or digest(*parts))
    assert len({suite.identity for _ in range(3)}) == 1
    assert len(digests) == 1
