"""The language-model head on CPU: computes log-probabilities for the response tokens only.

Without Triton, TRL's head projects every position, including prompt and padding, and computes the gradients in float32.
This one projects only the labeled positions and saves the gradient's factor in the forward pass. The outputs and the
mathematics are the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import sharding

if TYPE_CHECKING:
    from torch import Tensor
    from torch.autograd import Function
    from transformers import PreTrainedConfig, PreTrainedModel
    from trl.trainer.utils import FusedCausalLMOutput

CHUNK_TOKENS = 256
"""Tokens projected at a time: 256 x 49,152 float32 logits are 48 MiB."""


def is_plain_projection(config: PreTrainedConfig) -> bool:
    """Whether the model's logits are a plain projection, without a soft cap or a scale."""
    scales = (
        "final_logit_softcapping",
        "logit_scale",
        "output_multiplier",
        "lm_head_multiplier",
        "logits_scaling",
    )
    return all(getattr(config, name, None) is None for name in scales)


def patch_forward(model: PreTrainedModel) -> None:
    """Makes `model(..., labels=..., fused_lm_head=True)` use this head. TRL's trainers call the model like that."""
    import torch
    from trl.trainer.utils import FusedCausalLMOutput

    log_probs_function = _log_probs_function()
    original_forward = model.forward

    def forward(
        *args: Any, fused_lm_head: bool = False, labels: Tensor | None = None, **kwargs: Any
    ) -> FusedCausalLMOutput:
        if not fused_lm_head:
            if labels is None:
                return original_forward(*args, **kwargs)
            return original_forward(*args, labels=labels, **kwargs)
        assert labels is not None
        kwargs["use_cache"] = False
        hidden = model.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        labels = labels[:, 1:]
        mask = labels != -100
        lm_head = model.get_output_embeddings()
        weight, bias = sharding.full_tensor(lm_head.weight), sharding.full_tensor(lm_head.bias)
        outputs = log_probs_function.apply(hidden[mask], weight, bias, labels[mask])  # type: ignore[no-untyped-call]
        log_probs, entropy, mean_logits, is_top1 = [x.new_zeros(mask.shape).masked_scatter(mask, x) for x in outputs]
        return FusedCausalLMOutput(
            loss=-log_probs.sum() / mask.sum().clamp(min=1),
            log_probs=log_probs,
            entropy=entropy,
            mean_logits=mean_logits,
            is_top1=is_top1,
            label_mask=mask,
        )

    with torch.no_grad():
        model.forward = forward


def _log_probs_function() -> type[Function]:
    import torch

    class ResponseLogProbs(torch.autograd.Function):
        """hidden (n, h), weight (v, h), bias (v) or None, targets (n) -> four vectors (n), see `patch_forward`."""

        @staticmethod
        def forward(
            ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor
        ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            device = hidden.device.type
            dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
            hidden_low, weight_low = hidden.to(dtype), weight.to(dtype)
            count, vocabulary = hidden.shape[0], weight.shape[0]
            keep = any(ctx.needs_input_grad)
            # d log p(target) / d logits = onehot(target) - p, rounded once
            factor = torch.empty((count, vocabulary) if keep else (0, 0), dtype=dtype)
            log_probs, entropy, mean_logits = (torch.empty(count, dtype=torch.float32) for _ in range(3))
            is_top1 = torch.empty(count, dtype=torch.bool)
            for start in range(0, count, CHUNK_TOKENS):
                chunk = slice(start, min(start + CHUNK_TOKENS, count))
                logits = (hidden_low[chunk] @ weight_low.t()).float()
                if bias is not None:
                    logits += bias.float()
                target = targets[chunk].unsqueeze(-1)
                top = logits.amax(-1, keepdim=True)
                logits -= top
                at_target = logits.gather(-1, target)
                mean_logits[chunk] = logits.mean(-1) + top.squeeze(-1)
                probs = logits.exp()
                total = probs.sum(-1, keepdim=True)
                # H = log sum - sum(p * logit); the dot product needs no buffer of its own
                mean = torch.linalg.vecdot(probs, logits).unsqueeze(-1) / total
                entropy[chunk] = (total.log() - mean).squeeze(-1)
                log_probs[chunk] = (at_target - total.log()).squeeze(-1)
                is_top1[chunk] = (at_target >= 0).squeeze(-1)
                if keep:
                    probs.mul_(-1 / total)
                    probs.scatter_add_(-1, target, torch.ones_like(at_target))
                    factor[chunk] = probs
            ctx.save_for_backward(hidden_low, weight_low, factor)
            ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
            ctx.mark_non_differentiable(entropy, mean_logits, is_top1)
            return log_probs, entropy, mean_logits, is_top1

        @staticmethod
        def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
            hidden, weight, factor = ctx.saved_tensors
            hidden_dtype, weight_dtype, bias_dtype = ctx.dtypes
            grad_logits = factor.mul_(grad.unsqueeze(-1).to(factor.dtype))
            grad_bias = None if bias_dtype is None else grad_logits.float().sum(0).to(bias_dtype)
            trains_head = ctx.needs_input_grad[1]  # LoRA does not train the head
            grad_weight = (grad_logits.t() @ hidden).to(weight_dtype) if trains_head else None
            return (grad_logits @ weight).to(hidden_dtype), grad_weight, grad_bias, None

    return ResponseLogProbs
