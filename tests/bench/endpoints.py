"""A stand-in for somebody else's OpenAI endpoint, over real HTTP, for tests and benchmarks."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes | None]
"""Status, headers and body; without a body no answer ever comes."""


def good(text: str = "four", **changes: Any) -> Reply:
    """A whole answer; `changes` are to the body."""
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12},
    }
    return 200, {}, json.dumps({**body, **changes}).encode()


class Service:
    """A real HTTP server whose answers a test scripts; the last one stays."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        self.replies: Callable[[dict[str, Any]], Reply] | list[Reply] = [good()]
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.closing = threading.Event()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                service.bodies.append(body)
                service.headers.append({k.lower(): v for k, v in self.headers.items()})
                service.times.append(time.monotonic())
                if callable(service.replies):
                    status, headers, data = service.replies(body)
                else:
                    status, headers, data = service.replies.pop(0) if len(service.replies) > 1 else service.replies[0]
                if data is None:  # never
                    service.closing.wait()
                    return
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer((host, port), Handler)
        self.server.daemon_threads = True
        self.url = f"http://{host}:{self.server.server_port}/v1"
        # Whoever closes it waits for its next look, every half a second if nothing else is said.
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        """Answers nobody any more."""
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
