"""Packing: the rows of a micro-batch are concatenated to one sequence, and each row attends only to itself.

The global batches hold the same rows as without packing, so the gradients are the same; only the padding is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fusechat.pipeline.errors import RecipeError

from .row_order import LengthGroupedSampler

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

ATTENTION_NAME = "fusechat_packed"
"""Name under which `attend_per_row` is registered in transformers."""


def collate(rows: Sequence[Mapping[str, list[int]]]) -> dict[str, Tensor | list[int]]:
    """Concatenates SFT_TOKENS rows to one sequence (1, tokens); positions restart at each row.

    A row starts with its prompt, which is not part of the loss, so no row's last token predicts the next row's first.
    """
    import torch

    lengths = [len(row["input_ids"]) for row in rows]
    return {
        "input_ids": torch.tensor([[i for row in rows for i in row["input_ids"]]]),
        "labels": torch.tensor([[i for row in rows for i in row["labels"]]]),
        "position_ids": torch.cat([torch.arange(n) for n in lengths])[None],
        "row_lengths": lengths,  # Python integers: reading them from the GPU would synchronize with it in every layer
    }


class TokenBalancedSampler(LengthGroupedSampler):
    """The global batches of LengthGroupedSampler, arranged so that their micro-batches have similar token counts.

    Without padding, the rows of a micro-batch need not have similar lengths. Similar totals keep the peak memory low
    and the workers in step.
    """

    def __init__(
        self, lengths: Sequence[int], global_batch_size: int, seed: int, epoch: Callable[[], int], micro: int
    ) -> None:
        super().__init__(lengths, global_batch_size, seed, epoch)
        self.micro = micro

    def arrange(self, batch: Sequence[int]) -> list[int]:
        """The order of one global batch; consecutive rows form its micro-batches."""
        return balanced_order(batch, self.lengths, self.micro)


def balanced_order(rows: Sequence[int], lengths: Sequence[int], micro: int) -> list[int]:
    """Orders the rows so that consecutive groups of `micro` rows have similar token counts. The last may be smaller.

    Greedy: the longest rows are assigned first, each to the group with the fewest tokens that still has room.
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


def install_attention(model: PreTrainedModel) -> None:
    """Restricts the model's attention to within each row.

    Plain attention calls torch's kernel once per row, so no time is spent on pairs of tokens in different rows. For
    attention with a window or a soft cap, transformers' own block-diagonal mask (made from the positions) is used.

    Raises:
        RecipeError: the model has layers that carry state from token to token, beyond the end of a row.
    """
    from transformers import AttentionInterface, AttentionMaskInterface

    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if other := kinds - {"full_attention", "sliding_attention"}:
        raise RecipeError("sft.packing", True, f"the target has layers of kind {sorted(other)[0]}; set it to false")
    windowed = "sliding_attention" in kinds or getattr(config, "sliding_window", None) is not None
    if windowed or getattr(config, "attn_logit_softcapping", None) is not None:
        return
    AttentionInterface.register(ATTENTION_NAME, attend_per_row)
    AttentionMaskInterface.register(ATTENTION_NAME, lambda *_, **__: None)
    model.set_attn_implementation(ATTENTION_NAME)


def attend_per_row(
    module: Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    row_lengths: Sequence[int] = (),
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each row: query (1, heads, tokens, width) -> (1, tokens, heads, width)."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    grouped = key.shape[1] != query.shape[1]
    rows = [
        scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped)
        for q, k, v in zip(*(torch.split(x, list(row_lengths), dim=2) for x in (query, key, value)), strict=True)
    ]
    return torch.cat(rows, dim=2).transpose(1, 2), None
