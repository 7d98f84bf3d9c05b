"""The REST service's ingress: OpenAI's routes on top of ray.serve.llm, `/v1/sample`, `/v1/score`, `/v1/verify` and the
playground."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from ray.serve.llm.ingress import OpenAiIngress, make_fastapi_ingress
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse

from fusechat.pipeline.identities import prompt_id
from fusechat.pipeline.models.pinned_source import PinnedSource
from fusechat.pipeline.recipe import EndpointSource, Recipe, Serve
from fusechat.pipeline.records import Message
from fusechat.pipeline.sampling.backend import SamplingBackend
from fusechat.pipeline.sampling.messages import Delta, Piece, ScoreItem
from fusechat.pipeline.sampling.openai_backend import OpenAIBackend

from . import playground_files
from .error_responses import RefusedError, on_http, on_invalid, on_refused, unavailable, without_paths
from .middleware import GatewayMiddleware, RequestContext, request_context
from .model_states import ModelStates
from .openai_schemas import ChatBody, CompletionBody, GenerationBody
from .openai_stream import Route
from .openapi_page import describe, routes
from .reward_calls import RewardCalls
from .sample_route import Sampler, Scoring, ranked
from .schemas import (
    HealthReply,
    ReadyReply,
    SampleBody,
    SampleReply,
    SampleResult,
    ScoreBody,
    ScoreReply,
    ScoreResult,
    SourceError,
    VerificationSpec,
    VerifyBody,
    VerifyReply,
    VerifyResult,
)
from .serve_errors import RESTART_S, translate_serve_errors
from .served_source import ServedSource

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle

    from fusechat.pipeline.cluster.ray_internals import ModelCard


class Gateway(OpenAiIngress):  # type: ignore[misc]
    """The handlers of the routes. services/middleware.py decides who may call them.

    Args:
        llm_deployments: the served sources by name.
        asked: all sources that can be sampled, with the settings that their response ids depend on.
        rewards: the reward models by name.
        verifier: the deployment of services/verifier.py.
        chosen: the reward model that scores if a request names none.
    """

    def __init__(
        self,
        llm_deployments: dict[str, DeploymentHandle],
        model_cards: dict[str, ModelCard],
        *,
        recipe: Recipe,
        asked: Sequence[PinnedSource],
        rewards: dict[str, DeploymentHandle],
        verifier: DeploymentHandle,
        chosen: str,
    ) -> None:
        super().__init__(llm_deployments, model_cards)
        self._cards = model_cards
        self._streaming_handles = {name: handle.options(stream=True) for name, handle in llm_deployments.items()}
        self._states = ModelStates(llm_deployments, rewards, wait_for_start=recipe.serve.cold == "wait")
        self._rewards, self._verifier = RewardCalls(recipe, rewards, chosen), verifier
        askers: dict[str, SamplingBackend] = {n: ServedSource(n, h, self._states) for n, h in llm_deployments.items()}
        askers |= {s.name: OpenAIBackend(s) for s in recipe.sources if isinstance(s, EndpointSource)}
        self._sampler = Sampler(recipe, asked, askers)

    # --- OpenAI's routes

    async def model_data(self, model: str) -> ModelCard:
        """One model."""
        self._check_model(model)
        return self._cards[model]

    def _check_model(self, model: str) -> None:
        if model not in self._streaming_handles:
            names = ", ".join(self._streaming_handles)
            raise RefusedError(404, "model_not_found", f"model: {model[:100]} is not one of {names}", param="model")

    async def chat(self, body: ChatBody, request: Request) -> Response:
        """Chat completions, as in OpenAI's API."""
        fields = body.model_dump(exclude_none=True, by_alias=True)
        for message in fields["messages"]:
            if isinstance(message.get("content"), list):
                message["content"] = "".join(part["text"] for part in message["content"])
            message["role"] = "system" if message["role"] == "developer" else message["role"]
        for key in ("store", "metadata"):
            fields.pop(key, None)
        return await self._generate("chat", body, fields, request)

    async def completions(self, body: CompletionBody, request: Request) -> Response:
        """Completions of plain text, as in OpenAI's API."""
        return await self._generate("completions", body, body.model_dump(exclude_none=True), request)

    async def _generate(
        self, route: Route, body: GenerationBody, fields: Mapping[str, object], request: Request
    ) -> Response:
        context = request_context(request)
        self._check_model(body.model)
        context.model = body.model
        context.prompts.append(fields.get("messages", fields.get("prompt")))
        pieces = self._pieces(route, body.model, fields, context)
        first = await anext(pieces)
        if first["status"] >= 400:
            request.scope["refused"] = "engine"
        if not body.stream or first["status"] != 200:
            await pieces.aclose()
            return Response(first["text"], first["status"], media_type="application/json")
        return StreamingResponse(_stream(first, pieces, context), media_type="text/event-stream")

    async def _pieces(
        self, route: Route, model: str, fields: Mapping[str, object], context: RequestContext
    ) -> AsyncGenerator[Piece]:
        await self._states.ensure_replica(model)
        with translate_serve_errors(model):
            answers = self._streaming_handles[model].openai.remote(route, fields, context.request_id)
            try:
                async for piece in answers:
                    context.add_tokens(piece.get("prompt_tokens", 0), piece.get("completion_tokens", 0))
                    yield piece
            finally:
                answers.cancel()

    # --- fusechat's own routes

    async def sample(self, body: SampleBody, request: Request) -> Response:
        """Samples several sources. Answers are returned together, or as server-sent events as each one finishes."""
        context = request_context(request)
        context.prompts.append([m.model_dump() for m in body.messages])
        score = None
        if body.score is not False:
            score = partial(self._rewards.score, self._rewards.resolve(body.score), body.domain)
        scoring = Scoring(score=score, verify=None if body.verify is None else self._verify)
        self._sampler.check(body)
        if body.stream:
            return StreamingResponse(self._events(body, scoring, context), media_type="text/event-stream")
        reply = _new_reply(body)
        async for event in self._sampler.sample(body, scoring):
            _collect(reply, event, context)
        if reply.errors and not reply.samples:
            first = reply.errors[0]
            raise unavailable(first.source, first.message, RESTART_S)
        reply.samples = ranked(reply.samples)
        return Response(reply.model_dump_json(), media_type="application/json")

    async def _events(self, body: SampleBody, scoring: Scoring, context: RequestContext) -> AsyncIterator[str]:
        reply = _new_reply(body)
        try:
            async for event in self._sampler.sample(body, scoring):
                context.note_token()
                _collect(reply, event, context)
                if isinstance(event, SampleResult):
                    yield f"event: sample\ndata: {event.model_dump_json()}\n\n"
                elif isinstance(event, SourceError):
                    yield f"event: error\ndata: {event.model_dump_json()}\n\n"
                else:
                    yield f"event: delta\ndata: {json.dumps(event)}\n\n"
        except RefusedError as error:
            yield f"event: error\ndata: {json.dumps({'source': '', 'code': error.reason, 'message': str(error)})}\n\n"
        done = {
            "prompt_id": reply.prompt_id,
            "ranking": [s.response_id for s in ranked(reply.samples)],
            "errors": len(reply.errors),
        }
        yield f"event: done\ndata: {json.dumps(done)}\n\n"

    async def score(self, body: ScoreBody, request: Request) -> Response:
        """Rewards of responses."""
        context = request_context(request)
        name = context.model = self._rewards.resolve(body.reward or True)
        items = [
            ScoreItem(
                id=str(i),
                messages=[Message(role=m.role, content=m.content) for m in item.messages],
                response=item.response,
            )
            for i, item in enumerate(body.items)
        ]
        rated = await self._rewards.score(name, body.domain, items)
        context.add_tokens(sum(r["tokens"] for r in rated), 0)
        scores = [
            ScoreResult(
                score=r["score"],
                reject=without_paths(r["reject"]),
                tokens=r["tokens"],
                objectives=r.get("objectives"),
                gate=r.get("gate"),
            )
            for r in rated
        ]
        return Response(ScoreReply(reward=name, scores=scores).model_dump_json(), media_type="application/json")

    async def verify(self, body: VerifyBody, request: Request) -> Response:
        """Verdicts on answers: math is compared with the gold answer, code is tested in the sandbox."""
        verdicts = await self._verify([(item, item.response) for item in body.items])
        return Response(VerifyReply(verdicts=verdicts).model_dump_json(), media_type="application/json")

    async def _verify(self, items: Sequence[tuple[VerificationSpec, str]]) -> list[VerifyResult]:
        fields = [
            {**spec.model_dump(include=set(VerificationSpec.model_fields)), "response": text} for spec, text in items
        ]
        with translate_serve_errors("verifier"):
            verdicts = await self._verifier.verify.remote(fields, [spec.domain for spec, _ in items])
        return [VerifyResult(**v) for v in verdicts]

    # --- state and playground

    async def health(self) -> HealthReply:
        """The gateway is alive."""
        return HealthReply()

    async def ready(self) -> Response:
        """The state of each model; 503 while one of them can't answer."""
        states = await self._states.get()
        ready = all(s.state in ("ready", "scaled_to_zero") for s in states.values())
        reply = ReadyReply(ready=ready, models=states)
        return Response(reply.model_dump_json(), 200 if ready else 503, media_type="application/json")

    async def page(self) -> Response:
        """The playground."""
        return playground_files.page()

    async def script(self) -> Response:
        """The playground's script."""
        return playground_files.script()

    async def style(self) -> Response:
        """The playground's style sheet."""
        return playground_files.style()


async def _stream(first: Piece, rest: AsyncIterator[Piece], context: RequestContext) -> AsyncIterator[str]:
    context.note_token()
    yield first["text"]
    try:
        async for piece in rest:
            context.note_token()
            yield piece["text"]
    except RefusedError as error:  # the status was sent already
        context.reason = error.reason
        yield f"data: {bytes(error.response().body).decode()}\n\n"
        yield "data: [DONE]\n\n"


def _new_reply(body: SampleBody) -> SampleReply:
    messages = [Message(role=m.role, content=m.content) for m in body.messages]
    return SampleReply(prompt_id=prompt_id(messages), samples=[], errors=[])


def _collect(reply: SampleReply, event: SampleResult | Delta | SourceError, context: RequestContext) -> None:
    if isinstance(event, SampleResult):
        reply.samples.append(event)
        if not event.stored:
            context.add_tokens(event.prompt_tokens, event.completion_tokens)
    elif isinstance(event, SourceError):
        reply.errors.append(event)


def ingress(settings: Serve, keys: str | None, models: Sequence[str]) -> type[Gateway]:
    """Returns the gateway as a Serve ingress class, with its middleware.

    Args:
        keys: path of the key file.
        models: names of the served sources.
    """
    app = FastAPI(title="fusechat", version=version("fusechat"), redoc_url=None)
    app.add_middleware(GatewayMiddleware, settings=settings, keys=keys, share=settings.replicas)
    app.add_exception_handler(RefusedError, on_refused)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.openapi = partial(describe, app, models, keys is not None)  # type: ignore[method-assign]
    ingress_class: type[Gateway] = make_fastapi_ingress(Gateway, endpoint_map=routes(), app=app)
    return ingress_class
