"""Everything private to Ray that fusechat imports: what to check when Ray is upgraded. Written for Ray 2.60.0.

Importing ray.llm imports vLLM, so importing this module imports nothing of Ray. A name's module is imported when the
name is first read, e.g. by `from fusechat.pipeline.cluster.ray_internals import ModelCard`.

`CallbackBase`
    Base class of ray.serve.llm's callbacks. Only a callback can skip its download task (services/local_model).
`VLLMEngine`
    ray.serve.llm's engine class. A subclass of it is the only way to change how the engine's process is started
    (services/cpu_engine).
`openai_api_models`
    Module with the request and response classes that `VLLMEngine` takes and returns (services/openai_stream), also used
    to describe the routes (services/openapi_page).
`ModelCard`
    Entry of the model list that ray.serve.llm's public ingress takes (services/app).
`setproctitle`
    Sets the name of the process. vLLM's own way fails in a Ray worker, because Ray has moved the memory that it writes
    to (services/cpu_engine).
`get_auth_headers_if_auth_enabled`
    Headers with the cluster's token, which Ray's public client adds only to its own requests (cluster/ray_jobs).

Two classes also override or read private attributes of their public base classes: services/llm_server overrides
`LLMServer._start_engine`, and `engine_client` below reads `VLLMEngine._engine_client`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray._private.authentication.http_token_authentication import get_auth_headers_if_auth_enabled
    from ray._raylet import setproctitle  # type: ignore[attr-defined]  # compiled
    from ray.llm._internal.common.callbacks.base import CallbackBase
    from ray.llm._internal.serve.core.configs import openai_api_models
    from ray.llm._internal.serve.core.configs.openai_api_models import ModelCard
    from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine
    from vllm.engine.protocol import EngineClient

__all__ = [
    "VERBOSE_LOGGERS",
    "CallbackBase",
    "ModelCard",
    "VLLMEngine",
    "engine_client",
    "get_auth_headers_if_auth_enabled",
    "openai_api_models",
    "setproctitle",
]

VERBOSE_LOGGERS = (
    "ray.dashboard.modules.job.sdk",
    "ray.dashboard.modules.dashboard_sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers of Ray's job client that log each connection and upload."""

MODULES = {
    "CallbackBase": "ray.llm._internal.common.callbacks.base",
    "ModelCard": "ray.llm._internal.serve.core.configs.openai_api_models",
    "VLLMEngine": "ray.llm._internal.serve.engines.vllm.vllm_engine",
    "get_auth_headers_if_auth_enabled": "ray._private.authentication.http_token_authentication",
    "openai_api_models": "ray.llm._internal.serve.core.configs",
    "setproctitle": "ray._raylet",
}
"""Module that contains each name."""

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Imports a name on first use (PEP 562)."""
        if name not in MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if name == "openai_api_models":
            return importlib.import_module(f"{MODULES[name]}.{name}")
        return getattr(importlib.import_module(MODULES[name]), name)


def engine_client(engine: VLLMEngine) -> EngineClient:
    """Returns vLLM's client, which ray.serve.llm's engine does not expose. It takes prompts as token ids."""
    return engine._engine_client
