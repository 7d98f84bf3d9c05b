"""Reward models that transformers loads as sequence classifiers with one label, e.g. Skywork-Reward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fusechat.pipeline.errors import InputError, one_line
from fusechat.pipeline.records import Message

from .reward_inputs import (
    Conversation,
    RewardInput,
    RewardScore,
    finite_score,
    pad,
    read_json,
    special_tokens,
    token_ids,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOLERANCE = 1e-3
"""Largest difference between two scores of one conversation when a model is checked, relative to their size."""


class Classifier:
    """A loaded sequence classifier, made by `load`."""

    def __init__(self, network: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
        self._network, self._tokenizer, self.max_length = network, tokenizer, max_length
        self._special = special_tokens(tokenizer)

    @property
    def half_precision(self) -> bool:
        """Whether the weights have 16 bits."""
        return bool(self._network.dtype.itemsize == 2)

    def encode(self, conversation: Conversation) -> RewardInput | RewardScore:
        """Returns the token ids under the model's own chat template, or a rejected score."""
        ids = token_ids(self._tokenizer, conversation, self._special)
        if isinstance(ids, str):
            return RewardScore(reject=ids)
        if not conversation[-1]["content"].strip():
            return RewardScore(reject="empty_response: the response holds no text", tokens=len(ids))
        if len(ids) > self.max_length:
            reject = f"too_long: {len(ids)} tokens, the reward model takes {self.max_length}"
            return RewardScore(reject=reject, tokens=len(ids))
        return RewardInput(ids)

    def rate(self, rows: Sequence[RewardInput]) -> list[RewardScore]:
        """Returns one score per row, from one forward pass over rows padded to the longest."""
        import torch

        network = self._network
        tokens, mask = (t.to(network.device) for t in pad(rows))
        head = getattr(network, "score", None)
        with torch.inference_mode():
            if head is None:  # an encoder: its head reads the first token
                rewards = network(input_ids=tokens, attention_mask=mask).logits[:, 0].float()
            else:
                # transformers would look for the last token whose id is not the padding id. A turn may end with that
                # id too, so the last token is taken from the row's length.
                hidden = network.base_model(input_ids=tokens, attention_mask=mask, use_cache=False).last_hidden_state
                last = torch.tensor([len(row.ids) - 1 for row in rows], device=network.device)
                rewards = head(hidden[torch.arange(len(rows), device=network.device), last].float())[:, 0]
        return [finite_score(reward, row) for reward, row in zip(rewards.tolist(), rows, strict=True)]


def load(model: Path, *, dtype: str = "bfloat16", device: str = "cpu", max_length: int = 4096) -> Classifier:
    """Loads any AutoModelForSequenceClassification with one label, with its tokenizer and chat template.

    Args:
        dtype: of the backbone, `bfloat16` or `float32`. A decoder's head is float32.
        max_length: longer conversations are rejected. The model's own limit applies as well.

    Raises:
        InputError: a file is missing or broken; the number of labels is not one; a tensor is unknown, missing or has
            the wrong shape; there is no chat template; or padding changes the scores.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    config = model / "config.json"
    read_json(config)
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(model))
        network, loading = AutoModelForSequenceClassification.from_pretrained(
            str(model), dtype=getattr(torch, dtype), use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # a config may name any class, and each of transformers' classes fails differently
        raise InputError(str(model), 0, f"can't be loaded as a sequence classifier: {one_line(error)}") from error
    for kind, what in (
        ("missing_keys", "is missing"),
        ("unexpected_keys", "is unknown"),
        ("mismatched_keys", "has the wrong shape"),
    ):
        if names := sorted(str(name) for name in loading[kind]):
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise InputError(str(model), 0, f"the tensor {names[0]} {what}{more}")
    if network.config.num_labels != 1:
        raise InputError(
            str(config), 0, f"a reward model must have one label, this one has {network.config.num_labels}"
        )
    if not tokenizer.chat_template:
        raise InputError(str(model), 0, "the tokenizer has no chat template; scores under another one would be wrong")
    if hasattr(network, "score"):
        network.score.float()
    limit = min(max_length, int(getattr(network.config, "max_position_embeddings", max_length)))
    classifier = Classifier(network.to(device).eval(), tokenizer, limit)
    _check_padding(classifier, model)
    return classifier


def _check_padding(classifier: Classifier, model: Path) -> None:
    """Checks that a conversation has the same score alone and padded next to a longer one.

    Raises:
        InputError: the scores differ, or a plain conversation can't be scored.
    """
    rows = []
    for response in ("Yes.", "Yes. " * 8):
        messages = [Message(role="user", content="Is it?"), Message(role="assistant", content=response)]
        encoded = classifier.encode(messages)
        if isinstance(encoded, RewardScore):
            raise InputError(str(model), 0, f"it can't rate a plain conversation: {encoded.reject}")
        rows.append(encoded)
    (alone,), (padded, _) = classifier.rate(rows[:1]), classifier.rate(rows)
    if alone.reward is None or padded.reward is None:
        raise InputError(str(model), 0, f"it can't rate a plain conversation: {alone.reject or padded.reject}")
    tolerance = TOLERANCE * (32 if classifier.half_precision else 1) * max(1.0, abs(alone.reward))
    if abs(alone.reward - padded.reward) > tolerance:
        raise InputError(
            str(model), 0, f"padding changes its scores: {alone.reward:.4g} alone, {padded.reward:.4g} padded"
        )
