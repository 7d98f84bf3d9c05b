"""vLLM's engine arguments and environment for an engine of the recipe."""

from __future__ import annotations

import math

from fusechat.pipeline.machine.hardware import allocator_env
from fusechat.pipeline.recipe import Engine, Placement
from fusechat.pipeline.recipe.precision import decided

CPU_WORKER = "fusechat.services.cpu_worker.CpuWorker"


def engine_kwargs(engine: Engine, num_gpus: float, chat_template: str | None = None) -> dict[str, object]:
    """Returns vLLM's engine arguments.

    Args:
        num_gpus: per worker; 0 means an engine on CPUs.
        chat_template: Jinja text that OpenAI's routes render prompts with.
    """
    kwargs: dict[str, object] = {
        "dtype": decided(engine.dtype, num_gpus),
        "max_model_len": engine.max_model_len,
        "tensor_parallel_size": engine.tensor_parallel_size,
        "pipeline_parallel_size": engine.pipeline_parallel_size,
        "enable_prefix_caching": True,
    }
    if chat_template is not None:
        kwargs["chat_template"] = chat_template
    if not num_gpus:
        # In vLLM's CPU engine, a seeded request whose prefill is split crashes the engine. Without chunked prefill no
        # prompt is split. A batch larger than needed costs memory: log-probabilities of 4,096 tokens over Qwen's
        # vocabulary took 6 GiB.
        kwargs |= {
            "enable_chunked_prefill": False,
            "max_num_batched_tokens": max(engine.max_model_len, 1024),
            "enforce_eager": True,
            # The smallest block size of the CPU kernels. Only full blocks of a shared prefix are reused.
            "block_size": 32,
            "worker_cls": CPU_WORKER,
        }
    return kwargs | engine.options


def cpu_env(placement: Placement) -> dict[str, str]:
    """Returns the environment of an engine without a GPU.

    The number of threads is the number of CPUs in the recipe, rounded up, unless the recipe sets `num_threads`: two
    engines with one thread per core each would wait for each other at every layer. Threads are not bound to cores, and
    they sleep while they wait.
    """
    return {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": str(max(1, math.ceil(placement.num_threads or placement.num_cpus))),
        "OMP_WAIT_POLICY": "PASSIVE",
        # Compiling the sampler delays the first request by 20 s and needs a C compiler, for a negligible kernel.
        "TORCH_COMPILE_DISABLE": "1",
        **allocator_env(),
    }
