"""Recipe section of the selection stage: one rule per domain (FuseChat-3.0, section 3.3)."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from .fields import Domain, Section


class Margin(Section):
    """Window for the margin, reward(chosen) - reward(rejected). Both ends are included."""

    min: float = 0.0
    """Smallest margin of a pair."""
    max: float | None = None
    """Largest margin of a pair. Default: no upper limit."""

    @model_validator(mode="after")
    def _window(self) -> Self:
        if self.max is not None and self.max < self.min:
            raise ValueError("the window is empty: max is below min")
        return self


class DomainRule(Section):
    """How the prompts of one domain become SFT rows and pairs (FuseChat-3.0, section 3.3)."""

    sft_fraction: float = Field(ge=0, le=1)
    """Share of the prompts that are used for SFT only. The split uses a hash of the prompt, so adding prompts does not
    move the others."""
    fallback_to_sft: bool = False
    """Use a prompt of the DPO share as an SFT row when it yields no pair ("by yield")."""
    margin: Margin = Margin()
    """Window that a pair's margin must lie in."""
    keep_truncated: bool = False
    """Allow responses that were cut at `max_tokens`."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Maximum number of tokens of a response; longer responses are excluded. Imported responses are counted with the
    target's tokenizer. Default: no limit."""
    rows: int = Field(default=1, ge=1)
    """Maximum number of rows per prompt: SFT rows with different texts, or pairs from different sources."""
    prefer: Literal["margin", "reward"] = "margin"
    """Which source's pair wins among those inside the window: the one with the largest `margin`, or the one whose
    chosen response has the highest `reward` (then the largest margin). The remaining ties go to the first name."""


class Select(Section):
    """The selection stage."""

    instruction: DomainRule = DomainRule(sft_fraction=0.4, margin=Margin(min=0.01, max=0.1))
    """Rule for instruction prompts."""
    math: DomainRule = DomainRule(sft_fraction=0, fallback_to_sft=True, margin=Margin(min=0.01, max=0.1))
    """Rule for math prompts."""
    code: DomainRule = DomainRule(sft_fraction=0, fallback_to_sft=True)
    """Rule for code prompts."""
    chinese: DomainRule = DomainRule(sft_fraction=1)
    """Rule for Chinese prompts."""

    def rule(self, domain: Domain) -> DomainRule:
        """Returns the rule of one domain."""
        rule: DomainRule = getattr(self, domain)
        return rule
