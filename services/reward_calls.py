"""Calls from the gateway to the reward models, alone or in the recipe's combination."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from fusechat.pipeline.recipe import COMBINED, Combination, Domain, Recipe
from fusechat.pipeline.sampling.messages import Rated, ScoreItem

from .error_responses import RefusedError
from .reward_models import combine_ratings
from .serve_errors import translate_serve_errors

if TYPE_CHECKING:
    from ray.serve.handle import DeploymentHandle


class RewardCalls:
    """Scores responses on the recipe's reward models.

    Args:
        rewards: deployment of each reward model.
        default: the reward model that scores if a request names none.
    """

    def __init__(self, recipe: Recipe, rewards: Mapping[str, DeploymentHandle], default: str) -> None:
        self._rule, self._rewards, self._default = recipe.score.reward, rewards, default

    def resolve(self, requested: str | bool) -> str:
        """Returns the name of the reward model that a request asks for; `True` means the default.

        Raises:
            RefusedError: 404 if there is no such reward model.
        """
        name = requested if isinstance(requested, str) else self._default
        is_combination = isinstance(self._rule, Combination) and self._rewards.keys() >= set(self._rule.names)
        if name not in self._rewards and not (name == COMBINED and is_combination):
            if not self._rewards:
                raise RefusedError(
                    404, "no_such_reward", "the recipe has no reward models to score with", param="reward"
                )
            names = ", ".join(self._rewards)
            raise RefusedError(404, "no_such_reward", f"{name} is not one of the reward models {names}", param="reward")
        return name

    async def score(self, name: str, domain: Domain, items: list[ScoreItem]) -> list[Rated]:
        """Returns one rating per item.

        Args:
            name: from `resolve`.
            domain: selects the reward models of the combination.

        Raises:
            RefusedError: 503 if a reward model can't answer.
        """
        if name != COMBINED or isinstance(self._rule, str):
            return await self._score_with(name, items)
        terms = self._rule.terms(domain)
        by_reward = await asyncio.gather(*(self._score_with(n, items) for n in terms))
        by_item = [dict(zip(terms, ratings, strict=True)) for ratings in zip(*by_reward, strict=True)]
        return [
            combine_ratings(ratings, terms, item["id"])
            for ratings, item in zip(by_item or [{}] * len(items), items, strict=True)
        ]

    async def _score_with(self, name: str, items: list[ScoreItem]) -> list[Rated]:
        with translate_serve_errors(name):
            rated: list[Rated] = await self._rewards[name].score.remote(items)
            return rated
