"""Packing: a micro-batch's rows stand one after the other in one sequence, and each attends only to itself.

The global batch keeps its rows, so packed and unpacked training are the same mathematics; only padding is gone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fusechat.pipeline.errors import RecipeError

from . import data

ATTENTION = "fusechat_packed"
"""Name under which `attend` is known to transformers."""


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One sequence (1, tokens) of SFT_TOKENS rows; positions start anew at each row.

    A row starts with its prompt, which is outside the loss, so no row's last token predicts the next row's first.
    """
    import torch

    lengths = [len(row["input_ids"]) for row in rows]
    return {
        "input_ids": torch.tensor([[i for row in rows for i in row["input_ids"]]]),
        "labels": torch.tensor([[i for row in rows for i in row["labels"]]]),
        "position_ids": torch.cat([torch.arange(n) for n in lengths])[None],
        "row_lengths": lengths,  # plain numbers: asking the GPU for them would wait for it in every layer
    }


class BalancedBatches(data.GlobalBatches):
    """The global batches of GlobalBatches, each dealt so that its micro-batches hold about as many tokens.

    Without padding the rows of a micro-batch need not be alike; of like total, they keep the peak of memory low and
    the workers in step.
    """

    def __init__(self, lengths: Any, global_batch_size: int, seed: int, epoch: Any, micro: int) -> None:
        super().__init__(lengths, global_batch_size, seed, epoch)
        self.micro = micro

    def arranged(self, batch: Sequence[int]) -> list[int]:
        """One global batch, dealt."""
        return deal(batch, self.lengths, self.micro)


def deal(rows: Sequence[int], lengths: Sequence[int], micro: int) -> list[int]:
    """The rows in groups of `micro` (the last may be smaller) of about equal length in total.

    The longest rows are dealt first, each to the group with the fewest tokens among those that have room.
    """
    full, rest = divmod(len(rows), micro)
    room = [micro] * full + [rest] * bool(rest)
    groups: list[list[int]] = [[] for _ in room]
    totals = [0] * len(room)
    for row in sorted(rows, key=lambda i: (-lengths[i], i)):
        open_groups = [g for g in range(len(room)) if len(groups[g]) < room[g]]
        least = min(open_groups, key=lambda g: (totals[g], g))
        groups[least].append(row)
        totals[least] += lengths[row]
    return [row for group in groups for row in group]


def install(net: Any) -> None:
    """Makes the model attend inside each row.

    Plain attention goes row by row through torch's kernel, so that no time is spent between rows. Where attention has
    a window or a soft cap, transformers' own block-diagonal mask (made from the positions) does it.

    Raises:
        RecipeError: the model has layers that carry a state from token to token, past a row's end.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    config = net.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if other := kinds - {"full_attention", "sliding_attention"}:
        raise RecipeError("sft.packing", True, f"the target has layers of kind {sorted(other)[0]}; set it to false")
    windowed = "sliding_attention" in kinds or getattr(config, "sliding_window", None) is not None
    if windowed or getattr(config, "attn_logit_softcapping", None) is not None:
        return
    AttentionInterface.register(ATTENTION, attend)
    AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)
    net.set_attn_implementation(ATTENTION)


def attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    dropout: float = 0.0,
    scaling: float | None = None,
    row_lengths: Sequence[int] = (),
    **_: Any,
) -> tuple[Any, None]:
    """Causal attention inside each row; query (1, heads, tokens, width) -> (1, tokens, heads, width)."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    grouped = key.shape[1] != query.shape[1]
    rows = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped)
        for q, k, v in zip(*(x.split(list(row_lengths), dim=2) for x in (query, key, value)), strict=True)
    ]
    return torch.cat(rows, dim=2).transpose(1, 2), None
