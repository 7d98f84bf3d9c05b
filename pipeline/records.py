"""What flows through the pipeline: Arrow schemas, one a record, and the identities of prompts and responses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import pyarrow as pa


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))

PROMPT = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),  # sha256 of the messages
        pa.field("id", pa.string(), nullable=False),  # the user's own
        pa.field("domain", pa.string(), nullable=False),
        pa.field("messages", MESSAGES, nullable=False),
        pa.field("gold", pa.string()),
        pa.field("tests", pa.string()),
        pa.field("entry_point", pa.string()),
        pa.field("template", pa.string()),  # family of prompts that it was made from
        pa.field("template_seen", pa.bool_()),  # held-out only: does the training set use that family
        pa.field("language", pa.string()),  # ISO 639-1, where the recipe has it tagged
        pa.field("file", pa.string(), nullable=False),
        pa.field("line", pa.int64(), nullable=False),  # of a line-based file; else the row's number
    ]
)

CARRIED = pa.schema(
    [
        pa.field("carried_id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("sample_index", pa.int32(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)

REJECT = pa.schema(
    [
        pa.field("stage", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),  # of the prompt or response, or file:line
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("domain", pa.string()),  # none where the row could not be read so far
    ]
)

RESPONSE = pa.schema(
    [
        pa.field("response_id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("revision", pa.string(), nullable=False),
        pa.field("sample_index", pa.int32(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("params", pa.string(), nullable=False),  # sampling parameters, JSON
        pa.field("template", pa.string(), nullable=False),  # sha256 of the chat template
        pa.field("text", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),  # stop, length, imported, rejected ...
        pa.field("reject", pa.string(), nullable=False),  # why there is no response; empty where there is one
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("completion_tokens", pa.int32(), nullable=False),
        pa.field("flags", pa.list_(pa.string()), nullable=False),  # truncated, empty, refused, duplicate
    ]
)

FINISHED = ("stop", "imported")
"""Finish reasons of responses that came to their own end."""

VERDICT = pa.schema(
    [
        pa.field("response_id", pa.string(), nullable=False),
        pa.field("correct", pa.bool_()),  # null where nothing can be verified
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
    ]
)

OBJECTIVES = (
    "helpsteer-helpfulness",
    "helpsteer-correctness",
    "helpsteer-coherence",
    "helpsteer-complexity",
    "helpsteer-verbosity",
    "ultrafeedback-overall_score",
    "ultrafeedback-instruction_following",
    "ultrafeedback-truthfulness",
    "ultrafeedback-honesty",
    "ultrafeedback-helpfulness",
    "beavertails-is_safe",
    "prometheus-score",
    "argilla-overall_quality",
    "argilla-judge_lm",
    "code-complexity",
    "code-style",
    "code-explanation",
    "code-instruction-following",
    "code-readability",
)
"""ArmoRM's, in the order of the columns `objectives` and `gate`."""

VALUES = pa.list_(pa.float64())
_IN_ORDER = {"order": ",".join(OBJECTIVES)}

REWARD = pa.schema(
    [
        pa.field("response_id", pa.string(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("reject", pa.string(), nullable=False),  # why there is no score; empty where there is one
        pa.field("objectives", VALUES, metadata=_IN_ORDER),  # ArmoRM's, unmixed; null of other reward models
        pa.field("gate", VALUES, metadata=_IN_ORDER),  # its weights of them
    ]
)

SCORE = pa.schema(
    [
        pa.field("response_id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("rewards", pa.map_(pa.string(), pa.float64()), nullable=False),  # reward model -> score
        pa.field("reward_rejects", pa.map_(pa.string(), pa.string()), nullable=False),  # -> why no score
        pa.field("correct", pa.bool_()),  # null where nothing can be verified
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("detail", pa.string(), nullable=False),
        pa.field("objectives", pa.map_(pa.string(), VALUES), metadata=_IN_ORDER),  # reward model -> ArmoRM's objectives
        pa.field("gate", pa.map_(pa.string(), VALUES), metadata=_IN_ORDER),  # -> its weights of them
    ]
)

_PROVENANCE = [
    pa.field("row_id", pa.string(), nullable=False),
    pa.field("prompt_id", pa.string(), nullable=False),
    pa.field("domain", pa.string(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("revision", pa.string(), nullable=False),
    pa.field("template", pa.string(), nullable=False),
    pa.field("params", pa.string(), nullable=False),
    pa.field("recipe", pa.string(), nullable=False),  # its name
    pa.field("code", pa.string(), nullable=False),  # fusechat's version
]

SFT_ROW = pa.schema(
    [
        pa.field("prompt", MESSAGES, nullable=False),
        pa.field("completion", MESSAGES, nullable=False),
        *_PROVENANCE,
        pa.field("response_id", pa.string(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("reward", pa.float64(), nullable=False),
        pa.field("correct", pa.bool_()),
        pa.field("verdict", pa.string()),
    ]
)

PAIR = pa.schema(
    [
        pa.field("prompt", MESSAGES, nullable=False),
        pa.field("chosen", MESSAGES, nullable=False),
        pa.field("rejected", MESSAGES, nullable=False),
        *_PROVENANCE,
        pa.field("chosen_id", pa.string(), nullable=False),
        pa.field("rejected_id", pa.string(), nullable=False),
        pa.field("chosen_seed", pa.int64(), nullable=False),
        pa.field("rejected_seed", pa.int64(), nullable=False),
        pa.field("chosen_reward", pa.float64(), nullable=False),
        pa.field("rejected_reward", pa.float64(), nullable=False),
        pa.field("chosen_correct", pa.bool_()),
        pa.field("rejected_correct", pa.bool_()),
        pa.field("chosen_verdict", pa.string()),
        pa.field("rejected_verdict", pa.string()),
        pa.field("margin", pa.float64(), nullable=False),
    ]
)

CANDIDATE_PAIR = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("sft_share", pa.bool_(), nullable=False),  # only SFT may use the prompt
        pa.field("chosen_reward", pa.float64(), nullable=False),
        pa.field("margin", pa.float64(), nullable=False),
    ]
)

OUTCOME = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("source", pa.string()),  # of the row that was selected
    ]
)

ANSWER = pa.schema(
    [
        pa.field("answer_id", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),  # target, sft, dpo, or another that is evaluated
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("template_seen", pa.bool_()),
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),
        pa.field("completion_tokens", pa.int32(), nullable=False),
        pa.field("correct", pa.bool_()),
        pa.field("verdict", pa.string(), nullable=False),
        pa.field("rating", pa.float64()),
    ]
)

ITEM = pa.schema(
    [
        pa.field("suite", pa.string(), nullable=False),
        pa.field("model", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("score", pa.float64()),  # in [0, 1]: the share that is right, or the preference; null where none
        pa.field("why", pa.string(), nullable=False),  # the first answer's verdict, or the judge's for both orders
        pa.field("prompt", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # the first answer
        pa.field("answers", pa.int32(), nullable=False),
        pa.field("rejected", pa.int32(), nullable=False),  # answers that there are not, for a reason
        pa.field("truncated", pa.int32(), nullable=False),
        pa.field("completion_tokens", pa.float64(), nullable=False),  # mean of the answers
        pa.field("chars", pa.float64(), nullable=False),
        pa.field("style", pa.list_(pa.int32()), nullable=False),  # winrates.STYLE of the first answer
        pa.field("contaminated", pa.bool_(), nullable=False),
    ]
)
"""An item of a suite and a model; of a judged suite also the baseline's, whose preference is 0.5."""

OVERLAP = pa.schema(
    [
        pa.field("suite", pa.string(), nullable=False),
        pa.field("id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("place", pa.string(), nullable=False),  # file:line of the suite's row
        pa.field("training", pa.string(), nullable=False),  # file:line of the training prompt that holds most of it
        pa.field("num", pa.int32(), nullable=False),  # n-grams that it holds
        pa.field("of", pa.int32(), nullable=False),
    ]
)
"""A contaminated row of a suite."""


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
