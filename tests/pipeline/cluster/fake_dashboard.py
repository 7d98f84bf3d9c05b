"""A dashboard that breaks the connection to a job's log twice; the job then fails with exit code 7."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import ray
from aiohttp import web

CONNECTIONS = []


def job(status: str, **more: Any) -> dict[str, Any]:
    return {"type": "SUBMISSION", "submission_id": "j", "status": status, "entrypoint": "x", "metadata": {}, **more}


async def version(_: web.Request) -> web.Response:
    return web.json_response({"version": "4", "ray_version": ray.__version__, "ray_commit": "x", "session_name": "s"})


async def jobs(_: web.Request) -> web.Response:
    return web.json_response([job("RUNNING")])


async def info(_: web.Request) -> web.Response:
    over = len(CONNECTIONS) >= 3
    return web.json_response(job("FAILED", driver_exit_code=7, message="it broke") if over else job("RUNNING"))


async def tail(request: web.Request) -> web.WebSocketResponse:
    CONNECTIONS.append(request)
    num = len(CONNECTIONS)
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    for i in range(6 * num if num < 3 else 20):
        await socket.send_str(f"line {i}\n")
        await asyncio.sleep(0.01)
    if num < 3:
        assert request.transport is not None
        request.transport.close()
    else:
        await socket.close()
    return socket


app = web.Application()
app.router.add_get("/api/version", version)
app.router.add_get("/api/jobs/", jobs)
app.router.add_get("/api/jobs/j", info)
app.router.add_get("/api/jobs/j/logs/tail", tail)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
