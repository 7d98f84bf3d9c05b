"""The language-model head on CPU: log-probabilities of the response's tokens, and of no others.

Where there is no Triton, TRL's head projects every position, prompt and padding too, and computes the
gradients in float32. This one projects only the labelled positions and keeps the gradient's factor from
the forward pass. Same outputs, same mathematics.
"""

from __future__ import annotations

from typing import Any

from . import sharding

TOKENS = 256
"""Tokens projected at a time: 256 x 49,152 float32 logits are 48 MiB."""


def fits(config: Any) -> bool:
    """Whether the model's logits are the plain projection (no soft cap, no scale)."""
    scales = (
        "final_logit_softcapping",
        "logit_scale",
        "output_multiplier",
        "lm_head_multiplier",
        "logits_scaling",
    )
    return all(getattr(config, name, None) is None for name in scales)


def install(model: Any) -> None:
    """Puts the head behind `model(..., labels=..., fused_lm_head=True)`, where TRL's trainers ask for it."""
    import torch
    from trl.trainer.utils import FusedCausalLMOutput

    head = _function()
    other = model.forward

    def forward(*args: Any, fused_lm_head: bool = False, labels: Any = None, **kwargs: Any) -> Any:
        if not fused_lm_head:
            return other(*args, **kwargs) if labels is None else other(*args, labels=labels, **kwargs)
        kwargs["use_cache"] = False
        hidden = model.base_model(*args, **kwargs).last_hidden_state[:, :-1]
        labels = labels[:, 1:]
        mask = labels != -100
        lm_head = model.get_output_embeddings()
        weight, bias = sharding.whole(lm_head.weight), sharding.whole(lm_head.bias)
        found = head.apply(hidden[mask], weight, bias, labels[mask])
        spread = [x.new_zeros(mask.shape).masked_scatter(mask, x) for x in found]
        log_probs, entropy, mean_logits, is_top1 = spread
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


def _function() -> Any:
    import torch

    class ResponseLogProbs(torch.autograd.Function):
        """hidden (n, h), weight (v, h), bias (v) or none, targets (n) -> four vectors (n), see `install`."""

        @staticmethod
        def forward(ctx: Any, hidden: Any, weight: Any, bias: Any, targets: Any) -> Any:
            device = hidden.device.type
            dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
            hidden_low, weight_low = hidden.to(dtype), weight.to(dtype)
            count, vocabulary = hidden.shape[0], weight.shape[0]
            keep = any(ctx.needs_input_grad)
            # d log p(target) / d logits = onehot(target) - p, rounded once
            factor = torch.empty((count, vocabulary) if keep else (0, 0), dtype=dtype)
            log_probs, entropy, mean_logits = (torch.empty(count, dtype=torch.float32) for _ in range(3))
            is_top1 = torch.empty(count, dtype=torch.bool)
            for start in range(0, count, TOKENS):
                part = slice(start, min(start + TOKENS, count))
                logits = (hidden_low[part] @ weight_low.t()).float()
                if bias is not None:
                    logits += bias.float()
                target = targets[part].unsqueeze(-1)
                top = logits.amax(-1, keepdim=True)
                logits -= top
                at_target = logits.gather(-1, target)
                mean_logits[part] = logits.mean(-1) + top.squeeze(-1)
                probs = logits.exp()
                total = probs.sum(-1, keepdim=True)
                # H = log sum - sum(p * logit); the dot product needs no buffer of its own
                mean = torch.linalg.vecdot(probs, logits).unsqueeze(-1) / total
                entropy[part] = (total.log() - mean).squeeze(-1)
                log_probs[part] = (at_target - total.log()).squeeze(-1)
                is_top1[part] = (at_target >= 0).squeeze(-1)
                if keep:
                    probs.mul_(-1 / total)
                    probs.scatter_add_(-1, target, torch.ones_like(at_target))
                    factor[part] = probs
            ctx.save_for_backward(hidden_low, weight_low, factor)
            ctx.dtypes = hidden.dtype, weight.dtype, None if bias is None else bias.dtype
            ctx.mark_non_differentiable(entropy, mean_logits, is_top1)
            return log_probs, entropy, mean_logits, is_top1

        @staticmethod
        def backward(ctx: Any, grad: Any, *_: Any) -> Any:
            hidden, weight, factor = ctx.saved_tensors
            to_hidden, to_weight, to_bias = ctx.dtypes
            logits = factor.mul_(grad.unsqueeze(-1).to(factor.dtype))
            bias = None if to_bias is None else logits.float().sum(0).to(to_bias)
            trained = ctx.needs_input_grad[1]  # LoRA leaves the head as it is
            to_head = (logits.t() @ hidden).to(to_weight) if trained else None
            return (logits @ weight).to(to_hidden), to_head, bias, None

    return ResponseLogProbs
