"""Shared by reward models with their own weights: tokenized conversations, scores and padded batches."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from fusechat.pipeline.errors import InputError
from fusechat.pipeline.records import Message
from fusechat.pipeline.sampling.messages import ScoreItem

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")

Conversation = Sequence[Message]

MAX_BATCH_TOKENS = 16384
MAX_PADDING = 0.1
"""Largest fraction of a batch's tokens that may be padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardScore:
    """The reward of one conversation. If there is none, `reject` says why."""

    reward: float | None = None
    objectives: tuple[float, ...] = ()
    """ArmoRM's r, in the order of OBJECTIVES."""
    gate: tuple[float, ...] = ()
    """ArmoRM's g, in the same order."""
    tokens: int = 0
    reject: str = ""


@dataclass(frozen=True, slots=True)
class RewardInput:
    """A tokenized conversation."""

    ids: list[int]
    gate_at: int = 0
    """Position of the token that ArmoRM's gate reads."""


class RewardNetwork(Protocol):
    """A loaded reward model."""

    def encode(self, conversation: Conversation) -> RewardInput | RewardScore:
        """Returns the token ids under the model's own chat template, or a rejected score."""
        ...

    def rate(self, rows: Sequence[RewardInput]) -> list[RewardScore]:
        """Returns one score per row, from one forward pass over rows padded to the longest."""
        ...


def score_all(
    model: RewardNetwork, conversations: Sequence[Conversation], max_batch_tokens: int = MAX_BATCH_TOKENS
) -> list[RewardScore]:
    """Scores conversations that end with the assistant's response. Returns one score each, in order."""
    scores: dict[int, RewardScore] = {}
    rows: list[tuple[int, RewardInput]] = []
    for i, conversation in enumerate(conversations):
        encoded = model.encode(conversation)
        if isinstance(encoded, RewardScore):
            scores[i] = encoded
        else:
            rows.append((i, encoded))
    for batch in batches(rows, [len(row.ids) for _, row in rows], max_batch_tokens):
        scores.update(zip((i for i, _ in batch), model.rate([row for _, row in batch]), strict=True))
    return [scores[i] for i in range(len(conversations))]


def batches(items: Sequence[T], lengths: Sequence[int], max_tokens: int) -> Iterator[list[T]]:
    """Yields the items, shortest first, in batches with limited tokens and limited padding (`MAX_PADDING`).

    Args:
        lengths: tokens of each item.
        max_tokens: limit of a batch, padding included. A longer item makes a batch of its own.
    """
    batch: list[T] = []
    num_tokens = 0
    for i in sorted(range(len(items)), key=lambda i: lengths[i]):
        longest = lengths[i]
        padded = (len(batch) + 1) * longest
        if batch and (padded > max_tokens or padded - num_tokens - longest > MAX_PADDING * padded):
            yield batch
            batch, num_tokens = [], 0
        batch.append(items[i])
        num_tokens += longest
    if batch:
        yield batch


def pad(rows: Sequence[RewardInput]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns tokens and attention mask, (rows, longest).

    Padding is on the right: no token attends to it under a causal mask, and positions don't change.
    """
    import torch

    longest = max(len(row.ids) for row in rows)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        tokens[i, : len(row.ids)] = torch.tensor(row.ids)
        mask[i, : len(row.ids)] = 1
    return tokens, mask


def finite_score(
    reward: float, row: RewardInput, objectives: Sequence[float] = (), gate: Sequence[float] = ()
) -> RewardScore:
    """Returns the score, or a reject if one of the numbers is NaN or infinite."""
    tokens = len(row.ids)
    if bad := next((x for x in (reward, *objectives, *gate) if not math.isfinite(x)), None):
        return RewardScore(tokens=tokens, reject=f"not_finite: {bad}")
    return RewardScore(reward=reward, objectives=tuple(objectives), gate=tuple(gate), tokens=tokens)


def conversation(item: ScoreItem) -> list[Message]:
    """Returns the item's messages, followed by its response as the assistant's message."""
    messages = [Message(role=m["role"], content=m["content"]) for m in item["messages"]]
    return [*messages, Message(role="assistant", content=item["response"])]


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Returns the tokens that a template may write and a message may not.

    These are the tokens with a role (begin, end, padding, ...) and all that were added as special.
    """
    added = [str(t.content) for t in tokenizer.added_tokens_decoder.values() if t.special]
    return [t for t in dict.fromkeys([*tokenizer.all_special_tokens, *added]) if t]


def token_ids(
    tokenizer: PreTrainedTokenizerBase, conversation: Conversation, special: Sequence[str]
) -> list[int] | str:
    """Returns the token ids under the tokenizer's own chat template without a generation prompt, or a reject.

    Args:
        special: tokens that no message may contain. They would end its turn, or move the position that the model
            reads.
    """
    import jinja2

    if not conversation or conversation[-1]["role"] != "assistant":
        return "no_response: the last message is not the assistant's"
    for message in conversation:
        if token := next((t for t in special if t in message["content"]), None):
            return f"special_token: a message holds {token!r}"
    try:
        text: str = tokenizer.apply_chat_template([dict(m) for m in conversation], tokenize=False)
        text.encode()
    except jinja2.TemplateError as error:
        return f"template: {error}"
    except UnicodeEncodeError:
        return "not_unicode: a message holds a lone surrogate"
    for message in conversation[-2:]:
        if message["content"].strip() not in text:
            return f"template: it leaves out what the {message['role']} says"
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object.

    Raises:
        InputError: the file can't be read or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(str(path), 0, f"can't be read: {error}") from error
    if not isinstance(value, dict):
        raise InputError(str(path), 0, "is not a JSON object")
    return value
