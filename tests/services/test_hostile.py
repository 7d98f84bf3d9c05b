"""Two hundred requests that nobody should send, each refused rightly; the service answers as before afterwards."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import serving
import yaml

from fusechat.services import auth

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
CHAT = "/v1/chat/completions"
GOOD: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
WRONG = [None, True, -1, 10**30, 1.5, "x", [], {}, [[]], {"a": {"b": 1}}, "\x00", "\ud83d"]
"""Values of every wrong kind; each key takes some of them, but none takes all."""


def bodies() -> Iterator[tuple[str, bytes, set[int]]]:
    """Route, body, and the statuses that are right."""
    for key in ("max_tokens", "n", "temperature", "seed"):
        for value in WRONG[2:]:
            yield (
                CHAT,
                json.dumps(GOOD | {key: value}).encode(),
                {200} if (key, value) == ("temperature", 1.5) else {400},
            )
    for key in ("messages", "stop", "stream", "response_format", "tools", "logit_bias"):
        for value in WRONG:
            yield CHAT, json.dumps(GOOD | {key: value}).encode(), {200, 400}
    for key in ("messages", "sources", "n", "sampling", "verify", "domain"):
        for value in WRONG[3:]:
            body = {"messages": GOOD["messages"], "sampling": {"max_tokens": 1}, key: value}
            yield "/v1/sample", json.dumps(body).encode(), {200, 400, 404}
    deep = b"[" * 50_000 + b"]" * 50_000
    for route in (CHAT, "/v1/completions", "/v1/sample", "/v1/score", "/v1/verify"):
        for body in (b"", b"{", b"null", b"[]", b"\xff\xfe", b'{"a":' * 5000, deep, b'{"model": NaN}', b"1" * 5000):
            yield route, body, {400}
        yield route, b'{"x": "' + b"y" * 250_000 + b'"}', {413}
    for role in ("root", "", "assistant\r\nX: y", "tool"):
        yield CHAT, json.dumps(GOOD | {"messages": [{"role": role, "content": "Hi"}]}).encode(), {200, 400}
    template = {"chat_template": "{{ ''.__class__.__mro__ }}"}
    yield CHAT, json.dumps(GOOD | template).encode(), {400}
    yield CHAT, json.dumps(GOOD | {"model": "../../etc/passwd"}).encode(), {404}
    yield CHAT, json.dumps(GOOD | {"stop": ["x"] * 1000}).encode(), {400}
    yield CHAT, json.dumps(GOOD | {"n": 10_000}).encode(), {400}
    yield "/v1/sample", json.dumps({"messages": GOOD["messages"], "sources": ["a/../b"]}).encode(), {400}
    code = {"response": "```python\ndef f():\n    while True: pass\n```", "tests": "assert f()", "entry_point": "f"}
    yield "/v1/verify", json.dumps({"items": [code]}).encode(), {200}
    yield "/v1/verify", json.dumps({"items": [code | {"entry_point": "f; import os"}]}).encode(), {400}
    yield "/v1/verify", json.dumps({"items": [{"response": "9^{9^9}", "gold": "9^{9^9}"}]}).encode(), {200}


def test_bodies(service: serving.Service) -> None:
    num = 0
    with service.client() as http:
        for route, body, right in bodies():
            found = http.post(route, content=body, headers={"Content-Type": "application/json"})
            told = (route, body[:80], found.status_code, found.text[:200])
            assert found.status_code in right, told
            if found.status_code >= 400:
                assert set(found.json()["error"]) == {"message", "type", "param", "code"}, told
                assert "Traceback" not in found.text, told
                assert "site-packages" not in found.text, told
            num += 1
        assert http.post(CHAT, json=GOOD).status_code == 200
    assert num > 200


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_media_types_other_than_json(service: serving.Service, kind: str) -> None:
    with service.client() as http:
        for route in (CHAT, "/v1/completions", "/v1/sample", "/v1/score", "/v1/verify"):
            found = http.post(route, content=json.dumps(GOOD).encode(), headers={"Content-Type": kind})
            assert found.status_code == 400, (route, found.status_code, found.text[:200])
            assert found.json()["error"]["code"] == "invalid_request"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/../../etc/passwd",
        "/v1/models/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
        "/v1/models/..%5c..%5cwindows",
        "//v1/models",
        "/v1/models%00",
        "/V1/MODELS",
        "/-/routes/../v1",
        "/metrics",
        "/playground.js/../../auth.py",
        "/" + "a" * 8000,
    ],
)
def test_paths(service: serving.Service, path: str) -> None:
    status, text = raw(service, f"GET {path} HTTP/1.1\r\nAuthorization: Bearer {service.keys['admin']}\r\n")
    assert status in (400, 404, 414, 431), (status, text[:200])
    assert "root:" not in text
    assert "import" not in text


@pytest.mark.parametrize(
    ("head", "right"),
    [
        ("POST {chat} HTTP/1.1\r\nAuthorization: Bearer {key}\r\nContent-Length: -1\r\n", {400}),
        ("POST {chat} HTTP/1.1\r\nAuthorization: Bearer {key}\r\nContent-Length: 5\r\nContent-Length: 6\r\n", {400}),
        ("POST {chat} HTTP/1.1\r\nAuthorization: Bearer {key}\r\nContent-Length: 99999999999\r\n", {413}),
        ("POST {chat} HTTP/1.1\r\nAuthorization: Bearer {key}\r\nTransfer-Encoding: chunked, gzip\r\n", {400, 501}),
        ("GET /v1/models HTTP/1.1\r\nAuthorization: Bearer {key}\r\nX-Request-Id: a\r\n b\r\n", {200, 400}),
        ("GET /v1/models HTTP/1.1\r\nAuthorization: Bearer\r\n", {401}),
        ("GET /v1/models HTTP/1.1\r\nAuthorization: Bearer {key}x\r\n", {401}),
        ("GET /v1/models HTTP/1.1\r\nAuthorization: bearer\t{key}\r\n", {200, 401}),
        ("GET /v1/models HTTP/9.9\r\nAuthorization: Bearer {key}\r\n", {400, 505}),
        ("BREW /v1/models HTTP/1.1\r\nAuthorization: Bearer {key}\r\n", {400, 405, 501}),
        ("GET /v1/models HTTP/1.1\r\nAuthorization: Bearer " + "k" * 70_000 + "\r\n", {400, 401, 431}),
    ],
)
def test_heads(service: serving.Service, head: str, right: set[int]) -> None:
    status, text = raw(service, head.replace("{chat}", CHAT).replace("{key}", service.keys["admin"]))
    assert status in right, (status, text[:300])


def test_an_expired_key(service: serving.Service) -> None:
    file = service.folder / "keys.yaml"
    secret = auth.add(file, "old", "admin")
    tree = yaml.safe_load(file.read_text())
    tree["keys"][-1]["expires"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    file.write_text(yaml.safe_dump(tree))
    import time

    time.sleep(1.5)
    with httpx.Client(base_url=service.url, headers={"Authorization": f"Bearer {secret}"}, trust_env=False) as http:
        found = http.get("/v1/models")
    auth.remove(file, "old")
    assert found.status_code == 401
    assert found.json()["error"]["code"] == "expired"


def raw(service: serving.Service, head: str) -> tuple[int, str]:
    """Sends bytes as they are; status and text of what comes back. A connection that is just closed counts as 400."""
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=120) as connection:
        connection.sendall(f"{head}Host: {host}\r\nConnection: close\r\n\r\n".encode("latin-1"))
        found = b""
        try:
            while piece := connection.recv(65536):
                found += piece
        except (ConnectionResetError, TimeoutError):
            found = found or b"HTTP/1.1 400 closed"
    text = found.decode("latin-1")
    return int(text.split(" ", 2)[1]) if text else 400, text
