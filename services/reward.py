"""Reward models as Ray Serve deployments: each takes conversations and answers with scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from fusechat.pipeline.config import ArmoRMReward, JudgeReward, LikelihoodReward
from fusechat.pipeline.wire import Rated, RateRequest, ScoreItem

if TYPE_CHECKING:
    from pathlib import Path

    from ray.serve import Application
    from ray.serve.handle import DeploymentHandle


class SourceReward:
    """A reward read from a source LLM's probabilities: `likelihood` or `judge`.

    It holds no weights: it asks the source's own deployment, so that a reward under a 72B model costs no second copy.
    """

    def __init__(self, config: LikelihoodReward | JudgeReward, source: DeploymentHandle | None) -> None:
        from ray import serve

        self._config = config
        self._source = serve.get_app_handle(config.source) if source is None else source

    async def score(self, items: Sequence[ScoreItem]) -> list[Rated]:
        """One score a response, in the order given; a response that can't be scored comes back as a reject."""
        if isinstance(self._config, LikelihoodReward):
            scores: list[Rated] = await self._source.likelihood.remote(list(items))
            return scores
        ratings: list[Rated] = await self._source.rate.remote([rate_request(i, self._config) for i in items])
        return ratings


class ArmoRM:
    """ArmoRM on its own replica (services/armorm.py)."""

    def __init__(self, config: ArmoRMReward, model: Path) -> None:
        import torch

        from fusechat.services import armorm

        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._model = armorm.load(model, dtype=config.dtype, device=device, max_length=config.max_length)

    async def score(self, items: Sequence[ScoreItem]) -> list[Rated]:
        """One score a response, in the order given; a response that can't be scored comes back as a reject."""
        import asyncio

        return await asyncio.to_thread(self._score, items)

    def _score(self, items: Sequence[ScoreItem]) -> list[Rated]:
        from fusechat.services import armorm

        conversations: list[list[dict[str, str]]] = [
            [
                *({"role": m["role"], "content": m["content"]} for m in i["messages"]),
                {"role": "assistant", "content": i["response"]},
            ]
            for i in items
        ]
        rated = []
        for item, score in zip(items, self._model.score(conversations), strict=True):
            found = Rated(id=item["id"], score=None, mass=1.0, reject=score.reject, tokens=score.tokens)
            if not score.reject:
                objectives = dict(zip(armorm.OBJECTIVES, score.objectives, strict=True))
                found |= {"score": score.reward, "objectives": objectives}
            rated.append(found)
        return rated


def rate_request(item: ScoreItem, judge: JudgeReward) -> RateRequest:
    """What a judge is asked about one response."""
    question = "\n\n".join(m["content"] for m in item["messages"] if m["role"] != "system")
    fill = {"{prompt}": question, "{response}": item["response"]}
    # One pass over the rubric alone, so that a placeholder inside a prompt or response stays text.
    text = re.sub(r"\{prompt\}|\{response\}", lambda m: fill[m.group()], judge.rubric)
    return RateRequest(id=item["id"], text=text, levels=list(judge.levels), min_mass=judge.min_mass)


def build_reward(
    config: LikelihoodReward | JudgeReward | ArmoRMReward,
    model: Path | None = None,
    source: Application | None = None,
    resources: Mapping[str, float] | None = None,
) -> Application:
    """The Serve application of one reward model.

    Args:
        model: the folder of an ArmoRM; the other kinds have no weights of their own.
        source: what the other kinds ask, in one application with it; else the application of the source's name.
        resources: what an ArmoRM's replica asks for beside its placement.
    """
    from ray import serve

    if isinstance(config, ArmoRMReward):
        if model is None:
            raise ValueError(f"reward {config.name}: an ArmoRM needs its model folder")
        placement = config.placement
        deployment = serve.deployment(
            name=f"reward-{config.name}",
            num_replicas=placement.replicas,
            max_ongoing_requests=8,
            ray_actor_options={
                "num_cpus": placement.num_cpus,
                "num_gpus": placement.num_gpus,
                "resources": dict(resources or {}),
            },
        )(ArmoRM)
        return deployment.bind(config, model)
    deployment = serve.deployment(
        name=f"reward-{config.name}", max_ongoing_requests=64, ray_actor_options={"num_cpus": 0}
    )(SourceReward)
    return deployment.bind(config, source)
