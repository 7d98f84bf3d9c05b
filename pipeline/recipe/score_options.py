"""The scoring stage: verification, and how rewards become one score."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from .fields import Domain, Name, Section


class Verify(Section):
    """How math answers and code are verified."""

    num_workers: int = Field(default=2, ge=1)
    timeout_s: float = Field(default=5.0, gt=0)
    """Wall-clock seconds a check."""
    sandbox: Literal["strict", "basic"] = "strict"
    """Layers that must hold before model-written code runs; see pipeline/verify/sandbox.py."""


class Combination(Section):
    """One number of several reward models: exactly one of `weights` and `domains`."""

    weights: dict[Name, float] = Field(default={})
    """Reward model -> weight: the score is the weighted sum, on the models' own scales."""
    domains: dict[Domain, Name] = Field(default={})
    """Domain -> the reward model that scores it."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if bool(self.weights) == bool(self.domains):
            raise ValueError("give exactly one of weights, domains")
        if zero := [name for name, weight in self.weights.items() if not weight]:
            raise ValueError(f"weights.{zero[0]} must not be 0; leave the reward model out")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The reward models that it needs."""
        return tuple(dict.fromkeys([*self.weights, *self.domains.values()]))

    def terms(self, domain: Domain) -> dict[str, float]:
        """Reward model -> weight in one domain."""
        if self.weights:
            return dict(self.weights)
        return {self.domains[domain]: 1.0} if domain in self.domains else {}


COMBINED = "combined"
"""Name of the score that a combination gives."""


class Score(Section):
    """The scoring stage."""

    reward: Annotated[
        Annotated[str, Tag("reward_name")] | Annotated[Combination, Tag("reward_rule")],
        Discriminator(lambda value: "reward_name" if isinstance(value, str) else "reward_rule"),
    ] = "auto"
    """The reward model that selection uses; `auto` takes the one whose scores agree best with the verdicts
    (largest area under the curve over math and code); or a combination of several."""
    agreement_sample: int = Field(default=256, ge=2)
    """Verified responses that every reward model scores, to see which agrees best; the rest is scored by that one."""
    batch_size: int = Field(default=32, ge=1)
    """Responses a request."""
    concurrency: int = Field(default=4, ge=1)
    """Requests in flight."""
    verify: Verify = Verify()
