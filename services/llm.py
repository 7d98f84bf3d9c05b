"""Source LLMs as Ray Serve deployments: ray.serve.llm's server, with a batch door beside its OpenAI routes."""

from __future__ import annotations

import asyncio
import math
import os
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray.serve.llm.deployment import LLMServer

from fusechat.pipeline.errors import EngineDiedError, plain
from fusechat.pipeline.machine.hardware import allocator_env
from fusechat.pipeline.machine.process_priority import give_way
from fusechat.pipeline.recipe import Engine, Placement
from fusechat.pipeline.recipe.precision import decided
from fusechat.pipeline.records import Message
from fusechat.pipeline.sampling.messages import (
    Delta,
    Generated,
    GenerateRequest,
    Piece,
    Rated,
    RateRequest,
    ScoreItem,
    Wanted,
    rejected,
    with_system,
)
from fusechat.pipeline.sampling.throughput import Reading

from .openai_stream import Route, answer
from .reward_inputs import special_tokens

if TYPE_CHECKING:
    from ray.serve import Application
    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams


def _cpu_engine() -> type:
    from .cpu_engine import CpuEngine

    return CpuEngine


LOCAL_MODEL = "fusechat.services.local_model.LocalModel"
CPU_WORKER = "fusechat.services.cpu_worker.CpuWorker"


class SourceServer(LLMServer):  # type: ignore[misc]
    """One replica of a source LLM.

    Beside what ray.serve.llm answers (chat, completions, ...) it takes whole batches in one call: `generate`
    samples, `likelihood` and `rate` score. Chat template and system-message policy of the source are applied here,
    next to the tokenizer, so that batch and REST callers get the same prompt tokens.
    """

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, llm_config: Any, *, chat_template: str | None = None, system: str = "keep"
    ) -> None:
        from transformers import AutoTokenizer

        on_gpu = any(b.get("GPU") for b in (llm_config.placement_group_config or {}).get("bundles", []))
        parallel = llm_config.engine_kwargs["tensor_parallel_size"] * llm_config.engine_kwargs["pipeline_parallel_size"]
        await super().__init__(llm_config, engine_cls=None if on_gpu or parallel > 1 else _cpu_engine())
        if not on_gpu:
            give_way()  # to the engine, whose process was started meanwhile
        self._tokenizer = AutoTokenizer.from_pretrained(llm_config.model_loading_config.model_source)
        self._chat_template = chat_template
        self._system = system
        self._max_model_len = int(llm_config.engine_kwargs["max_model_len"])

    async def _start_engine(self) -> None:
        """As ray.serve.llm starts it, less its telemetry: a process of its own that each start waited for."""
        await self.engine.start()

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generated | Delta]:
        """Samples a conversation once a seed, each yielded as it finishes; what can't be served comes as rejects.

        Where the request asks for them, the deltas of a sample come before it.
        """
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        ids = self._render(request["messages"])
        if isinstance(ids, str):
            for sample in request["samples"]:
                yield rejected(sample["response_id"], ids)
            return

        found: asyncio.Queue[Generated | Delta | Exception] = asyncio.Queue()
        with_deltas = request.get("deltas", False)

        async def one(response_id: str, seed: int) -> Generated:
            params = SamplingParams(
                **request["params"],
                seed=seed,
                output_kind=RequestOutputKind.CUMULATIVE if with_deltas else RequestOutputKind.FINAL_ONLY,
                skip_special_tokens=True,
            )
            told = 0

            def grown(text: str) -> None:
                nonlocal told
                if with_deltas and len(text) > told:
                    found.put_nowait(Delta(response_id=response_id, delta=text[told:]))
                    told = len(text)

            output = await self._run(ids, params, _own(response_id), grown)
            completion = output.outputs[0]
            return Generated(
                response_id=response_id,
                text=completion.text,
                finish_reason=str(completion.finish_reason),
                reject="",
                prompt_tokens=len(ids),
                completion_tokens=len(completion.token_ids),
            )

        async def tell(sample: Wanted) -> None:
            try:
                found.put_nowait(await one(sample["response_id"], sample["seed"]))
            except Exception as error:  # noqa: BLE001 - raised where it is awaited
                found.put_nowait(error)

        samples = [asyncio.create_task(tell(s)) for s in request["samples"]]
        try:
            left = len(samples)
            while left:
                item = await found.get()
                if isinstance(item, Exception):
                    raise item
                left -= "delta" not in item
                yield item
        finally:  # the caller left, or one of them failed
            for task in samples:
                task.cancel()

    async def openai(self, route: Route, body: Mapping[str, Any], request_id: str) -> AsyncIterator[Piece]:
        """One answer of OpenAI's routes under this source's system-message policy; see answers.py.

        Raises:
            EngineDiedError: the engine's process is gone.
        """
        from vllm.v1.engine.exceptions import EngineDeadError

        if route == "chat":
            body = {**body, "messages": with_system(body["messages"], self._system)}
        try:
            async with aclosing(answer(self.engine, route, body, request_id)) as pieces:
                async for piece in pieces:
                    yield piece
        except EngineDeadError as error:
            raise self._dying(error) from error

    def _dying(self, error: Exception) -> EngineDiedError:
        """Ends this replica: Serve's health check would find out in a quarter of a minute; what is gone is replaced at
        once."""
        asyncio.get_running_loop().call_later(0.5, os._exit, 1)
        return EngineDiedError(f"the engine's process is gone: {error}")

    async def counters(self) -> Reading:
        """vLLM's own counters of this replica."""
        from prometheus_client import REGISTRY
        from ray import serve

        names = {
            "vllm:prompt_tokens_total": "prompt",
            "vllm:prompt_tokens_cached_total": "cached",
            "vllm:generation_tokens_total": "generation",
        }
        found = dict.fromkeys(names.values(), 0.0)
        for metric in REGISTRY.collect():
            for sample in metric.samples:
                if sample.name in names:
                    found[names[sample.name]] += sample.value
        replica = serve.get_replica_context().replica_id.unique_id
        return Reading(replica=replica, prompt=found["prompt"], cached=found["cached"], generation=found["generation"])

    async def likelihood(self, items: Sequence[ScoreItem]) -> list[Rated]:
        """Mean log-probability (nats a token) of each response given its conversation."""
        return list(await asyncio.gather(*(self._likelihood(i) for i in items)))

    async def rate(self, requests: Sequence[RateRequest]) -> list[Rated]:
        """Expected level under the next-token distribution; `mass` is what the levels hold together."""
        return list(await asyncio.gather(*(self._rate(r) for r in requests)))

    def _render(self, messages: Sequence[Message], *, asked_to_score: bool = False) -> list[int] | str:
        """Token ids of the prompt, or why it can't be rendered.

        A template of the recipe says how the source is asked to answer (worked examples, say). As a reward model it
        reads the conversation under its own template, where it has one. Special tokens that a message spells out are
        read as such, as on the OpenAI routes: who asks writes the whole conversation anyway. What is to be scored was
        written by a model, which could end its own turn with one and speak as somebody else.
        """
        template = self._chat_template
        if asked_to_score and self._tokenizer.chat_template:
            template = None
        conversation = with_system(messages, self._system)
        if not conversation:
            return "empty_prompt: there is no message"
        if asked_to_score and (token := self._spelled_out(*(m["content"] for m in conversation))):
            return f"special_token: a message holds {token!r}"
        try:
            text = self._tokenizer.apply_chat_template(
                conversation, chat_template=template, add_generation_prompt=True, tokenize=False
            )
            text.encode()
        except UnicodeEncodeError:
            return "not_unicode: a message holds a lone surrogate"
        except Exception as error:  # noqa: BLE001 - a template is a program, which may fail in any way
            return f"template_error: {plain(error) or type(error).__name__}"
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        if not ids:
            return "empty_prompt: the template renders no token"
        if len(ids) >= self._max_model_len:
            return f"prompt_too_long: {len(ids)} tokens, the engine takes {self._max_model_len - 1}"
        return ids

    def _spelled_out(self, *texts: str) -> str | None:
        special = special_tokens(self._tokenizer)
        return next((t for t in special if any(t in text for text in texts)), None)

    async def _run(
        self, ids: list[int], params: SamplingParams, request_id: str, grown: Callable[[str], None] | None = None
    ) -> RequestOutput:
        from vllm.v1.engine.exceptions import EngineDeadError

        final = None
        try:
            async for output in self.engine._engine_client.generate({"prompt_token_ids": ids}, params, request_id):
                final = output
                if grown is not None:
                    grown(output.outputs[0].text)
        except EngineDeadError as error:
            raise self._dying(error) from error
        if final is None:
            raise RuntimeError(f"the engine ended request {request_id} without an output")
        return final

    async def _likelihood(self, item: ScoreItem) -> Rated:
        ids = self._render(item["messages"], asked_to_score=True)
        if isinstance(ids, str):
            return Rated(id=item["id"], score=None, mass=1.0, reject=ids, tokens=0)
        if token := self._spelled_out(item["response"]):
            reject = f"special_token: a message holds {token!r}"
            return Rated(id=item["id"], score=None, mass=1.0, reject=reject, tokens=0)
        response = self._tokenizer(item["response"], add_special_tokens=False)["input_ids"]
        if not response:
            return Rated(id=item["id"], score=None, mass=1.0, reject="empty_response", tokens=0)
        if len(ids) + len(response) >= self._max_model_len:
            reject = f"too_long: {len(ids) + len(response)} tokens, the engine takes {self._max_model_len - 1}"
            return Rated(id=item["id"], score=None, mass=1.0, reject=reject, tokens=0)
        scores = await self._logprobs(ids, response, _own(item["id"]))
        return rated(item["id"], sum(scores) / len(scores), 1.0, len(ids) + len(response))

    async def _logprobs(self, ids: list[int], response: list[int], request_id: str) -> list[float]:
        """Log-probability of each of the response's tokens behind these.

        The blocks of a prompt that another response to it has left in the cache are not computed again. vLLM tells
        nothing of tokens that it has not computed: where the cache reaches into the response, which the same text
        asked for earlier does, everything is computed.
        """
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        for whole in (False, True):
            params = SamplingParams(
                max_tokens=1,
                temperature=0,
                prompt_logprobs=0,
                skip_reading_prefix_cache=whole,
                detokenize=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            output = await self._run([*ids, *response], params, f"{request_id}-{whole:d}")
            if not whole and (output.num_cached_tokens or 0) >= len(ids):
                continue
            found = [
                position.get(token) if position is not None else None
                for position, token in zip((output.prompt_logprobs or [])[len(ids) :], response, strict=True)
            ]
            scores = [logprob.logprob for logprob in found if logprob is not None]
            if len(scores) == len(response):
                return scores
        raise RuntimeError("the engine returned no prompt log-probabilities")

    async def _rate(self, request: RateRequest) -> Rated:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        ids = self._render([Message(role="user", content=request["text"])], asked_to_score=True)
        if isinstance(ids, str):
            return Rated(id=request["id"], score=None, mass=0.0, reject=ids, tokens=0)
        params = SamplingParams(max_tokens=1, temperature=0, logprobs=20, output_kind=RequestOutputKind.FINAL_ONLY)
        output = await self._run(ids, params, _own(request["id"]))
        first = (output.outputs[0].logprobs or [{}])[0]
        masses = dict.fromkeys(request["levels"], 0.0)
        for logprob in first.values():
            token = (logprob.decoded_token or "").strip()
            if token.isascii() and token.isdigit() and int(token) in masses:
                masses[int(token)] += math.exp(logprob.logprob)
        mass = sum(masses.values())
        if mass < request["min_mass"]:
            reject = f"no_rating: the levels hold {mass:.3f} of the probability, {request['min_mass']} is needed"
            return Rated(id=request["id"], score=None, mass=mass, reject=reject, tokens=len(ids))
        expected = sum(level * p for level, p in masses.items()) / mass
        return rated(request["id"], expected, mass, len(ids))


def _own(request_id: str) -> str:
    """An engine's id for one try: another caller may ask under the same name, or one that died may still be served."""
    return f"{request_id}-{uuid.uuid4().hex[:8]}"


def rated(item: str, score: float, mass: float, tokens: int) -> Rated:
    """A score; one that is no number is a reject."""
    if not math.isfinite(score):
        return Rated(id=item, score=None, mass=mass, reject=f"not_finite: {score}", tokens=tokens)
    return Rated(id=item, score=score, mass=mass, reject="", tokens=tokens)


def engine_kwargs(engine: Engine, num_gpus: float, chat_template: str | None = None) -> dict[str, Any]:
    """vLLM's engine arguments of a recipe's engine."""
    kwargs: dict[str, Any] = {
        "dtype": decided(engine.dtype, num_gpus),
        "max_model_len": engine.max_model_len,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "pipeline_parallel_size": engine.pipeline_parallel_size,
        "enable_prefix_caching": True,
    }
    if chat_template is not None:
        kwargs["chat_template"] = chat_template  # OpenAI's routes render by it too
    if not num_gpus:
        # A seeded request whose prefill is split kills vLLM's CPU engine for everyone; whole prompts never split.
        # No larger batch than that takes: log-probabilities of 4,096 tokens of Qwen's vocabulary took 6 GiB.
        kwargs |= {
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(engine.max_model_len, 1024),
            "enforce_eager": True,
            # The smallest that the CPU kernels take: only whole blocks of a shared prefix are reused.
            "block_size": 32,
            "worker_cls": CPU_WORKER,
        }
    return kwargs | engine.options


def cpu_env(placement: Placement) -> dict[str, str]:
    """Environment of an engine without a GPU.

    It computes with as many threads as it has CPUs by the recipe, rounded up, unless that says otherwise: two engines
    with a thread for every core each wait for one another at every layer. Threads are not bound to cores and sleep
    while they wait.
    """
    return {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(max(1, math.ceil(placement.num_threads or placement.num_cpus))),
        "OMP_WAIT_POLICY": "PASSIVE",
        # Compiling the sampler takes 20 s of the first request and needs a C compiler, for a kernel of no weight.
        "TORCH_COMPILE_DISABLE": "1",
        **allocator_env(),
    }


def build_source(
    name: str,
    model: Path | str,
    engine: Engine,
    placement: Placement,
    *,
    chat_template: str | None = None,
    system: str = "keep",
    max_ongoing_requests: int = 64,
    max_queued_requests: int = -1,
    target_ongoing_requests: float = 32,
    metrics: bool = False,
    resources: Mapping[str, float] | None = None,
) -> Application:
    """The Serve application of one LLM.

    Args:
        name: of the deployment and the application.
        model: a transformers folder, or a hub id that the replica fetches itself.
        chat_template: Jinja text in place of the model's own template.
        max_ongoing_requests: of a replica; more wait.
        max_queued_requests: that may wait at one caller; more are refused. -1 refuses none.
        target_ongoing_requests: of a replica; past it another is started, up to `placement.max_replicas`.
        metrics: whether vLLM's go to Ray's metrics, beside its own.
        resources: what each worker asks for beside its placement.
    """
    from ray.serve.llm import LLMConfig, build_llm_deployment

    workers = engine.tensor_parallel_size * engine.pipeline_parallel_size
    bundle = {"CPU": placement.num_cpus}
    if placement.num_gpus:
        bundle["GPU"] = placement.num_gpus
    if placement.memory_gb:
        bundle["memory"] = placement.memory_gb * 2**30
    bundle |= resources or {}
    env = {"VLLM_USAGE_SOURCE": "fusechat", "VLLM_NO_USAGE_STATS": "1", "TOKENIZERS_PARALLELISM": "false"}
    if not placement.num_gpus:
        env |= cpu_env(placement)
    config = LLMConfig(
        model_loading_config={"model_id": name, "model_source": str(model)},
        engine_kwargs=engine_kwargs(engine, placement.num_gpus, chat_template),
        accelerator_type=placement.accelerator_type,
        placement_group_config={"bundles": [bundle] * workers},
        deployment_config={
            "autoscaling_config": {
                "min_replicas": placement.min_replicas,
                "max_replicas": placement.max_replicas,
                "target_ongoing_requests": target_ongoing_requests,
            },
            "max_ongoing_requests": max_ongoing_requests,
            "max_queued_requests": max_queued_requests,
            "ray_actor_options": {"num_cpus": 0},
            "health_check_period_s": 5,
            "health_check_timeout_s": 60,
            "graceful_shutdown_timeout_s": 5,
        },
        runtime_env={"env_vars": env | engine.env},
        log_engine_metrics=metrics,
        **({"callback_config": {"callback_class": LOCAL_MODEL}} if Path(model).is_dir() else {}),
    )
    return build_llm_deployment(
        config,
        name_prefix="source-",
        deployment_cls=SourceServer,
        bind_kwargs={"chat_template": chat_template, "system": system},
    )
