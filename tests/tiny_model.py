"""A model small enough to train or serve in seconds, made on the spot: byte-level BPE, a chat template, a Llama."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start|>' + m.role + '\n' + m.content + '<|end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start|>assistant\n' }}{% endif %}"
)


def make_tokenizer(**changes: Any) -> Any:
    """A byte-level tokenizer of about 300 tokens; `changes` replace or remove (None) special tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    names = {"bos_token": "<|bos|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"} | changes
    named = {name: token for name, token in names.items() if token is not None}
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = list(dict.fromkeys(["<|start|>", "<|end|>", *named.values()]))
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    inner.train_from_iterator(["the answer is twelve", "what is four and eight"], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **named)
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def write_model(folder: Path, tokenizer: Any, **changes: Any) -> None:
    """A random two-layer Llama in float32 with its tokenizer, as a transformers folder.

    Args:
        changes: to its configuration; vLLM takes heads of 32 numbers and more alone.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    LlamaForCausalLM(LlamaConfig(**sizes | changes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
