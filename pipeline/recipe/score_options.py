"""Recipe section of the scoring stage: verification, and the reward that selection uses."""

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
    """Verification of math answers and code."""

    num_workers: int = Field(default=2, ge=1)
    """Number of worker processes."""
    timeout_s: float = Field(default=5.0, gt=0)
    """Time limit of one check, in processor seconds. By the clock it may take five times as long."""
    sandbox: Literal["strict", "basic"] = "strict"
    """Sandbox layers that must work before model-written code runs. `basic` requires no_new_privs, resource limits and
    seccomp; `strict` also requires Landlock and an unprivileged user."""


class Combination(Section):
    """One score from several reward models: exactly one of `weights` and `domains`. A response has no score if one of
    its rewards is missing."""

    weights: dict[Name, float] = Field(default={})
    """Reward model -> weight. The score is the weighted sum of the rewards, each on its own scale."""
    domains: dict[Domain, Name] = Field(default={})
    """Domain -> reward model that scores it."""

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if bool(self.weights) == bool(self.domains):
            raise ValueError("give exactly one of weights, domains")
        if zero := [name for name, weight in self.weights.items() if not weight]:
            raise ValueError(f"weights.{zero[0]} must not be 0; leave the reward model out")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The reward models that the combination needs."""
        return tuple(dict.fromkeys([*self.weights, *self.domains.values()]))

    def terms(self, domain: Domain) -> dict[str, float]:
        """Returns reward model -> weight for one domain."""
        if self.weights:
            return dict(self.weights)
        return {self.domains[domain]: 1.0} if domain in self.domains else {}


COMBINED = "combined"
"""Name of the score that a combination produces."""


class Score(Section):
    """The scoring stage."""

    reward: Annotated[
        Annotated[str, Tag("reward_name")] | Annotated[Combination, Tag("reward_rule")],
        Discriminator(lambda value: "reward_name" if isinstance(value, str) else "reward_rule"),
    ] = "auto"
    """The reward that selection uses: the name of a reward model; `auto`, the one whose scores agree best with the
    verdicts (largest area under the ROC curve over math and code); or a combination of several rewards. With several
    reward models, `auto` needs right and wrong responses; without them, the run stops and asks for a name."""
    agreement_sample: int = Field(default=256, ge=2)
    """Number of verified responses that every reward model scores to find the one that agrees best. That one scores the
    rest."""
    batch_size: int = Field(default=32, ge=1)
    """Responses per request."""
    concurrency: int = Field(default=4, ge=1)
    """Number of requests in flight."""
    verify: Verify = Verify()
    """Verification of math answers and code."""
