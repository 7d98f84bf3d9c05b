"""The selection stage: one rule a domain (FuseChat-3.0, section 3.3)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from .fields import Domain, Section


class Margin(Section):
    """A window for reward(chosen) - reward(rejected), both ends included."""

    min: float = 0.0
    max: float | None = None

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError("the window is empty: max is below min")
        return self


class DomainRule(Section):
    """How one domain's prompts become SFT rows and pairs (FuseChat-3.0, section 3.3)."""

    sft_fraction: float = Field(ge=0, le=1)
    """Share of the prompts, by hash of the prompt, that only SFT may use."""
    fallback_to_sft: bool = False
    """A prompt of the DPO share that yields no pair becomes an SFT row ("by yield")."""
    margin: Margin = Margin()
    keep_truncated: bool = False
    """Responses cut at max_tokens may be chosen."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longer responses take no part."""
    rows: int = Field(default=1, ge=1)
    """SFT rows (of different texts) or pairs (of different sources) that one prompt yields at most."""
    prefer: Literal["margin", "reward"] = "margin"
    """Which source's pair inside the window wins: the largest margin, or the highest reward of the chosen response
    (then the largest margin); at last the first name."""


class Select(Section):
    """The selection stage."""

    instruction: DomainRule = DomainRule(sft_fraction=0.4, margin=Margin(min=0.01, max=0.1))
    math: DomainRule = DomainRule(sft_fraction=0, fallback_to_sft=True, margin=Margin(min=0.01, max=0.1))
    code: DomainRule = DomainRule(sft_fraction=0, fallback_to_sft=True)
    chinese: DomainRule = DomainRule(sft_fraction=1)

    def rule(self, domain: Domain) -> DomainRule:
        """The rule of one domain."""
        rule: DomainRule = getattr(self, domain)
        return rule
