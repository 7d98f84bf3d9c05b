"""Suites of kind `harness`: one clear line where lm-evaluation-harness is not installed; where it is, we answer."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.evaluation import harness
from fusechat.pipeline.recipe import HarnessSuite, Sampling

INSTALLED = importlib.util.find_spec("lm_eval") is not None
DOCS = [{"doc_id": i, "question": f"What is {i} + {i}?", "answer": str(2 * i)} for i in range(5)]


def suite(**changes: Any) -> HarnessSuite:
    return HarnessSuite(**{"name": "s", "kind": "harness", "tasks": ("sums",), **changes})


@pytest.mark.skipif(INSTALLED, reason="lm-evaluation-harness is installed here")
def test_without_the_harness_one_line_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(StageError) as error:
        harness.load(suite(), tmp_path, Sampling())
    assert "suite s: kind harness needs lm-evaluation-harness, which is not installed: pip install lm_eval==" in str(
        error.value
    )
    assert "\n" not in str(error.value)


class Request:
    """As the harness hands requests to a model: context and settings."""

    def __init__(self, context: str, settings: dict[str, Any]) -> None:
        self.args = (context, settings)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The harness's boundary: a model class, a task manager, `simple_evaluate`; it scores by string comparison."""
    said: dict[str, Any] = {"kind": "generate_until", "wrap": lambda text: text, "value": None, "calls": []}
    settings = {"until": ["\n\n"], "do_sample": False, "max_gen_toks": 33}

    def simple_evaluate(*, model: Any, tasks: list[str], **options: Any) -> dict[str, Any]:
        said["calls"].append({"tasks": tasks, **options})
        if said["kind"] == "raise":
            raise RuntimeError("Couldn't reach\nthe hub")
        docs = DOCS[: options["limit"]]
        contexts = [said["wrap"](model.apply_chat_template([{"role": "user", "content": d["question"]}])) for d in docs]
        answers = getattr(model, said["kind"])([Request(c, settings) for c in contexts])
        samples = []
        for doc, context, answer in zip(docs, contexts, answers, strict=True):
            for name, right in (("strict", answer == doc["answer"]), ("loose", doc["answer"] in answer)):
                value = right if said["value"] is None else said["value"]
                samples.append(
                    {"doc_id": doc["doc_id"], "filter": name, "metrics": ["exact_match"], "exact_match": value,
                     "arguments": [(context, settings)]}
                )  # fmt: skip
        return {"samples": {"sums": samples}}

    package, api, model, tasks = (
        ModuleType(n) for n in ("lm_eval", "lm_eval.api", "lm_eval.api.model", "lm_eval.tasks")
    )
    package.__spec__ = importlib.util.spec_from_loader("lm_eval", None)
    package.simple_evaluate = simple_evaluate  # type: ignore[attr-defined]
    model.LM = type("LM", (), {})  # type: ignore[attr-defined]
    tasks.TaskManager = lambda include_path=None: include_path  # type: ignore[attr-defined]
    for module in (package, api, model, tasks):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return said


def test_it_asks_and_scores_and_the_answers_are_ours(fake: dict[str, Any], tmp_path: Path) -> None:
    found = harness.load(suite(include_path="tasks", num_fewshot=0), tmp_path, Sampling())
    assert [p["messages"] for p in found.prompts] == [[{"role": "user", "content": d["question"]}] for d in DOCS]
    assert [p["id"] for p in found.prompts] == [f"sums/{i}" for i in range(5)]
    assert set(found.samplings.values()) == {Sampling(temperature=0, max_tokens=33, stop=("\n\n",))}
    call = fake["calls"][0]
    assert (call["task_manager"], call["num_fewshot"], call["apply_chat_template"]) == (
        str(tmp_path / "tasks"),
        0,
        True,
    )
    answers = {p["prompt_id"]: text for p, text in zip(found.prompts, ["0", "It is 2.", "4", "7", ""], strict=True)}
    scored = harness.score(suite(), tmp_path, answers)
    assert [(s.id, s.score) for s in scored] == [(f"sums/{i}", float(i in (0, 2))) for i in range(5)]
    loose = harness.score(suite(metric="exact_match,loose"), tmp_path, answers)
    assert [s.score for s in loose] == [1, 1, 1, 0, 0]
    assert loose[0].why == "exact_match,loose"
    assert [s.prompt_id for s in scored] == [p["prompt_id"] for p in found.prompts]
    assert len(harness.load(suite(limit=2), tmp_path, Sampling()).prompts) == 2


@pytest.mark.parametrize(
    ("changes", "said", "why"),
    [
        ({}, {"kind": "loglikelihood"}, "asks for log-likelihoods"),
        ({}, {"kind": "loglikelihood_rolling"}, "asks for log-likelihoods"),
        ({}, {"kind": "raise"}, "lm-evaluation-harness, sums: Couldn't reach the hub"),
        ({}, {"wrap": lambda text: text + "Sure,"}, "prefills the model's answer"),
        ({}, {"value": [True, False]}, "exact_match is [True, False], not a number from 0 to 1; name another metric"),
        ({}, {"value": 17.5}, "not a number from 0 to 1"),
        ({"metric": "bleu"}, {}, "has no metric bleu,strict; it has exact_match,loose, exact_match,strict"),
    ],
)
def test_what_the_harness_cant_be_asked_is_one_line(
    fake: dict[str, Any], tmp_path: Path, changes: dict[str, Any], said: dict[str, Any], why: str
) -> None:
    fake |= said
    with pytest.raises(StageError) as error:
        harness.load(suite(**changes), tmp_path, Sampling())
    assert str(error.value).startswith("stage evaluate, suite s: lm-evaluation-harness, sums: ")
    assert why in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "changes"),
    [
        ({}, {"temperature": 0.0, "max_tokens": 99}),
        ({"until": "Q:", "temperature": 0.0}, {"temperature": 0.0, "stop": ("Q:",), "max_tokens": 99}),
        ({"do_sample": True, "temperature": 0.6, "top_p": 0.95}, {"temperature": 0.6, "top_p": 0.95, "max_tokens": 99}),
        ({"do_sample": False, "temperature": 0.7, "until": ["", "\n"]}, {"temperature": 0.0, "stop": ("\n",)}),
    ],
)
def test_a_tasks_generation_settings(settings: dict[str, Any], changes: dict[str, Any]) -> None:
    assert harness.sampling_of(settings, Sampling(max_tokens=99)) == Sampling(**{"max_tokens": 99, **changes})


@pytest.mark.skipif(not INSTALLED, reason="lm-evaluation-harness is no part of fusechat")
def test_the_real_harness_on_a_local_task(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps(doc) for doc in DOCS))
    (tmp_path / "sums.yaml").write_text(
        f"""
task: sums
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path}/d.jsonl}}}}
output_type: generate_until
test_split: test
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{answer}}}}"
generation_kwargs: {{until: ["Question:"], do_sample: false, max_gen_toks: 77}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
    )
    own = suite(include_path=".")
    found = harness.load(own, tmp_path, Sampling())
    assert set(found.samplings.values()) == {Sampling(temperature=0, max_tokens=77, stop=("Question:",))}
    answers = {p["prompt_id"]: text for p, text in zip(found.prompts, ["0", "3", "4", "6", ""], strict=True)}
    assert [s.score for s in harness.score(own, tmp_path, answers)] == [1, 0, 1, 1, 0]
