"""The REST service, as callers use it: a real engine, real HTTP, the official client."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import openai
import pyarrow as pa
import pytest
import serving
from example_rows import make_generated
from tiny_model import make_tokenizer

from fusechat.pipeline.identities import prompt_id, seed_of
from fusechat.pipeline.progress import Progress
from fusechat.pipeline.recipe.load import load
from fusechat.pipeline.records import RESPONSE, Message
from fusechat.pipeline.run import Run
from fusechat.pipeline.sampling.plan import response, wanted_responses
from fusechat.pipeline.storage.parts import Parts
from fusechat.services import auth

from .conftest import LONG, engine, holding

BROWSER = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
ASKED = [{"role": "user", "content": "What is 3 + 4? End with the line: The answer is <number>."}]


def metric(service: serving.Service, name: str) -> float:
    """One of the service's or vLLM's numbers, as Ray exports it."""
    return sum(float(line.split()[-1]) for line in service.metrics() if line.startswith(f"ray_{name}{{"))


# --- OpenAI's client, unmodified


@pytest.fixture
def client(service: serving.Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{service.url}/v1", api_key=service.keys["sample"], max_retries=0)


def test_models(client: openai.OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4")


def test_chat(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "messages": ASKED, "max_tokens": 16, "seed": 3, "temperature": 0.0}
    several = client.chat.completions.create(**asked | {"temperature": 0.5}, n=2)
    assert len(several.choices) == 2
    assert several.usage.completion_tokens <= 32
    found = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
    assert len(found.choices[0].logprobs.content[0].top_logprobs) == 2
    pieces = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    streamed = "".join(p.choices[0].delta.content or "" for p in pieces if p.choices)
    assert streamed == found.choices[0].message.content
    assert pieces[-1].usage.completion_tokens == found.usage.completion_tokens
    without = list(client.chat.completions.create(**asked, stream=True))
    assert all(p.choices for p in without)
    assert "".join(p.choices[0].delta.content or "" for p in without) == streamed


def test_stop_and_completions(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "tiny", "prompt": "1 2 3 4 5 6", "max_tokens": 16, "seed": 3}
    whole = client.completions.create(**asked).choices[0].text
    stop = whole[5]
    found = client.completions.create(**asked, stop=[stop])
    assert found.choices[0].finish_reason == "stop"
    assert found.choices[0].text == whole[: whole.index(stop)]
    chunks = client.completions.create(model="tiny", prompt="1 2 3", max_tokens=4, temperature=0, stream=True)
    assert len("".join(c.choices[0].text for c in chunks)) > 0


def test_json_schema(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"sum": {"enum": [7, 12]}}, "required": ["sum"]}
    # A random model would write one of them, between any two others, for ever.
    spaces = make_tokenizer().convert_tokens_to_ids(["Ġ", "Ċ", "ĉ", "č"])
    found = client.chat.completions.create(
        model="tiny",
        messages=ASKED,
        max_tokens=64,
        temperature=0,
        logit_bias={str(token): -100 for token in spaces},
        response_format={"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}},
    )
    assert isinstance(json.loads(found.choices[0].message.content)["sum"], int)


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": 9.0}, "temperature"),
        ({"messages": []}, "messages"),
        ({"no_such_key": 1}, "no_such_key"),
        ({"max_tokens": 100_000}, "max_tokens"),
        ({"messages": [{"role": "user", "content": "word " * 2000}]}, None),
        ({"prompt_logprobs": 5}, "prompt_logprobs"),
        ({"chat_template": "{{ 1 }}"}, "chat_template"),
    ],
)
def test_what_the_caller_did_wrong(service: serving.Service, change: dict[str, Any], param: str | None) -> None:
    with service.client("sample") as http:
        found = http.post("/v1/chat/completions", json={"model": "tiny", "messages": ASKED} | change)
    assert found.status_code == 400, found.text
    error = found.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    if param is not None:
        assert param in error["message"]
    assert "Traceback" not in found.text
    assert "/site-packages" not in found.text


def test_no_such_model(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="is not one of tiny"):
        client.chat.completions.create(model="gpt-4", messages=ASKED)


# --- our own routes


def test_sample(service: serving.Service) -> None:
    asked = {"messages": ASKED, "domain": "math", "score": True, "verify": {"gold": "7"}}
    with service.client("sample") as http:
        reply = http.post("/v1/sample", json=asked).json()
        again = http.post("/v1/sample", json=asked).json()
        streamed = http.post("/v1/sample", json=asked | {"stream": True, "deltas": True}).text
    assert reply["errors"] == []
    assert len(reply["samples"]) == 2
    assert reply["prompt_id"] == prompt_id(ASKED)  # type: ignore[arg-type]
    for sample in reply["samples"]:
        assert sample["seed"] == seed_of(0, sample["response_id"])
        assert sample["reward"] < 0
        assert sample["verdict"] in ("correct", "wrong", "no_answer", "ambiguous")
        assert sample["completion_tokens"] <= 24
    assert {s["response_id"] for s in reply["samples"]} == {s["response_id"] for s in again["samples"]}
    events = [e.split("\n") for e in streamed.strip().split("\n\n")]
    kinds = [e[0].removeprefix("event: ") for e in events]
    assert kinds[-1] == "done"
    assert kinds.count("sample") == 2
    by_id: dict[str, str] = {}
    for kind, event in zip(kinds, events, strict=True):
        data = json.loads(event[1].removeprefix("data: "))
        if kind == "delta":
            by_id[data["response_id"]] = by_id.get(data["response_id"], "") + data["delta"]
        if kind == "sample":
            assert by_id[data["response_id"]] == data["text"]


def keep(service: serving.Service, messages: list[Message], text: str, domain: str = "instruction") -> list[str]:
    """Stores a conversation's first sample in the run. Returns the identities of all samples that the recipe wants."""
    run = Run(load(service.recipe), service.folder, Progress())
    (asked,) = run.pinned_sources
    prompt = {"prompt_id": prompt_id(messages), "domain": domain, "messages": messages}
    ((_, rows),) = wanted_responses(asked, pa.Table.from_pylist([prompt]))
    made = make_generated(rows[0]["response_id"], text, prompt_tokens=9, completion_tokens=5)
    Parts(run.dir, "sample", RESPONSE, "response_id").write_all([response(rows[0], made)], run.recipe.sample.buckets)
    return [row["response_id"] for row in rows]


def test_identity_is_that_of_the_batch(service: serving.Service) -> None:
    messages = [Message(role="user", content="What is 5 + 4?")]
    asked = {"messages": messages, "domain": "math"}
    with service.client("sample") as http:
        before = http.post("/v1/sample", json=asked).json()
        other = http.post("/v1/sample", json=asked | {"sampling": {"temperature": 0.1}}).json()
        identities = keep(service, messages, "nine, as the batch found", "math")
        after = http.post("/v1/sample", json=asked).json()
    assert {s["response_id"] for s in before["samples"]} == set(identities)
    assert not {s["response_id"] for s in other["samples"]} & set(identities)
    assert not any(s["stored"] for s in before["samples"])
    assert {s["response_id"]: s["stored"] for s in after["samples"]} == {identities[0]: True, identities[1]: False}
    assert "nine, as the batch found" in [s["text"] for s in after["samples"]]


def likelihood(folder: str, response: str, asked: Sequence[Mapping[str, str]] = ASKED) -> float:
    """Mean log-probability of an answer, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(asked, add_generation_prompt=True, tokenize=True, return_dict=False)
    ids = torch.tensor([*prompt, *tokenizer(response, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(input_ids=ids[None]).logits[0]
    found = logits.log_softmax(-1)[:-1].gather(1, ids[1:, None])[len(prompt) - 1 :]
    return float(found.mean())


def test_score_and_verify(service: serving.Service) -> None:
    responses = ("3 + 4 = 7. The answer is 7", "zqx vv 0 0 0")
    items = [{"messages": ASKED, "response": r} for r in responses]
    with service.client("score") as http:
        scored = http.post("/v1/score", json={"items": items}).json()
        verified = http.post(
            "/v1/verify",
            json={
                "items": [
                    {"response": "The answer is 7", "gold": "7"},
                    {"response": "The answer is 8", "gold": "7"},
                    {
                        "response": "```python\ndef f(x):\n    return x + 1\n```",
                        "tests": "assert f(1) == 2",
                        "entry_point": "f",
                    },
                    {
                        "response": "```python\nimport os\ndef f(x):\n    os._exit(0)\n```",
                        "tests": "assert f(1) == 2",
                        "entry_point": "f",
                    },
                ]
            },
        ).json()
    assert scored["reward"] == "likelihood"
    folder = load(service.recipe).served[0].model.path
    assert folder is not None
    assert [s["score"] for s in scored["scores"]] == pytest.approx([likelihood(folder, r) for r in responses], abs=1e-3)
    assert [v["correct"] for v in verified["verdicts"]] == [True, False, True, False]


def test_a_likelihood_does_not_hang_on_what_the_engine_has_cached(service: serving.Service) -> None:
    asked = [{"role": "user", "content": "How many " + "red and green and blue " * 12 + "?"}]
    long = "It is red, then green, then blue, and " * 4
    folder = load(service.recipe).served[0].model.path
    assert folder is not None
    with service.client("score") as http:
        for response in ("Seven.", "Eight, I think.", long, long, long + "nine."):
            scored = http.post("/v1/score", json={"items": [{"messages": asked, "response": response}]}).json()
            found = scored["scores"][0]["score"]
            assert found == pytest.approx(likelihood(folder, response, asked), abs=1e-3), response


# --- who may call


def test_roles_and_keys(service: serving.Service) -> None:
    body = {"model": "tiny", "messages": ASKED, "max_tokens": 1}
    with httpx.Client(base_url=service.url, trust_env=False) as http:
        for header in ({}, {"Authorization": "Bearer fc-wrong"}, {"Authorization": "Basic xyz"}):
            found = http.post("/v1/chat/completions", json=body, headers=header)
            assert found.status_code == 401, found.text
            assert found.json()["error"]["type"] == "authentication_error"
            assert found.headers["www-authenticate"] == "Bearer"
        assert http.get("/health").json() == {"status": "ok"}
        assert http.get("/ready").json()["models"]["tiny"]["state"] == "ready"
    with service.client("score") as http:
        assert http.post("/v1/chat/completions", json=body).status_code == 403
        assert http.get("/v1/models").status_code == 200
    with service.client("sample") as http:
        assert http.post("/v1/verify", json={"items": [{"response": "7", "gold": "7"}]}).status_code == 403


def test_keys_are_rotated_without_a_restart(service: serving.Service) -> None:
    file = service.folder / "keys.yaml"
    secret = auth.add(file, "passing", "sample", requests_per_minute=2)
    headers = {"Authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=service.url, trust_env=False, headers=headers) as http:
        time.sleep(1.5)
        codes = [http.get("/v1/models") for _ in range(3)]
        assert [c.status_code for c in codes] == [200, 200, 429]
        assert 1 <= int(codes[2].headers["retry-after"]) <= 31
        auth.remove(file, "passing")
        time.sleep(1.5)
        assert http.get("/v1/models").status_code == 401


def test_a_large_body_is_refused(service: serving.Service) -> None:
    with service.client() as http:
        told = http.post("/v1/sample", content=b"x" * 300_000)
        untold = http.post("/v1/sample", content=(b"x" * 1000 for _ in range(300)))
    assert told.status_code == untold.status_code == 413


# --- under pressure


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_that_leaves_frees_its_generation(service: serving.Service, stream: bool) -> None:
    body = {"model": "tiny", "messages": ASKED, "max_tokens": LONG, "ignore_eos": True, "n": 4, "stream": stream}

    def generated() -> float:
        return metric(service, "vllm_generation_tokens_total")

    def stands_still() -> bool:
        found = generated()
        time.sleep(3)  # several times Ray exports its metrics
        return generated() == found

    def left() -> int:
        return sum(line["status"] == 499 for line in service.logged())

    async def ask(http: httpx.AsyncClient, came: asyncio.Event) -> None:
        async with http.stream("POST", "/v1/chat/completions", json=body) as found:
            async for _ in found.aiter_bytes():
                came.set()

    async def leave() -> None:
        headers = {"Authorization": f"Bearer {service.keys['sample']}"}
        came = asyncio.Event()
        # The engine is held, so that it can't be through before it hears of it, however fast it is.
        async with httpx.AsyncClient(base_url=service.url, headers=headers, timeout=300, trust_env=False) as http:
            with ExitStack() as held:
                if not stream:
                    held.enter_context(holding(engine(service)))
                asked = asyncio.create_task(ask(http, came))
                if stream:
                    await came.wait()
                    held.enter_context(holding(engine(service)))
                else:
                    await until(lambda: metric(service, "fusechat_in_flight") > 0)
                asked.cancel()
                await until(lambda: left() == others + 1)

    async def until(what: Callable[[], bool]) -> None:
        await asyncio.to_thread(serving.wait_for, what)

    serving.wait_for(stands_still)
    before, others = generated(), left()
    asyncio.run(leave())
    with service.client() as http:
        assert http.post("/v1/chat/completions", json=body | {"max_tokens": 1, "stream": False}).status_code == 200
    serving.wait_for(stands_still)
    assert generated() - before < 4 * LONG


def test_every_request_has_a_line_and_metrics(service: serving.Service) -> None:
    with service.client() as http:
        found = http.post(
            "/v1/chat/completions",
            json={"model": "tiny", "messages": ASKED, "max_tokens": 4, "stream": True},
            headers={"X-Request-Id": "mine-1"},
        )
    assert found.headers["x-request-id"] == "mine-1"
    serving.wait_for(lambda: any(line["request_id"] == "mine-1" for line in service.logged()))
    (line,) = [line for line in service.logged() if line["request_id"] == "mine-1"]
    assert line["status"] == 200
    assert line["completion_tokens"] == 4
    assert line["key"] == "admin"
    assert "3 + 4" not in json.dumps(line)

    def exported() -> bool:
        names = {line.split("{")[0] for line in service.metrics() if not line.startswith("#")}
        return {
            "ray_fusechat_requests_total",
            "ray_fusechat_tokens_total",
            "ray_fusechat_first_token_seconds_bucket",
            "ray_fusechat_inter_token_seconds_bucket",
            "ray_vllm_num_requests_running",
        } <= names

    serving.wait_for(exported)


def test_many_at_once(service: serving.Service) -> None:
    codes: list[int] = []

    def call() -> None:
        with service.client() as http:
            body = {"model": "tiny", "messages": ASKED, "max_tokens": 4}
            codes.append(http.post("/v1/chat/completions", json=body).status_code)

    threads = [threading.Thread(target=call) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [200] * 32


# --- the OpenAPI page


def test_answers_are_as_the_page_says(service: serving.Service) -> None:
    import service_schema

    code, num, said = service_schema.run(service, 10, seed=7)
    assert code == 0, said
    assert num > 200


def test_every_route_has_an_example(service: serving.Service) -> None:
    page = httpx.get(f"{service.url}/openapi.json", trust_env=False).json()
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/sample", "/v1/score", "/v1/verify"):
        body = page["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
        (example,) = page["components"]["schemas"][body.split("/")[-1]]["examples"]
        with service.client() as http:
            assert http.post(path, json=example).status_code == 200


def test_the_dashboard_asks_for_metrics_that_there_are(service: serving.Service) -> None:
    dashboard = json.loads((Path(auth.__file__).parent / "dashboard.json").read_text())
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"ray_\w+", target["expr"])
    }
    assert len(asked) > 10
    with service.client() as http:
        body = {"model": "tiny", "messages": ASKED, "max_tokens": 4, "stream": True}
        http.post("/v1/chat/completions", json=body)
        http.post("/v1/chat/completions", json={})

    def missing() -> set[str]:
        return asked - {line.split("{")[0].split(" ")[0] for line in service.metrics() if not line.startswith("#")}

    serving.wait_for(lambda: not missing())


# --- the playground, in a real browser

HOSTILE = "</pre><script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_playground(service: serving.Service) -> None:
    from playwright.sync_api import expect, sync_playwright

    keep(service, [Message(role="user", content="Say something hostile.")], HOSTILE)
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_context(permissions=["clipboard-read", "clipboard-write"]).new_page()
        page.goto(service.url)
        expect(page.locator("#sources input")).to_have_count(1)
        page.fill("#key", "fc-wrong")
        page.click("#send")
        expect(page.locator("#status")).to_contain_text("not valid")
        page.fill("#key", service.keys["sample"])
        page.fill("#n", "2")
        page.fill("#gold", "40")
        page.check("#score")
        page.select_option("#domain", "math")
        page.click("#send")
        expect(page.locator("#status")).to_have_text("2 answers", timeout=60_000)
        expect(page.locator("article .verdict")).to_have_count(2)
        expect(page.locator("article .reward")).to_have_count(2)
        page.click("#curl")
        expect(page.locator("#status")).to_have_text("copied")
        copied = page.evaluate("() => navigator.clipboard.readText()")
        page.uncheck("#score")
        page.fill("#gold", "")
        page.fill("#n", "1")
        page.select_option("#domain", "instruction")
        page.fill("#prompt", "Say something hostile.")
        page.click("#send")
        expect(page.locator("article pre")).to_have_text(HOSTILE, timeout=60_000)
        assert page.title() == "fusechat playground"
        browser.close()
    said = subprocess.run(
        ["bash", "-c", copied],
        env=os.environ | {"FUSECHAT_KEY": service.keys["sample"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert len(json.loads(said)["samples"]) == 2
