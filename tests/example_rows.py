"""Rows of the pipeline's tables for tests: prompts, responses, scores. A test states only the columns it is about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fusechat.pipeline.identities import prompt_id
from fusechat.pipeline.records import Domain, Message, plain_prompt
from fusechat.pipeline.sampling.messages import Generated


def prompt_row(index: int, text: str, domain: Domain, *, system: str | None = None, **changes: Any) -> dict[str, Any]:
    """A PROMPT row: the prompt on line `index + 1` of p.jsonl, whose id is the index. `changes` replace columns."""
    messages = [Message(role="system", content=system)] if system is not None else []
    messages.append(Message(role="user", content=text))
    return {**plain_prompt(prompt_id(messages), str(index), domain, messages, "p.jsonl", index + 1), **changes}


def response_row(prompt: Mapping[str, Any], response_id: str = "r", **changes: Any) -> dict[str, Any]:
    """A RESPONSE row: a complete response of source `a`. `changes` replace columns.

    Args:
        prompt: only its `prompt_id` and `domain` are read.
    """
    return {
        "response_id": response_id,
        "prompt_id": prompt["prompt_id"],
        "domain": prompt["domain"],
        "source": "a",
        "revision": "r",
        "sample_index": 0,
        "seed": 0,
        "params": "{}",
        "template": "t",
        "text": "2",
        "finish_reason": "stop",
        "reject": "",
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "flags": [],
        **changes,
    }


def score_row(
    response: Mapping[str, Any], rewards: Mapping[str, float | None], correct: bool | None = None, **changes: Any
) -> dict[str, Any]:
    """A SCORE row of a response. `changes` replace columns.

    Args:
        rewards: score by name of the reward model.
    """
    return {
        **{key: response[key] for key in ("response_id", "prompt_id", "domain", "source")},
        "rewards": list(rewards.items()),
        "reward_rejects": [],
        "correct": correct,
        "verdict": "v",
        "detail": "",
        **changes,
    }


def verdict_row(correct: bool | None) -> dict[str, Any]:
    """What the verifier says of a response."""
    return {"correct": correct, "verdict": "correct" if correct else "wrong", "detail": "d"}


def make_generated(
    response_id: str,
    text: str = "t",
    finish_reason: str = "stop",
    prompt_tokens: int = 1,
    completion_tokens: int = 1,
) -> Generated:
    """A sample as an engine returns it."""
    return Generated(
        response_id=response_id,
        text=text,
        finish_reason=finish_reason,
        reject="",
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
    )
