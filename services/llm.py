"""Source LLMs as Ray Serve applications."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fusechat.pipeline.recipe import Engine, Placement

from .engine_args import cpu_env, engine_kwargs
from .llm_server import SourceServer

if TYPE_CHECKING:
    from ray.serve import Application

LOCAL_MODEL = "fusechat.services.local_model.LocalModel"


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
    """Builds the Serve application of one LLM.

    Args:
        name: of the deployment and the application.
        model: a transformers folder, or a hub id that the replica downloads.
        chat_template: Jinja text that replaces the model's own template.
        system: system-message policy.
        max_ongoing_requests: limit of one replica; further requests wait in a queue.
        max_queued_requests: limit of each caller's queue; further requests are refused. -1 means no limit.
        target_ongoing_requests: load of a replica above which another is started, up to `placement.max_replicas`.
        metrics: whether vLLM's metrics are exported with Ray's.
        resources: custom resources that each worker requests besides its placement.
    """
    from ray.serve.llm import LLMConfig, build_llm_deployment

    num_workers = engine.num_workers
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
        placement_group_config={"bundles": [bundle] * num_workers},
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
