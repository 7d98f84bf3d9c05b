"""Routes of the gateway and their description on the OpenAPI page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel

from .openai_schemas import ErrorReply
from .schemas import HealthReply, ReadyReply, SampleReply, ScoreReply, VerifyReply

ERROR_STATUSES = (400, 401, 403, 404, 413, 429, 500, 503, 504)

Responses = dict[int | str, dict[str, Any]]
"""FastAPI's `responses` argument."""
RouteDecorator = Callable[[FastAPI], Callable[..., object]]
"""Given the app, returns the decorator that makes a method a route: the form that `make_fastapi_ingress` takes."""


def routes() -> dict[str, RouteDecorator]:
    """Returns the route of each of the gateway's methods, by the method's name."""
    from fusechat.pipeline.cluster.ray_internals import openai_api_models as openai

    def post(path: str, model: type[BaseModel], *, streams: bool = False) -> RouteDecorator:
        responses = _responses(model, streams=streams)
        return lambda app: app.post(path, responses=responses, response_model=None)

    def asset(path: str) -> RouteDecorator:
        return lambda app: app.get(path, include_in_schema=False, response_model=None)

    return {
        "models": lambda app: app.get(
            "/v1/models", response_model=openai.ModelList, responses=_responses(openai.ModelList)
        ),
        "model_data": lambda app: app.get(
            "/v1/models/{model:path}", response_model=openai.ModelCard, responses=_responses(openai.ModelCard)
        ),
        "chat": post("/v1/chat/completions", openai.ChatCompletionResponse, streams=True),
        "completions": post("/v1/completions", openai.CompletionResponse, streams=True),
        "sample": post("/v1/sample", SampleReply, streams=True),
        "score": post("/v1/score", ScoreReply),
        "verify": post("/v1/verify", VerifyReply),
        "health": lambda app: app.get("/health", response_model=HealthReply),
        "ready": lambda app: app.get(
            "/ready", response_model=None, responses={200: {"model": ReadyReply}, 503: {"model": ReadyReply}}
        ),
        "page": asset("/"),
        "script": asset("/playground.js"),
        "style": asset("/playground.css"),
    }


def _responses(model: type[BaseModel], *, streams: bool = False) -> Responses:
    errors: Responses = {status: {"model": ErrorReply} for status in ERROR_STATUSES}
    content: dict[str, dict[str, object]] = {"text/event-stream": {}} if streams else {}
    return {200: {"model": model, "content": content}, **errors}


def describe(app: FastAPI, models: Sequence[str], with_keys: bool) -> dict[str, Any]:
    """Returns the OpenAPI page, with the names of the served models and the way to present an API key."""
    page: dict[str, Any] = FastAPI.openapi(app)
    schemas = page["components"]["schemas"]
    for name in ("ChatBody", "CompletionBody"):
        schemas[name]["properties"]["model"]["enum"] = list(models)
        for example in schemas[name]["examples"]:
            example["model"] = models[0]
    if with_keys:
        page["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        page["security"] = [{"key": []}]
    return page
