"""One replica of a source LLM: ray.serve.llm's server, with methods for batch sampling and scoring."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from ray.serve.llm.deployment import LLMServer

from fusechat.pipeline.cluster.ray_internals import engine_client
from fusechat.pipeline.errors import EngineDiedError
from fusechat.pipeline.machine.process_priority import lower_priority
from fusechat.pipeline.sampling.messages import (
    Delta,
    Generated,
    GenerateRequest,
    Piece,
    Rated,
    RateRequest,
    SampleSeed,
    ScoreItem,
    rejected,
)
from fusechat.pipeline.sampling.throughput import EngineCounters

from .logprob_scoring import LogprobScorer, unique_request_id
from .openai_stream import Route, openai_answer
from .prompt_rendering import PromptRenderer

if TYPE_CHECKING:
    from ray.serve.llm import LLMConfig
    from vllm.outputs import RequestOutput
    from vllm.sampling_params import SamplingParams

EXIT_DELAY_S = 0.5
"""Seconds between the engine's death and the replica's exit, in which the error is sent to the callers."""
VLLM_COUNTERS = {
    "vllm:prompt_tokens_total": "prompt",
    "vllm:prompt_tokens_cached_total": "cached",
    "vllm:generation_tokens_total": "generation",
}


class SourceServer(LLMServer):  # type: ignore[misc]
    """One replica of a source LLM.

    In addition to ray.serve.llm's methods (chat, completions, ...) it takes whole batches in one call: `generate`
    samples, `likelihood` and `rate` score. The source's chat template and system-message policy are applied here, so
    that batch and REST callers get the same prompt tokens.
    """

    async def __init__(  # type: ignore[misc]  # Ray Serve awaits it
        self, llm_config: LLMConfig, *, chat_template: str | None = None, system: str = "keep"
    ) -> None:
        from transformers import AutoTokenizer

        on_gpu = any(b.get("GPU") for b in (llm_config.placement_group_config or {}).get("bundles", []))
        kwargs = llm_config.engine_kwargs
        num_workers = kwargs["tensor_parallel_size"] * kwargs["pipeline_parallel_size"]
        await super().__init__(llm_config, engine_cls=None if on_gpu or num_workers > 1 else _cpu_engine())
        if not on_gpu:
            lower_priority()  # to the engine's process, which was started by now
        self._renderer = PromptRenderer(
            AutoTokenizer.from_pretrained(llm_config.model_loading_config.model_source),
            chat_template=chat_template,
            system=system,
            max_model_len=int(kwargs["max_model_len"]),
        )
        self._scorer = LogprobScorer(self._renderer, self._run)

    async def _start_engine(self) -> None:
        """Starts the engine like ray.serve.llm, without its telemetry: a process that every start would wait for."""
        await self.engine.start()

    async def generate(self, request: GenerateRequest) -> AsyncIterator[Generated | Delta]:
        """Samples a conversation once per seed. Yields each sample as it finishes; failures are yielded as rejects.

        If the request asks for deltas, the deltas of a sample are yielded before it.
        """
        ids = self._renderer.render(request["messages"])
        if isinstance(ids, str):
            for sample in request["samples"]:
                yield rejected(sample["response_id"], ids)
            return

        results: asyncio.Queue[Generated | Delta | Exception] = asyncio.Queue()

        async def run(sample: SampleSeed) -> None:
            try:
                results.put_nowait(await self._generate_one(ids, request, sample, results.put_nowait))
            except Exception as error:  # noqa: BLE001 - raised below, in the caller's task
                results.put_nowait(error)

        tasks = [asyncio.create_task(run(s)) for s in request["samples"]]
        try:
            num_missing = len(tasks)
            while num_missing:
                result = await results.get()
                if isinstance(result, Exception):
                    raise result
                num_missing -= "delta" not in result
                yield result
        finally:  # the caller left, or a sample failed
            for task in tasks:
                task.cancel()

    async def _generate_one(
        self, ids: list[int], request: GenerateRequest, sample: SampleSeed, on_delta: Callable[[Delta], None]
    ) -> Generated:
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        response_id, with_deltas = sample["response_id"], request.get("deltas", False)
        params = SamplingParams(
            **request["params"],
            seed=sample["seed"],
            output_kind=RequestOutputKind.CUMULATIVE if with_deltas else RequestOutputKind.FINAL_ONLY,
            skip_special_tokens=True,
        )
        num_sent = 0

        def send_delta(text: str) -> None:
            nonlocal num_sent
            if with_deltas and len(text) > num_sent:
                on_delta(Delta(response_id=response_id, delta=text[num_sent:]))
                num_sent = len(text)

        output = await self._run(ids, params, unique_request_id(response_id), send_delta)
        completion = output.outputs[0]
        return Generated(
            response_id=response_id,
            text=completion.text,
            finish_reason=str(completion.finish_reason),
            reject="",
            prompt_tokens=len(ids),
            completion_tokens=len(completion.token_ids),
        )

    async def openai(self, route: Route, body: Mapping[str, object], request_id: str) -> AsyncIterator[Piece]:
        """Answers a request of OpenAI's routes, under this source's system-message policy. See openai_stream.py.

        Raises:
            EngineDiedError: the engine's process died.
        """
        from vllm.v1.engine.exceptions import EngineDeadError

        if route == "chat":
            body = {**body, "messages": self._renderer.with_system(body["messages"])}  # type: ignore[arg-type]
        try:
            async with aclosing(openai_answer(self.engine, route, body, request_id)) as pieces:
                async for piece in pieces:
                    yield piece
        except EngineDeadError as error:
            raise self._exit_soon(error) from error

    def _exit_soon(self, error: Exception) -> EngineDiedError:
        """Ends this replica and returns the error for its callers.

        Serve's health check would notice the dead engine after 15 s; a replica that exits is replaced at once.
        """
        asyncio.get_running_loop().call_later(EXIT_DELAY_S, os._exit, 1)
        return EngineDiedError(f"the engine's process is gone: {error}")

    async def counters(self) -> EngineCounters:
        """Returns vLLM's token counters of this replica."""
        from prometheus_client import REGISTRY
        from ray import serve

        values = dict.fromkeys(VLLM_COUNTERS.values(), 0.0)
        for metric in REGISTRY.collect():
            for sample in metric.samples:
                if sample.name in VLLM_COUNTERS:
                    values[VLLM_COUNTERS[sample.name]] += sample.value
        replica = serve.get_replica_context().replica_id.unique_id
        return EngineCounters(
            replica=replica, prompt=values["prompt"], cached=values["cached"], generation=values["generation"]
        )

    async def likelihood(self, items: Sequence[ScoreItem]) -> list[Rated]:
        """Returns the mean log-probability (nats per token) of each response given its conversation."""
        return await self._scorer.likelihood(items)

    async def rate(self, requests: Sequence[RateRequest]) -> list[Rated]:
        """Returns the expected rating level under the next-token distribution; `mass` is the levels' probability."""
        return await self._scorer.rate(requests)

    async def _run(
        self, ids: list[int], params: SamplingParams, request_id: str, on_text: Callable[[str], None] | None = None
    ) -> RequestOutput:
        """Runs one request on the engine; `on_text` gets the text so far with each of the engine's outputs."""
        from vllm.v1.engine.exceptions import EngineDeadError

        final = None
        try:
            async for output in engine_client(self.engine).generate({"prompt_token_ids": ids}, params, request_id):
                final = output
                if on_text is not None:
                    on_text(output.outputs[0].text)
        except EngineDeadError as error:
            raise self._exit_soon(error) from error
        if final is None:
            raise RuntimeError(f"the engine ended request {request_id} without an output")
        return final


def _cpu_engine() -> type:
    from .cpu_engine import CpuEngine

    return CpuEngine
