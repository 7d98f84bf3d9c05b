"""Identities of prompts and responses, hashes, and what is derived from them: buckets, splits and seeds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from .records import Message


def digest(*parts: object) -> str:
    """sha256 (hex) of the parts' canonical JSON."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def file_hash(path: Path) -> str:
    """sha256 (hex) of a local file's content.

    Raises:
        OSError: the file can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prompt_id(messages: Sequence[Message]) -> str:
    """Identity of a conversation. It depends on the messages, not on where they came from."""
    return digest([[m["role"], m["content"]] for m in messages])


def response_id(
    prompt: str, source: str, revision: str, template: str, params: Mapping[str, object], sample_index: int
) -> str:
    """Identity of a response: prompt, source and revision, template, sampling parameters, sample index."""
    return digest(prompt, source, revision, template, dict(params), sample_index)


IMPORTED = "imported"
"""Revision, template and finish reason of a response that was not sampled here."""


def imported_params(text: str) -> dict[str, str]:
    """What stands for the sampling parameters of an imported response: another text is another response."""
    return {"text": digest(text)}


def imported_id(prompt: str, source: str, text: str, sample_index: int = 0) -> str:
    """Identity of an imported response."""
    return response_id(prompt, source, IMPORTED, IMPORTED, imported_params(text), sample_index)


def row_id(kind: Literal["sft", "pair"], prompt: str, *responses: str) -> str:
    """Identity of a selected row: its prompt and its responses, of a pair the chosen one first."""
    return digest(kind, prompt, *responses)


def bucket_of(prompt: str, num_buckets: int) -> int:
    """Bucket of a prompt id. The id is a hash, so its leading bits are uniform."""
    return int(prompt[:8], 16) % num_buckets


def fraction_of(prompt: str, salt: str) -> float:
    """A uniform number in [0, 1) that depends only on the prompt, so splits do not change when prompts are added."""
    return int(digest(salt, prompt)[:13], 16) / 16**13


def seed_of(seed: int, response: str) -> int:
    """Seed of one response, from the recipe's seed and the response's identity; fits 31 bits."""
    return int(digest(seed, response)[:8], 16) & 0x7FFFFFFF
