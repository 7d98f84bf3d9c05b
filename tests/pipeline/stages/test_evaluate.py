"""Stage `evaluate` over real HTTP and Ray: it answers, verifies and judges suites, and resumes after a kill."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import endpoints
import pytest
from command_line import run_fusechat
from example_recipe import quiet_run, source_tree, write_jsonl, write_model, write_recipe

from fusechat.pipeline.errors import FusechatError
from fusechat.pipeline.recipe.load import load
from fusechat.pipeline.records import RESPONSE
from fusechat.pipeline.stages.walk import walk
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

NUM = 24


class Service(endpoints.Service):
    """Models and judges behind OpenAI's route: `who[model]` is the function that answers for a model."""

    def __init__(self) -> None:
        super().__init__()
        self.who: dict[str, Callable[[str], str]] = {}
        self.asked: Counter[tuple[str, str]] = Counter()
        self.wait_s = 0.0
        self.talks: dict[tuple[str, str], list[str]] = {}
        self.replies = self._reply

    def _reply(self, body: dict[str, Any]) -> endpoints.Reply:
        text = body["messages"][-1]["content"]
        self.asked[body["model"], text] += 1
        self.talks[body["model"], text] = [m["content"] for m in body["messages"]]
        time.sleep(self.wait_s)
        return endpoints.good(self.who[body["model"]](text), model=body["model"])


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()
    yield found
    found.close()


def recipe(folder: Path, url: str, **evaluate: Any) -> Path:
    """A recipe with two models behind an endpoint, a verified suite and a judged one."""
    questions = [f"The question number {i} is: what are {i} plus one hundred and {i + 3} apples?" for i in range(NUM)]
    train = [{"id": f"t{i}", "domain": "instruction", "prompt": f"Describe the town of {i}{i}."} for i in range(20)]
    train[3]["prompt"] = f"Please help me with this. {questions[7]}"
    write_jsonl(folder / "train.jsonl", train)
    gold = [{"id": f"m{i}", "domain": "math", "prompt": q, "gold": str(2 * i + 103)} for i, q in enumerate(questions)]
    write_jsonl(folder / "math.jsonl", [*gold, {"id": "bad", "domain": "math", "prompt": "What?", "gold": "\\boxed{"}])
    tales = [{"id": f"o{i}", "domain": "instruction", "prompt": f"Tell of {i}."} for i in range(NUM)]
    write_jsonl(folder / "open.jsonl", tales)
    write_model(folder / "model")
    model = {"path": "model"}
    endpoint = {"kind": "endpoint", "url": url, "samples": {"instruction": 1}, "max_attempts": 1}
    half = {"num_cpus": 0.5}
    return write_recipe(
        folder / "r.yaml",
        run_dir=str(folder / "run"),
        prompts={"train": ["train.jsonl"], "invalid": "reject"},
        sources=[
            {**endpoint, "name": "weak", "model": "weak"},
            {**endpoint, "name": "strong", "model": "strong"},
            source_tree("hosted", model=model, placement=half),
        ],
        rewards=[{"kind": "likelihood", "name": "l", "source": "hosted"}],
        target={"model": model},
        sample={"buckets": 2, "concurrency": 4},
        score={"verify": {"num_workers": 1, "sandbox": "basic"}},
        training={"num_cpus": 0.5},
        evaluate={
            "placement": half,
            "models": ["weak", "strong"],
            "suites": [
                {"name": "sums", "kind": "verified", "group": "math", "files": ["math.jsonl"]},
                {"name": "tales", "kind": "judged", "group": "open", "files": ["open.jsonl"], "judge": "reads",
                 "baseline": "weak"},
            ],
            "judges": [{"name": "reads", "url": url, "model": "judge", "max_attempts": 1}],
            **evaluate,
        },
    )  # fmt: skip


def fusechat(*arguments: str | Path, kill_when: Callable[[], bool] | None = None) -> subprocess.CompletedProcess[str]:
    """Runs the command. A recipe that names no cluster starts its own, even if there are others."""
    return run_fusechat(*arguments, env=os.environ | {"RAY_ADDRESS": "127.0.0.1:1"}, kill_when=kill_when)


def quiet(service: Service) -> None:
    """Waits until no request has come for 4 s: Ray's workers send requests until they notice the kill."""
    deadline, seen, since = time.monotonic() + 300, -1, 0.0
    while time.monotonic() - since < 4:
        assert time.monotonic() < deadline
        if (total := service.asked.total()) != seen:
            seen, since = total, time.monotonic()
        time.sleep(0.2)


def model(share: int) -> Callable[[str], str]:
    """A model that answers `share` of four sums correctly; its tales grow with its share."""

    def answer(text: str) -> str:
        numbers = [int(n) for n in re.findall(r"\d+", text)]
        if "number" not in text:
            return f"Once {numbers[0]} " + "was told of again. " * share
        right = numbers[0] % 4 < share
        return f"The answer is \\boxed{{{2 * numbers[0] + 103 if right else 1}}}."

    return answer


def longer(text: str) -> str:
    """A judge that prefers the longer answer. It gives no verdict on tale 5 and refuses to judge tale 6."""
    if "Tell of 5." in text:
        return "I have no idea."
    if "Tell of 6." in text:
        return "I'm sorry, but I can't compare these."
    first, second = re.findall(r"begins\]\n(.*?)\n\[Answer", text, re.DOTALL)
    return f"So [[{'A' if len(first) > len(second) else 'B'}]]"


@pytest.mark.slow
def test_suites_through_a_kill(tmp_path: Path, service: Service) -> None:
    service.who = {"weak": model(1), "strong": model(3), "judge": longer}
    path = recipe(tmp_path, service.url)
    run = tmp_path / "run"
    unread = fusechat("evaluate", path)
    assert unread.returncode == 1
    assert "stage prompts" in unread.stdout
    assert fusechat("prompts", path).returncode == 0

    service.wait_s = 0.4
    durable: dict[str, str] = {}

    def some() -> bool:
        return len(list((run / "evaluate" / "judgements").rglob("*.parquet"))) > 1

    killed = fusechat("evaluate", path, kill_when=some)
    assert killed.returncode == -signal.SIGKILL
    quiet(service)
    for folder in ("samples", "judgements"):
        parts = Parts(RunDir(str(run)), f"evaluate/{folder}", RESPONSE, "response_id").read(columns=["text"])
        durable |= {r["response_id"]: r["text"] for r in parts.to_pylist()}
    under_way = service.asked.total() - len(durable)
    assert 0 <= under_way <= 24  # four in flight, and what had not become durable within a second

    service.wait_s = 0.0
    done = fusechat("evaluate", path)
    assert done.returncode == 0, done.stdout
    assert "1 rows can't be used" in done.stdout
    assert "sums: training prompts contain 1 of 24 rows, e.g. math.jsonl:8 by train.jsonl:4" in done.stdout
    wanted = 2 * NUM + 2 * NUM + 2 * NUM  # two models on two suites, one pair a tale in both orders
    assert len(service.asked) == wanted
    # Only requests in flight at the kill are repeated, less those that a surviving worker still made durable.
    total = service.asked.total()
    assert total <= wanted + under_way
    assert set(service.asked.values()) <= {1, 2}

    found = json.loads((run / "evaluate" / "suites.json").read_text())
    sums, tales = found["suites"]
    assert (sums["num_items"], sums["unusable"], sums["contaminated"]) == (NUM, 1, 1)
    assert sums["scores"]["weak"]["score"]["value"] == 0.25
    assert sums["scores"]["strong"]["score"]["value"] == 0.75
    (compared,) = sums["comparisons"]
    assert (compared["model"], compared["difference"], compared["test"]) == ("strong", 0.5, "mcnemar")
    assert compared["p"] <= compared["p_holm"] < 0.01
    assert sums["outcomes"] == [
        {"model": "strong", "baseline": "weak", "domain": "math", "better": 12, "same": 12, "worse": 0}
    ]
    strong = tales["scores"]["strong"]
    assert (strong["wins"], strong["ties"], strong["losses"]) == (NUM - 2, 0, 0)
    assert strong["without_score"] == {"no_verdict": 1, "refused": 1}
    assert tales["judging"]["judgements"] == 2 * NUM
    assert tales["judging"]["tokens"] == 2 * NUM * 12
    assert tales["scores"]["weak"]["score"]["value"] == 0.5
    assert set(found["groups"]) == {"math", "open"}
    assert found["versions"]["fusechat"]

    again = fusechat("evaluate", path)
    assert "evaluate: up to date" in again.stdout
    only = fusechat("evaluate", path, "--models", "strong", "--set", "evaluate.suites.1.baseline=strong")
    assert only.returncode == 0, only.stdout
    assert service.asked.total() == total  # another list of models repeats no request
    refused = fusechat("evaluate", path, "--set", "evaluate.contamination.action=refuse")
    assert refused.returncode == 1
    assert "suite sums: training prompts contain 1 of 24 rows" in refused.stdout.splitlines()[-1]


FAR = {"hub": "owner/name", "revision": "main"}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"models": [{"name": "far", "model": FAR}]},
            "stage models, far: owner/name@main can't be fetched from the hub",
        ),
        (
            {
                "suites": [
                    {"name": "s", "kind": "verified", "files": [{**FAR, "columns": {"prompt": "q"}, "domain": "math"}]}
                ]
            },
            "stage evaluate, owner/name/train: datasets/owner/name@main can't be fetched from the hub",
        ),
        ({"models": ["weak", "sft"]}, "stage sft, "),
        ({"models": [{"name": "gone", "model": {"path": "gone"}}]}, "contains no model: config.json is missing"),
        ({"models": ["target"]}, "model is not a model: config.json names no architectures"),
        ({"suites": [{"name": "s", "kind": "verified", "files": ["gone.jsonl"]}]}, "gone.jsonl: can't be read"),
        ({"suites": [{"name": "s", "kind": "harness", "tasks": ["ifeval"]}]}, "suite s: kind harness needs"),
    ],
)
def test_what_cant_be_had_is_one_line_before_anything_starts(
    tmp_path: Path, changes: dict[str, Any], line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    suites = changes.get("suites", [{"name": "sums", "kind": "verified", "files": ["math.jsonl"]}])
    path = recipe(tmp_path, "http://127.0.0.1:9/v1", models=changes.get("models", ["weak"]), suites=suites)
    walk(quiet_run(load(path), tmp_path), ("prompts",))
    if str(FAR["hub"]) in str(changes):  # the hub's client reads the environment at import
        for name, value in {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "NO_PROXY": "*"}.items():
            monkeypatch.setenv(name, value)
        # The hub's client would sleep 23 s in all between its retries.
        code = "import time; time.sleep = lambda seconds: None; from fusechat.pipeline.cli.main import entry; entry()"
        command = [sys.executable, "-c", code, "evaluate", str(path)]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        assert result.returncode in (1, 2)
        assert "ray: starting" not in result.stdout
        last = result.stdout.splitlines()[-1]
        assert last.startswith("fusechat: ")
    else:
        with pytest.raises(FusechatError) as error:
            walk(quiet_run(load(path), tmp_path), ("evaluate",))
        last = str(error.value)
    assert line in last
    assert "\n" not in last


@pytest.mark.slow
def test_a_model_that_cant_be_loaded_keeps_the_others_answers(tmp_path: Path, service: Service) -> None:
    service.who = {"weak": model(1)}
    suite = {"name": "sums", "kind": "verified", "files": ["math.jsonl"]}
    path = recipe(tmp_path, service.url, models=["weak"], suites=[suite], judges=[])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text('{"model_type": "nonsuch", "architectures": ["Nonsuch"]}')
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")
    assert fusechat("prompts", path).returncode == 0
    result = fusechat("evaluate", path, "--models", f"{tmp_path}/broken,weak")
    last = result.stdout.splitlines()[-1]
    assert result.returncode == 1, result.stdout
    assert last.startswith("fusechat: stage evaluate, model-broken: stage serve, model-broken: could not be started: ")
    assert "nonsuch" in last
    assert service.asked.total() == NUM
    done = fusechat("evaluate", path)
    assert done.returncode == 0, done.stdout
    assert service.asked.total() == NUM  # the other model's answers were kept


@pytest.mark.slow
def test_a_second_turn_follows_the_models_own_answer(tmp_path: Path, service: Service) -> None:
    service.who = {"weak": model(1), "strong": model(3), "judge": longer}
    turns = [{"question_id": i, "turns": [f"Tell of {i}.", f"Tell of {i} and {i} more."]} for i in range(1, 4)]
    suite = {"name": "mt", "kind": "judged", "form": "mt_bench", "files": ["mt.jsonl"], "judge": "reads"}
    path = recipe(tmp_path, service.url, suites=[{**suite, "baseline": "weak"}])
    write_jsonl(tmp_path / "mt.jsonl", turns)
    assert fusechat("prompts", path).returncode == 0
    done = fusechat("evaluate", path)
    assert done.returncode == 0, done.stdout
    for name, share in (("weak", 1), ("strong", 3)):
        talk = service.talks[name, "Tell of 2 and 2 more."]
        assert talk == ["Tell of 2.", model(share)("Tell of 2."), "Tell of 2 and 2 more."]
    asked = [text for who, text in service.asked if who == "judge"]
    assert len(asked) == 2 * 2 * 3  # both turns, both orders
    assert (
        sum("[To the first question]\nOnce 2 was told" in text and "Tell of 2 and 2 more." in text for text in asked)
        == 2
    )
    assert set(service.asked.values()) == {1}

    (found,) = json.loads((tmp_path / "run" / "evaluate" / "suites.json").read_text())["suites"]
    assert found["num_items"] == 6
    before = service.asked.total()
    assert fusechat("evaluate", path).returncode == 0
    assert service.asked.total() == before
