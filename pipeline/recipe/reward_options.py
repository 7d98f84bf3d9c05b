"""Recipe sections for reward models."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from .fields import Name, Section
from .model_options import Model, Placement


class LikelihoodReward(Section):
    """Mean log-probability of the response's tokens under a source LLM, in (-inf, 0]."""

    kind: Literal["likelihood"]
    """Likelihood under a source."""
    name: Name
    """Name of the reward."""
    source: Name
    """Name of the served source that computes the log-probabilities."""


class JudgeReward(Section):
    """A source LLM rates the response. The score is the rating in `levels`, weighted by probability."""

    kind: Literal["judge"]
    """Rating by a source."""
    name: Name
    """Name of the reward."""
    source: Name
    """Name of the served source that rates the responses."""
    rubric: str
    """Text of the request. It must contain `{prompt}` and `{response}`, and ask for one of `levels` as the first token.
    `{levels}` is replaced by the levels."""
    levels: tuple[Annotated[int, Field(ge=0, le=9)], ...] = Field(default=(1, 2, 3, 4, 5), min_length=2)
    """Possible ratings. They are single digits because every tokenizer has a token for each digit."""
    meanings: tuple[str, ...] = ()
    """Meaning of each level. `{levels}` then becomes one line per level."""
    orders: int = Field(default=1, ge=1)
    """Number of orders of the levels that the rating is averaged over: as given, reversed, then both rotated by one,
    and so on. An even number cancels a judge's position bias. More than one requires `{levels}` in the rubric."""
    min_mass: float = Field(default=0.5, gt=0, le=1)
    """Minimum total probability of the levels. The rating is rejected if it is lower in any of the orders."""

    @model_validator(mode="after")
    def _rubric(self) -> Self:
        for field in ("{prompt}", "{response}"):
            if field not in self.rubric:
                raise ValueError(f"rubric must contain {field}")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels must differ, got {list(self.levels)}")
        if self.meanings and len(self.meanings) != len(self.levels):
            raise ValueError(f"meanings must have one item per level: {len(self.levels)}, not {len(self.meanings)}")
        if "{levels}" not in self.rubric and (self.orders > 1 or self.meanings):
            raise ValueError("rubric must contain {levels} for orders above 1 and for meanings")
        if self.orders > (most := len(level_orders(self.levels))):
            raise ValueError(f"orders: {len(self.levels)} levels have {most} orders, not {self.orders}")
        return self


def level_orders(levels: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Returns the orders in which a judge may see the levels. In each pair, every level's mean position is the
    middle."""
    rotated = [levels[i:] + levels[:i] for i in range(len(levels))]
    return list(dict.fromkeys(order for r in rotated for order in (r, r[::-1])))


class OwnReward(Section):
    """Settings of reward models that have their own weights."""

    name: Name
    """Name of the reward."""
    model: Model
    """The model's weights."""
    placement: Placement = Placement()
    """Cluster resources of each replica."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Precision of the backbone. `auto` works as it does for engines. The head always computes in float32."""
    max_length: int = Field(default=4096, ge=64)
    """Maximum number of tokens in a conversation. Longer ones are rejected, because a truncated conversation would get
    a wrong score."""
    max_batch_tokens: int = Field(default=16384, ge=64)
    """Maximum number of tokens per forward pass, padding included."""


class ArmoRMReward(OwnReward):
    """ArmoRM (arXiv 2406.12845). A gate weighs 19 objectives by the prompt; gate and objectives are kept beside the
    score."""

    kind: Literal["armorm"]
    """ArmoRM."""


class ClassifierReward(OwnReward):
    """A transformers sequence classifier with one label and a chat template, e.g. Skywork-Reward. The score is its
    logit."""

    kind: Literal["classifier"]
    """Sequence classifier."""


class ImportedReward(Section):
    """Scores that imported responses bring along. Nothing is computed; a response without a score is not selected."""

    kind: Literal["imported"]
    """Scores of imported responses."""
    name: Name
    """Name of the reward in the rows' `scores`."""


ScoredModel = LikelihoodReward | JudgeReward | ArmoRMReward | ClassifierReward
"""A reward model that computes scores."""
RewardModel = Annotated[ScoredModel | ImportedReward, Field(discriminator="kind")]
