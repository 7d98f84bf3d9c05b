"""Reward models that transformers loads as sequence classifiers with one label, e.g. Skywork-Reward."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fusechat.pipeline.errors import InputError, plain

from .reward_inputs import Conversation, Row, Score, pad, rated, read_json, special_tokens, token_ids

if TYPE_CHECKING:
    import torch

ALIKE = 1e-3
"""How far two scores of one conversation may lie apart when a model is tried, relative to their size."""


class Classifier:
    """A loaded classifier; `load` makes it."""

    def __init__(self, network: torch.nn.Module, tokenizer: Any, max_length: int) -> None:
        self._network, self._tokenizer, self.max_length = network, tokenizer, max_length
        self._special = special_tokens(tokenizer)

    def encode(self, conversation: Conversation) -> Row | Score:
        """Token ids under the model's own chat template; or the reject."""
        ids = token_ids(self._tokenizer, conversation, self._special)
        if isinstance(ids, str):
            return Score(reject=ids)
        if not conversation[-1]["content"].strip():
            return Score(reject="empty_response: the response holds no text", tokens=len(ids))
        if len(ids) > self.max_length:
            return Score(
                reject=f"too_long: {len(ids)} tokens, the reward model takes {self.max_length}", tokens=len(ids)
            )
        return Row(ids)

    def rate(self, rows: Sequence[Row]) -> list[Score]:
        """One score a row: one forward pass, padded to the longest row."""
        import torch

        network: Any = self._network
        tokens, mask = (t.to(network.device) for t in pad(rows))
        head = getattr(network, "score", None)
        with torch.inference_mode():
            if head is None:  # an encoder, whose head reads the first token
                rewards = network(input_ids=tokens, attention_mask=mask).logits[:, 0].float()
            else:
                # transformers looks for the last token that is no padding by its id, which a turn may also end with.
                hidden = network.base_model(input_ids=tokens, attention_mask=mask, use_cache=False).last_hidden_state
                last = torch.tensor([len(row.ids) - 1 for row in rows], device=network.device)
                rewards = head(hidden[torch.arange(len(rows), device=network.device), last].float())[:, 0]
        return [rated(reward, row) for reward, row in zip(rewards.tolist(), rows, strict=True)]


def load(
    model: Path,
    *,
    dtype: Literal["bfloat16", "float32"] = "bfloat16",
    device: str = "cpu",
    max_length: int = 4096,
) -> Classifier:
    """Loads any AutoModelForSequenceClassification with one label, with its tokenizer and chat template.

    Args:
        dtype: of the backbone; a decoder's head is float32.
        max_length: conversations of more tokens are rejects; the model's own limit holds as well.

    Raises:
        InputError: a file is missing or broken, the model has other than one label, a tensor is unknown, missing or
            misshapen, there is no chat template, or padding changes its scores.
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
    except Exception as error:  # a config may name anything, and each part of transformers fails in its own way
        raise InputError(str(model), 0, f"can't be loaded as a sequence classifier: {plain(error)}") from error
    for kind, what in (
        ("missing_keys", "is missing"),
        ("unexpected_keys", "is unknown"),
        ("mismatched_keys", "is misshapen"),
    ):
        if names := sorted(str(name) for name in loading[kind]):
            more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
            raise InputError(str(model), 0, f"the tensor {names[0]} {what}{more}")
    if network.config.num_labels != 1:
        raise InputError(str(config), 0, f"a reward model has one label, this one {network.config.num_labels}")
    if not tokenizer.chat_template:
        raise InputError(str(model), 0, "the tokenizer brings no chat template; scores under another one are wrong")
    if hasattr(network, "score"):
        network.score.float()
    limit = min(max_length, int(getattr(network.config, "max_position_embeddings", max_length)))
    loaded = Classifier(network.to(device).eval(), tokenizer, limit)
    _try(loaded, model)
    return loaded


def _try(classifier: Classifier, model: Path) -> None:
    """A conversation alone and beside a longer one: the two must score alike.

    Raises:
        InputError: they don't, or the template can't render the plainest conversation.
    """
    rows = []
    for response in ("Yes.", "Yes. " * 8):
        encoded = classifier.encode([{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": response}])
        if isinstance(encoded, Score):
            raise InputError(str(model), 0, f"it can't rate a plain conversation: {encoded.reject}")
        rows.append(encoded)
    (alone,), (beside, _) = classifier.rate(rows[:1]), classifier.rate(rows)
    if alone.reward is None or beside.reward is None:
        raise InputError(str(model), 0, f"it can't rate a plain conversation: {alone.reject or beside.reject}")
    rough = 32 if classifier._network.dtype.itemsize == 2 else 1
    if abs(alone.reward - beside.reward) > ALIKE * rough * max(1.0, abs(alone.reward)):
        raise InputError(
            str(model), 0, f"padding changes its scores: {alone.reward:.4g} alone, {beside.reward:.4g} padded"
        )
