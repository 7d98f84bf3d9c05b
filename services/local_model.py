"""Skips ray.serve.llm's download task for models on disk, which costs a process and a vLLM import per replica."""

from __future__ import annotations

from fusechat.pipeline.cluster.ray_internals import CallbackBase


class LocalModel(CallbackBase):  # type: ignore[misc]
    """Callback of ray.serve.llm for a model folder that every node can read."""

    async def on_before_node_init(self) -> None:
        """Tells ray.serve.llm that there is nothing to download."""
        self.ctx.run_init_node = False
