"""What reward models with weights of their own share: a conversation as token ids, its score, padded batches."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from fusechat.pipeline.errors import InputError
from fusechat.pipeline.sampling.messages import ScoreItem

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

Conversation = Sequence[Mapping[str, str]]

MAX_BATCH_TOKENS = 16384
MAX_PADDING = 0.1
"""Share of a batch's tokens that may be padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The rating of one conversation; without a rating `reject` says why."""

    reward: float | None = None
    objectives: tuple[float, ...] = ()
    """ArmoRM's r, in the order of OBJECTIVES."""
    gate: tuple[float, ...] = ()
    """ArmoRM's g, in the same order."""
    tokens: int = 0
    reject: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A conversation fit to be rated."""

    ids: list[int]
    gate_at: int = 0
    """Where ArmoRM's gate looks."""


class RewardNetwork(Protocol):
    """A loaded reward model."""

    def encode(self, conversation: Conversation) -> Row | Score:
        """Token ids under the model's own template, or the reject."""
        ...

    def rate(self, rows: Sequence[Row]) -> list[Score]:
        """One score a row: one forward pass, padded to the longest row."""
        ...


def score_all(
    model: RewardNetwork, conversations: Sequence[Conversation], max_batch_tokens: int = MAX_BATCH_TOKENS
) -> list[Score]:
    """Rates conversations that end with the assistant's response; one score each, in the order given."""
    scores: dict[int, Score] = {}
    rows: list[tuple[int, Row]] = []
    for i, conversation in enumerate(conversations):
        encoded = model.encode(conversation)
        if isinstance(encoded, Score):
            scores[i] = encoded
        else:
            rows.append((i, encoded))
    for batch in batches(rows, [len(row.ids) for _, row in rows], max_batch_tokens):
        scores.update(zip((i for i, _ in batch), model.rate([row for _, row in batch]), strict=True))
    return [scores[i] for i in range(len(conversations))]


def batches(items: Sequence[T], lengths: Sequence[int], max_tokens: int) -> Iterator[list[T]]:
    """Items, shortest first, in batches bounded by tokens and by padding.

    Args:
        lengths: tokens of each item.
        max_tokens: of a batch, padding included; one item may hold more and is then alone.
    """
    batch: list[T] = []
    held = 0
    for i in sorted(range(len(items)), key=lambda i: lengths[i]):
        longest = lengths[i]
        area = (len(batch) + 1) * longest
        if batch and (area > max_tokens or area - held - longest > MAX_PADDING * area):
            yield batch
            batch, held = [], 0
        batch.append(items[i])
        held += longest
    if batch:
        yield batch


def pad(rows: Sequence[Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens and mask, (rows, longest), padded on the right: no causal token sees it, positions stay."""
    import torch

    longest = max(len(row.ids) for row in rows)
    tokens = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        tokens[i, : len(row.ids)] = torch.tensor(row.ids)
        mask[i, : len(row.ids)] = 1
    return tokens, mask


def rated(reward: float, row: Row, objectives: Sequence[float] = (), gate: Sequence[float] = ()) -> Score:
    """A score; one that is no number is a reject."""
    tokens = len(row.ids)
    if bad := next((x for x in (reward, *objectives, *gate) if not math.isfinite(x)), None):
        return Score(tokens=tokens, reject=f"not_finite: {bad}")
    return Score(reward=reward, objectives=tuple(objectives), gate=tuple(gate), tokens=tokens)


def conversation(item: ScoreItem) -> list[dict[str, str]]:
    """The messages with the response as the assistant's last."""
    said = [{"role": m["role"], "content": m["content"]} for m in item["messages"]]
    return [*said, {"role": "assistant", "content": item["response"]}]


def special_tokens(tokenizer: Any) -> list[str]:
    """Tokens that a template may write and a message may not: those with a role, and all that were added as special."""
    added = [str(t.content) for t in tokenizer.added_tokens_decoder.values() if t.special]
    return [t for t in dict.fromkeys([*tokenizer.all_special_tokens, *added]) if t]


def token_ids(tokenizer: Any, conversation: Conversation, special: Sequence[str]) -> list[int] | str:
    """Token ids under the tokenizer's own chat template, without a generation prompt; or why there are none.

    Args:
        special: tokens that no message may spell out: they would end its turn, or move what the model looks at.
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
    """A JSON object.

    Raises:
        InputError: there is none.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(str(path), 0, f"can't be read: {error}") from error
    if not isinstance(value, dict):
        raise InputError(str(path), 0, "is not a JSON object")
    return value
