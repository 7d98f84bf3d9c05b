"""The reward models."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from .fields import Name, Section
from .model_options import Model, Placement


class LikelihoodReward(Section):
    """Mean log-probability of the response's tokens under a source LLM; lies in (-inf, 0]."""

    kind: Literal["likelihood"]
    name: Name
    source: Name


class JudgeReward(Section):
    """A source LLM rates the response; the score is the probability-weighted rating in `levels`."""

    kind: Literal["judge"]
    name: Name
    source: Name
    rubric: str
    """With `{prompt}` and `{response}`; asks for one of `levels` as the first token. `{levels}` is where they stand."""
    levels: tuple[Annotated[int, Field(ge=0, le=9)], ...] = Field(default=(1, 2, 3, 4, 5), min_length=2)
    """Single digits: every tokenizer has a token for each."""
    meanings: tuple[str, ...] = ()
    """What each level stands for; `{levels}` then becomes a line for each."""
    orders: int = Field(default=1, ge=1)
    """Orders of the levels that the rating is averaged over, against a judge's taste for a place: as given, reversed,
    then both turned by one, and so on. More than one needs `{levels}` in the rubric."""
    min_mass: float = Field(default=0.5, gt=0, le=1)
    """A rating is a reject where the levels together hold less probability than this, in any of the orders."""

    @model_validator(mode="after")
    def _rubric(self) -> Self:
        for field in ("{prompt}", "{response}"):
            if field not in self.rubric:
                raise ValueError(f"rubric must contain {field}")
        if len(set(self.levels)) < len(self.levels):
            raise ValueError(f"levels must differ, got {list(self.levels)}")
        if self.meanings and len(self.meanings) != len(self.levels):
            raise ValueError(f"meanings must be as many as levels: {len(self.levels)}, not {len(self.meanings)}")
        if "{levels}" not in self.rubric and (self.orders > 1 or self.meanings):
            raise ValueError("rubric must contain {levels} for orders above 1 and for meanings")
        if self.orders > (most := len(level_orders(self.levels))):
            raise ValueError(f"orders: {len(self.levels)} levels have {most} orders, not {self.orders}")
        return self


def level_orders(levels: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Orders in which a judge may see the levels; in each pair of them every level's mean place is the middle."""
    turned = [levels[i:] + levels[:i] for i in range(len(levels))]
    return list(dict.fromkeys(order for t in turned for order in (t, t[::-1])))


class OwnReward(Section):
    """What reward models with weights of their own share."""

    name: Name
    model: Model
    placement: Placement = Placement()
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """Of the backbone, `auto` as for engines; the head computes in float32."""
    max_length: int = Field(default=4096, ge=64)
    """Tokens of a conversation; more is a reject, since a cut one would be scored wrongly."""
    max_batch_tokens: int = Field(default=16384, ge=64)
    """Tokens of a forward pass, padding included."""


class ArmoRMReward(OwnReward):
    """ArmoRM (arXiv 2406.12845): 19 objectives, mixed by a gate that reads the prompt."""

    kind: Literal["armorm"]


class ClassifierReward(OwnReward):
    """A sequence classifier of transformers with one label, e.g. Skywork-Reward; the score is its logit."""

    kind: Literal["classifier"]


RewardModel = Annotated[LikelihoodReward | JudgeReward | ArmoRMReward | ClassifierReward, Field(discriminator="kind")]
