"""Identities and hashes: of prompts and responses, and what follows from them (buckets, splits, seeds)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from .records import Message


def digest(*parts: Any) -> str:
    """sha256 (hex) of the parts' canonical JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def prompt_id(messages: Sequence[Message]) -> str:
    """Identity of a conversation: what is asked, not where it came from."""
    return digest([[m["role"], m["content"]] for m in messages])


def response_id(
    prompt: str, source: str, revision: str, template: str, params: Mapping[str, Any], sample_index: int
) -> str:
    """Identity of a response (DESIGN: prompt, source and revision, template, parameters, seed index)."""
    return digest(prompt, source, revision, template, dict(params), sample_index)


def bucket_of(prompt: str, num_buckets: int) -> int:
    """Bucket of a prompt id; the id is a hash already, so its leading bits are uniform."""
    return int(prompt[:8], 16) % num_buckets


def fraction_of(prompt: str, salt: str) -> float:
    """A uniform number in [0, 1) that hangs on the prompt alone, so splits stay put when prompts are added."""
    return int(digest(salt, prompt)[:13], 16) / 16**13


def seed_of(seed: int, response: str) -> int:
    """Seed of one response, from the recipe's seed and the response's identity; fits 31 bits."""
    return int(digest(seed, response)[:8], 16) & 0x7FFFFFFF
