"""Skips ray.serve.llm's download task for models that lie on disk: it costs a process and a vLLM import a replica."""

from __future__ import annotations

from ray.llm._internal.common.callbacks.base import CallbackBase


class LocalModel(CallbackBase):  # type: ignore[misc]
    """Callback of ray.serve.llm for a model folder that every node sees."""

    async def on_before_node_init(self) -> None:
        """Nothing to fetch."""
        self.ctx.run_init_node = False
