"""The REST service's ingress: OpenAI's routes on ray.serve.llm's, /v1/sample, /v1/score, /v1/verify and the page."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from ray import serve
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, DeploymentUnavailableError, ReplicaUnavailableError
from ray.serve.llm.ingress import OpenAiIngress, make_fastapi_ingress
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response, StreamingResponse

from fusechat.pipeline.errors import EngineDiedError
from fusechat.pipeline.models.pinned_source import PinnedSource
from fusechat.pipeline.recipe import COMBINED, Combination, Domain, EndpointSource, Recipe, Serve
from fusechat.pipeline.sampling.backend import SamplingBackend
from fusechat.pipeline.sampling.messages import Delta, Piece, Rated, ScoreItem
from fusechat.pipeline.sampling.openai_backend import OpenAIBackend
from fusechat.pipeline.sampling.serve_backend import ServeBackend

from .deployments import APP
from .error_responses import (
    RefusedError,
    on_http,
    on_invalid,
    on_refused,
    unavailable,
    without_paths,
)
from .middleware import Call, Door
from .openai_stream import Route
from .reward_models import combined
from .sample_route import Sampler, Scoring, ranked
from .schemas import (
    ChatBody,
    Check,
    CompletionBody,
    Generation,
    Health,
    ModelState,
    ProblemReply,
    Ready,
    SampleBody,
    Sampled,
    SampleReply,
    ScoreBody,
    Scored,
    ScoreReply,
    SourceError,
    Verdict,
    VerifyBody,
    VerifyReply,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ray.serve.handle import DeploymentHandle

RESTART_S, BUSY_S = 30.0, 2.0
"""Seconds after which a caller may try again: a model that is being started, one whose queue is full."""
STATE_S = 1.0
"""Seconds for which what Serve says of the deployments is kept."""
PAGE_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'"


class Gateway(OpenAiIngress):  # type: ignore[misc]
    """The routes; who may call them is door.py's business.

    Args:
        llm_deployments: the served sources by name.
        asked: all sources that can be sampled, with what their responses' identities hang on.
        rewards: the reward models by name.
        verifier: services/verifier.py's deployment.
        chosen: the reward model that scores where a request names none.
    """

    def __init__(
        self,
        llm_deployments: dict[str, DeploymentHandle],
        model_cards: dict[str, Any],
        *,
        recipe: Recipe,
        asked: Sequence[PinnedSource],
        rewards: dict[str, DeploymentHandle],
        verifier: DeploymentHandle,
        chosen: str,
    ) -> None:
        super().__init__(llm_deployments, model_cards)
        self._recipe, self._rewards, self._verifier, self._chosen = recipe, rewards, verifier, chosen
        askers: dict[str, SamplingBackend] = {n: _Source(n, h, self) for n, h in llm_deployments.items()}
        askers |= {s.name: OpenAIBackend(s) for s in recipe.sources if isinstance(s, EndpointSource)}
        self._sampler = Sampler(recipe, asked, askers)
        self._states: dict[str, ModelState] = {}
        self._states_at = -STATE_S
        self._looking = asyncio.Lock()

    # --- OpenAI's routes

    async def model_data(self, model: str) -> Any:
        """One model."""
        self._known(model)
        return self._model_cards[model]

    def _known(self, model: str) -> None:
        if model not in self._default_serve_handles:
            there = ", ".join(self._default_serve_handles)
            raise RefusedError(404, "model_not_found", f"model: {model[:100]} is none of {there}", param="model")

    async def chat(self, body: ChatBody, request: Request) -> Response:
        """Chat completions, as OpenAI's API has them."""
        asked = body.model_dump(exclude_none=True, by_alias=True)
        for message in asked["messages"]:
            if isinstance(message.get("content"), list):
                message["content"] = "".join(part["text"] for part in message["content"])
            message["role"] = "system" if message["role"] == "developer" else message["role"]
        for key in ("store", "metadata"):
            asked.pop(key, None)
        return await self._answer("chat", body, asked, request)

    async def completions(self, body: CompletionBody, request: Request) -> Response:
        """Completions of plain text, as OpenAI's API has them."""
        return await self._answer("completions", body, body.model_dump(exclude_none=True), request)

    async def _answer(self, route: Route, body: Generation, asked: dict[str, Any], request: Request) -> Response:
        call: Call = request.scope["call"]
        self._known(body.model)
        call.model = body.model
        call.prompts.append(asked.get("messages", asked.get("prompt")))
        pieces = self._pieces(route, body.model, asked, call)
        first = await anext(pieces)
        if first["status"] >= 400:
            request.scope["refused"] = "engine"
        if not body.stream or first["status"] != 200:
            await pieces.aclose()
            return Response(first["text"], first["status"], media_type="application/json")
        return StreamingResponse(_streamed(first, pieces, call), media_type="text/event-stream")

    async def _pieces(self, route: Route, model: str, asked: dict[str, Any], call: Call) -> AsyncGenerator[Piece]:
        await self.awake(model)
        with told(model):
            handle = self._get_configured_serve_handle(model)
            answers = handle.openai.remote(route, asked, call.request_id)
            try:
                async for piece in answers:
                    call.count(piece.get("prompt_tokens", 0), piece.get("completion_tokens", 0))
                    yield piece
            finally:
                answers.cancel()

    # --- our own routes

    async def sample(self, body: SampleBody, request: Request) -> Response:
        """Asks several sources; answers come as a whole, or as server-sent events as each one finishes."""
        call: Call = request.scope["call"]
        call.prompts.append([m.model_dump() for m in body.messages])
        scoring = Scoring(
            score=None if body.score is False else self._scorer(self._reward(body.score), body.domain),
            verify=None if body.verify is None else self._verify,
        )
        self._sampler.check(body)
        if body.stream:
            return StreamingResponse(self._events(body, scoring, call), media_type="text/event-stream")
        reply = SampleReply(prompt_id="", samples=[], errors=[])
        async for event in self._sampler.sample(body, scoring):
            _collect(reply, event, call)
        self._finish(reply, body)
        if reply.errors and not reply.samples:
            worst = reply.errors[0]
            raise unavailable(worst.source, worst.message, RESTART_S)
        return Response(reply.model_dump_json(), media_type="application/json")

    async def _events(self, body: SampleBody, scoring: Scoring, call: Call) -> AsyncIterator[str]:
        reply = SampleReply(prompt_id="", samples=[], errors=[])
        try:
            async for event in self._sampler.sample(body, scoring):
                call.token()
                _collect(reply, event, call)
                if isinstance(event, Sampled):
                    yield f"event: sample\ndata: {event.model_dump_json()}\n\n"
                elif isinstance(event, SourceError):
                    yield f"event: error\ndata: {event.model_dump_json()}\n\n"
                else:
                    yield f"event: delta\ndata: {json.dumps(event)}\n\n"
        except RefusedError as error:
            yield f"event: error\ndata: {json.dumps({'source': '', 'code': error.reason, 'message': str(error)})}\n\n"
        self._finish(reply, body)
        done = {
            "prompt_id": reply.prompt_id,
            "ranking": [s.response_id for s in reply.samples],
            "errors": len(reply.errors),
        }
        yield f"event: done\ndata: {json.dumps(done)}\n\n"

    def _finish(self, reply: SampleReply, body: SampleBody) -> None:
        from fusechat.pipeline.identities import prompt_id
        from fusechat.pipeline.records import Message

        reply.prompt_id = prompt_id([Message(role=m.role, content=m.content) for m in body.messages])
        reply.samples = ranked(reply.samples)

    async def score(self, body: ScoreBody, request: Request) -> Response:
        """Rewards of responses."""
        call: Call = request.scope["call"]
        name = call.model = self._reward(body.reward or True)
        items = [
            ScoreItem(id=str(i), messages=[m.model_dump() for m in item.messages], response=item.response)  # type: ignore[misc]
            for i, item in enumerate(body.items)
        ]
        rated = await self._scorer(name, body.domain)(items)
        call.count(sum(r["tokens"] for r in rated), 0)
        scores = [
            Scored(
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
        """Verdicts on answers: math against gold, code by tests in the sandbox."""
        verdicts = await self._verify([(item, item.response) for item in body.items])
        return Response(VerifyReply(verdicts=verdicts).model_dump_json(), media_type="application/json")

    def _reward(self, named: str | bool) -> str:
        name = named if isinstance(named, str) else self._chosen
        if name not in self._rewards and not (name == COMBINED and isinstance(self._recipe.score.reward, Combination)):
            there = ", ".join(self._rewards)
            raise RefusedError(404, "no_such_reward", f"{name} is none of the reward models {there}", param="reward")
        return name

    def _scorer(self, name: str, domain: Domain) -> Any:
        async def by(name: str, items: list[ScoreItem]) -> list[Rated]:
            with told(name):
                rated: list[Rated] = await self._rewards[name].score.remote(items)
                return rated

        async def score(items: list[ScoreItem]) -> list[Rated]:
            rule = self._recipe.score.reward
            if name != COMBINED or isinstance(rule, str):
                return await by(name, items)
            terms = rule.terms(domain)
            found = await asyncio.gather(*(by(n, items) for n in terms))
            each = [dict(zip(terms, ratings, strict=True)) for ratings in zip(*found, strict=True)] or [{}] * len(items)
            return [combined(ratings, terms, item["id"]) for ratings, item in zip(each, items, strict=True)]

        return score

    async def _verify(self, wanted: Sequence[tuple[Check, str]]) -> list[Verdict]:
        items = [{**check.model_dump(include=set(Check.model_fields)), "response": text} for check, text in wanted]
        domains = [check.domain for check, _ in wanted]
        with told("verifier"):
            found = await self._verifier.verify.remote(items, domains)
        return [Verdict(**v) for v in found]

    # --- how it is

    async def health(self) -> Health:
        """The gateway is alive."""
        return Health()

    async def ready(self) -> Response:
        """How each model is; 503 while one of them can't answer."""
        states = await self.states()
        fine = all(s.state in ("ready", "scaled_to_zero") for s in states.values())
        reply = Ready(ready=fine, models=states)
        return Response(reply.model_dump_json(), 200 if fine else 503, media_type="application/json")

    async def states(self) -> dict[str, ModelState]:
        """Each model by name, as of the last second."""
        async with self._looking:
            if time.monotonic() - self._states_at > STATE_S:
                status = await asyncio.to_thread(serve.status)
                app = status.applications.get(APP)
                deployments = {} if app is None else app.deployments
                for name, handle in self._default_serve_handles.items():
                    self._states[name] = _state("source", deployments.get(handle.deployment_id.name))
                for name, handle in self._rewards.items():
                    self._states[name] = _state("reward", deployments.get(handle.deployment_id.name))
                self._states_at = time.monotonic()
            return self._states

    async def awake(self, model: str) -> None:
        """Returns when the model may be asked.

        Raises:
            RefusedError: 503 where it sleeps and the recipe says that nobody waits for it; it is woken all the same.
        """
        if self._recipe.serve.cold == "wait":
            return
        if not (await self.states())[model].replicas:
            asyncio.create_task(_wake(self._default_serve_handles[model]))  # noqa: RUF006 - nobody waits for it
            raise unavailable(model, "no replica is up; one is being started", RESTART_S)

    async def page(self) -> HTMLResponse:
        """The playground."""
        return HTMLResponse(_file("playground.html"), headers={"Content-Security-Policy": PAGE_POLICY})

    async def script(self) -> Response:
        """The playground's script."""
        return Response(_file("playground.js"), media_type="text/javascript")

    async def style(self) -> Response:
        """The playground's style sheet."""
        return Response(_file("playground.css"), media_type="text/css")


class _Source:
    """A served source as `/v1/sample` asks it."""

    def __init__(self, name: str, handle: DeploymentHandle, gateway: Gateway) -> None:
        self._name, self._gateway = name, gateway
        self._served = ServeBackend(APP, handle)

    async def ask(self, request: Any) -> AsyncIterator[Any]:
        """See SamplingBackend."""
        await self._gateway.awake(self._name)
        with told(self._name):
            async for generated in self._served.ask(request):
                yield generated

    async def trouble(self) -> str:
        """See SamplingBackend."""
        return await self._served.trouble()

    async def counters(self) -> Any:
        """See SamplingBackend."""
        return await self._served.counters()


@contextmanager
def told(model: str) -> Iterator[None]:
    """What goes wrong on the way to a deployment, as the caller is told it."""
    try:
        yield
    except BackPressureError as error:
        raise unavailable(model, "its queue is full", BUSY_S) from error
    except (EngineDiedError, RayActorError, DeploymentUnavailableError, ReplicaUnavailableError) as error:
        raise unavailable(model, "it stopped and is being started again", RESTART_S) from error
    except RayTaskError as error:
        if isinstance(error.cause, EngineDiedError):
            raise unavailable(model, "its engine stopped and is being started again", RESTART_S) from error
        raise


async def _streamed(first: Piece, rest: AsyncIterator[Piece], call: Call) -> AsyncIterator[str]:
    call.token()
    yield first["text"]
    try:
        async for piece in rest:
            call.token()
            yield piece["text"]
    except RefusedError as error:  # the status was sent long ago
        call.reason = error.reason
        yield f"data: {bytes(error.response().body).decode()}\n\n"
        yield "data: [DONE]\n\n"


def _collect(reply: SampleReply, event: Sampled | Delta | SourceError, call: Call) -> None:
    if isinstance(event, Sampled):
        reply.samples.append(event)
        if not event.stored:
            call.count(event.prompt_tokens, event.completion_tokens)
    elif isinstance(event, SourceError):
        reply.errors.append(event)


def _state(kind: Literal["source", "reward"], deployment: Any) -> ModelState:
    from ray.serve.schema import ReplicaState

    if deployment is None:
        return ModelState(kind=kind, state="failing", replicas=0, why="it is not deployed")
    replicas = deployment.replica_states
    running = replicas.get(ReplicaState.RUNNING, 0)
    status = str(getattr(deployment.status, "value", deployment.status))
    state: Literal["ready", "starting", "scaled_to_zero", "failing"] = "starting"
    if running:
        state = "ready"
    elif status in ("UNHEALTHY", "DEPLOY_FAILED"):
        state = "failing"
    elif not sum(replicas.values()):
        state = "scaled_to_zero"
    why = without_paths(deployment.message) if state in ("starting", "failing") else ""
    return ModelState(kind=kind, state=state, replicas=running, why=why)


async def _wake(handle: DeploymentHandle) -> None:
    try:
        await handle.options(stream=False).counters.remote()
    except (RayActorError, RayTaskError, DeploymentUnavailableError, ReplicaUnavailableError, BackPressureError):
        return  # /ready tells how it is


def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text("utf-8")


def _documented(model: Any, *, streams: bool = False) -> dict[int, Any]:
    problems = {s: {"model": ProblemReply} for s in (400, 401, 403, 404, 413, 429, 500, 503, 504)}
    content: dict[str, Any] = {"text/event-stream": {}} if streams else {}
    return {200: {"model": model, "content": content}, **problems}


def _routes(app: FastAPI) -> dict[str, Any]:
    """Method of Gateway -> how it becomes a route."""
    from ray.llm._internal.serve.core.configs import openai_api_models as openai

    def post(path: str, model: Any, *, streams: bool = False) -> Any:
        responses = _documented(model, streams=streams)
        return lambda app: app.post(path, responses=responses, response_model=None)

    def asset(path: str) -> Any:
        return lambda app: app.get(path, include_in_schema=False, response_model=None)

    return {
        "models": lambda app: app.get(
            "/v1/models", response_model=openai.ModelList, responses=_documented(openai.ModelList)
        ),
        "model_data": lambda app: app.get(
            "/v1/models/{model:path}", response_model=openai.ModelCard, responses=_documented(openai.ModelCard)
        ),
        "chat": post("/v1/chat/completions", openai.ChatCompletionResponse, streams=True),
        "completions": post("/v1/completions", openai.CompletionResponse, streams=True),
        "sample": post("/v1/sample", SampleReply, streams=True),
        "score": post("/v1/score", ScoreReply),
        "verify": post("/v1/verify", VerifyReply),
        "health": lambda app: app.get("/health", response_model=Health),
        "ready": lambda app: app.get(
            "/ready", response_model=None, responses={200: {"model": Ready}, 503: {"model": Ready}}
        ),
        "page": asset("/"),
        "script": asset("/playground.js"),
        "style": asset("/playground.css"),
    }


def described(app: FastAPI, models: Sequence[str], with_keys: bool) -> dict[str, Any]:
    """The OpenAPI page: the models that there are, and how a key is given."""
    found: dict[str, Any] = FastAPI.openapi(app)
    schemas = found["components"]["schemas"]
    for name in ("ChatBody", "CompletionBody"):
        schemas[name]["properties"]["model"]["enum"] = list(models)
        for example in schemas[name]["examples"]:
            example["model"] = models[0]
    if with_keys:
        found["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        found["security"] = [{"key": []}]
    return found


def ingress(settings: Serve, keys: str | None, models: Sequence[str]) -> Any:
    """The gateway as a Serve ingress class, behind its door.

    Args:
        keys: path of the key file.
        models: names of the served sources.
    """
    app = FastAPI(title="fusechat", version=version("fusechat"), redoc_url=None)
    app.add_middleware(Door, settings=settings, keys=keys, share=settings.replicas)
    app.add_exception_handler(RefusedError, on_refused)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.openapi = partial(described, app, models, keys is not None)  # type: ignore[method-assign]
    return make_fastapi_ingress(Gateway, endpoint_map=_routes(app), app=app)
