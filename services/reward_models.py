"""Reward models as Ray Serve deployments: each takes conversations and returns scores."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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

    from .reward_inputs import RewardNetwork


class SourceRewardServer:
    """A reward computed from a source LLM's probabilities: `likelihood` or `judge`.

    It has no weights: it calls the source's deployment, so a reward under a 72B model needs no second copy.
    """

    def __init__(self, config: LikelihoodReward | JudgeReward, source: DeploymentHandle | None) -> None:
        from ray import serve

        self._config = config
        self._source = serve.get_app_handle(config.source) if source is None else source

    async def score(self, items: Sequence[ScoreItem]) -> list[Rated]:
        """Returns one rating per response, in order. A response that can't be scored is a reject."""
        if isinstance(self._config, LikelihoodReward):
            scores: list[Rated] = await self._source.likelihood.remote(list(items))
            return scores
        orders = level_orders(self._config.levels)[: self._config.orders]
        requests = [rate_request(i, self._config, order) for i in items for order in orders]
        ratings: list[Rated] = await self._source.rate.remote(requests)
        num = len(orders)
        return [mean_rating(i["id"], ratings[k * num : (k + 1) * num]) for k, i in enumerate(items)]


class RewardModelServer:
    """A reward model with its own weights, on its own replica."""

    def __init__(self, config: ArmoRMReward | ClassifierReward, model: Path) -> None:
        import torch

        from . import armorm, classifier
        from .batcher import Batcher

        device = "cuda" if torch.cuda.is_available() else "cpu"
        dtype = decided(config.dtype, config.placement.num_gpus)
        network: RewardNetwork
        if isinstance(config, ArmoRMReward):
            network = armorm.load(model, dtype=dtype, device=device, max_length=config.max_length)
        else:
            network = classifier.load(model, dtype=dtype, device=device, max_length=config.max_length)
        self._batcher = Batcher(network, config.max_batch_tokens)

    async def score(self, items: Sequence[ScoreItem]) -> list[Rated]:
        """Returns one rating per response, in order. A response that can't be scored is a reject."""
        from .reward_inputs import conversation

        scores = await self._batcher.score([conversation(i) for i in items])
        ratings = []
        for item, score in zip(items, scores, strict=True):
            rating = Rated(id=item["id"], score=score.reward, mass=1.0, reject=score.reject, tokens=score.tokens)
            if score.objectives:
                rating["objectives"] = dict(zip(OBJECTIVES, score.objectives, strict=True))
                rating["gate"] = dict(zip(OBJECTIVES, score.gate, strict=True))
            ratings.append(rating)
        return ratings

    async def padding(self) -> tuple[int, int]:
        """Returns the tokens scored since the start, without and with padding."""
        return self._batcher.num_tokens, self._batcher.num_computed


def rate_request(item: ScoreItem, judge: JudgeReward, order: Sequence[int]) -> RateRequest:
    """Builds the judge's prompt for one response.

    Args:
        order: the order in which the rating levels are listed.
    """
    question = "\n\n".join(m["content"] for m in item["messages"] if m["role"] != "system")
    meanings = dict(zip(judge.levels, judge.meanings, strict=False))
    levels = "\n".join(f"{n}: {meanings[n]}" for n in order) if meanings else ", ".join(map(str, order))
    values = {"{prompt}": question, "{response}": item["response"], "{levels}": levels}
    # A single pass over the rubric, so that a placeholder inside a prompt or response is not replaced.
    text = re.sub(r"\{prompt\}|\{response\}|\{levels\}", lambda m: values[m.group()], judge.rubric)
    return RateRequest(id=item["id"], text=text, levels=list(judge.levels), min_mass=judge.min_mass)


def mean_rating(item: str, ratings: Sequence[Rated]) -> Rated:
    """Returns the mean over the orders of the levels. If one of them is a reject, the result is a reject."""
    mass, tokens = min(r["mass"] for r in ratings), sum(r["tokens"] for r in ratings)
    reject = next((r["reject"] for r in ratings if r["reject"]), "")
    scores = [r["score"] for r in ratings if r["score"] is not None]
    score = None if reject or not scores else sum(scores) / len(scores)
    return Rated(id=item, score=score, mass=mass, reject=reject, tokens=tokens)


def combine_ratings(ratings: Mapping[str, Rated], terms: Mapping[str, float], item: str) -> Rated:
    """Combines the ratings of several reward models under the recipe's rule.

    Args:
        terms: weight of each reward model.
    """
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
    """Builds the Serve application of one reward model.

    Args:
        model: model folder, for a reward model with its own weights.
        source: the source's deployment in the same application, for the other kinds. Default: the application with
            the source's name.
        resources: custom resources that a replica with weights requests besides its placement.
    """
    from ray import serve

    name = f"reward-{config.name}"
    if not isinstance(config, OwnReward):
        deployment = serve.deployment(name=name, max_ongoing_requests=64, ray_actor_options={"num_cpus": 0})
        return deployment(SourceRewardServer).bind(config, source)
    if model is None:
        raise ValueError(f"reward {config.name}: {config.kind} needs its model folder")
    placement = config.placement
    options: dict[str, object] = {
        "num_cpus": placement.num_cpus,
        "num_gpus": placement.num_gpus,
        "resources": dict(resources or {}),
    }
    if placement.memory_gb:
        options["memory"] = placement.memory_gb * 2**30
    if placement.accelerator_type:
        options["accelerator_type"] = placement.accelerator_type
    # Many requests at once, because the replica batches across requests.
    deployment = serve.deployment(
        name=name, num_replicas=placement.replicas, max_ongoing_requests=64, ray_actor_options=options
    )
    return deployment(RewardModelServer).bind(config, model)
