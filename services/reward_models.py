"""Reward models as Ray Serve deployments: each takes conversations and answers with scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusechat.pipeline.recipe import (
    ArmoRMReward,
    ClassifierReward,
    JudgeReward,
    LikelihoodReward,
    OwnReward,
    level_orders,
)
from fusechat.pipeline.recipe.precision import decided
from fusechat.pipeline.records import OBJECTIVES
from fusechat.pipeline.sampling.messages import Rated, RateRequest, ScoreItem
from fusechat.pipeline.scoring.merge import combine

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
        orders = level_orders(self._config.levels)[: self._config.orders]
        requests = [rate_request(i, self._config, order) for i in items for order in orders]
        found: list[Rated] = await self._source.rate.remote(requests)
        num = len(orders)
        return [mean_rating(i["id"], found[k * num : (k + 1) * num]) for k, i in enumerate(items)]


class OwnRewardModel:
    """A reward model with weights of its own, on its own replica."""

    def __init__(self, config: ArmoRMReward | ClassifierReward, model: Path) -> None:
        import torch

        from . import armorm, classifier
        from .batcher import Collector

        device = "cuda" if torch.cuda.is_available() else "cpu"
        load: Any = armorm.load if isinstance(config, ArmoRMReward) else classifier.load
        dtype = decided(config.dtype, config.placement.num_gpus)
        network = load(model, dtype=dtype, device=device, max_length=config.max_length)
        self._collector = Collector(network, config.max_batch_tokens)

    async def score(self, items: Sequence[ScoreItem]) -> list[Rated]:
        """One score a response, in the order given; a response that can't be scored comes back as a reject."""
        from .reward_inputs import conversation

        scores = await self._collector.score([conversation(i) for i in items])
        rated = []
        for item, score in zip(items, scores, strict=True):
            found = Rated(id=item["id"], score=score.reward, mass=1.0, reject=score.reject, tokens=score.tokens)
            if score.objectives:
                found["objectives"] = dict(zip(OBJECTIVES, score.objectives, strict=True))
                found["gate"] = dict(zip(OBJECTIVES, score.gate, strict=True))
            rated.append(found)
        return rated

    async def padding(self) -> tuple[int, int]:
        """Tokens rated since the start, and the same with padding."""
        return self._collector.num_tokens, self._collector.num_computed


def rate_request(item: ScoreItem, judge: JudgeReward, order: Sequence[int]) -> RateRequest:
    """What a judge is asked about one response, with the levels in one of their orders."""
    question = "\n\n".join(m["content"] for m in item["messages"] if m["role"] != "system")
    meanings = dict(zip(judge.levels, judge.meanings, strict=False))
    levels = "\n".join(f"{n}: {meanings[n]}" for n in order) if meanings else ", ".join(map(str, order))
    fill = {"{prompt}": question, "{response}": item["response"], "{levels}": levels}
    # One pass over the rubric alone, so that a placeholder inside a prompt or response stays text.
    text = re.sub(r"\{prompt\}|\{response\}|\{levels\}", lambda m: fill[m.group()], judge.rubric)
    return RateRequest(id=item["id"], text=text, levels=list(judge.levels), min_mass=judge.min_mass)


def mean_rating(item: str, ratings: Sequence[Rated]) -> Rated:
    """The mean over the orders of the levels; a reject of one of them is the reject of all."""
    mass, tokens = min(r["mass"] for r in ratings), sum(r["tokens"] for r in ratings)
    reject = next((r["reject"] for r in ratings if r["reject"]), "")
    scores = [r["score"] for r in ratings if r["score"] is not None]
    score = None if reject or not scores else sum(scores) / len(scores)
    return Rated(id=item, score=score, mass=mass, reject=reject, tokens=tokens)


def combined(ratings: Mapping[str, Rated], terms: Mapping[str, float], item: str) -> Rated:
    """One rating of several reward models', under the recipe's rule."""
    scores = {name: r["score"] for name, r in ratings.items() if r["score"] is not None}
    score, reject = combine(scores, {name: r["reject"] for name, r in ratings.items()}, terms)
    mass, tokens = min((r["mass"] for r in ratings.values()), default=0.0), sum(r["tokens"] for r in ratings.values())
    return Rated(id=item, score=score, mass=mass, reject=reject, tokens=tokens)


def build_reward(
    config: LikelihoodReward | JudgeReward | ArmoRMReward | ClassifierReward,
    model: Path | None = None,
    source: Application | None = None,
    resources: Mapping[str, float] | None = None,
) -> Application:
    """The Serve application of one reward model.

    Args:
        model: the folder of one that has weights of its own.
        source: what the other kinds ask, in one application with it; else the application of the source's name.
        resources: what a replica with weights asks for beside its placement.
    """
    from ray import serve

    name = f"reward-{config.name}"
    if not isinstance(config, OwnReward):
        asking = serve.deployment(name=name, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0})(SourceReward)
        return asking.bind(config, source)
    if model is None:
        raise ValueError(f"reward {config.name}: {config.kind} needs its model folder")
    placement = config.placement
    options: dict[str, Any] = {
        "num_cpus": placement.num_cpus,
        "num_gpus": placement.num_gpus,
        "resources": dict(resources or {}),
    }
    if placement.memory_gb:
        options["memory"] = placement.memory_gb * 2**30
    if placement.accelerator_type:
        options["accelerator_type"] = placement.accelerator_type
    # Many requests at once: the replica makes its batches of all of them.
    deployment = serve.deployment(
        name=name, num_replicas=placement.replicas, max_ongoing_requests=64, ray_actor_options=options
    )(OwnRewardModel)
    return deployment.bind(config, model)
