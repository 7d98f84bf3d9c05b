"""Tiny reward models with random weights in the layouts of the published ones, for tests and benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForSequenceClassification, LlamaModel, PreTrainedTokenizerFast

from fusechat.services.armorm import END

HIDDEN, NUM, WIDTH, TEMPERATURE, POSITIONS = 32, 19, 24, 10.0, 128
WORDS = ["alpha", "beta", "gamma", "delta", "one", "two", "three", "yes", "no", "system", "user", "assistant"]
SPECIAL = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", END]
TEMPLATE = (
    "{% for m in messages %}{{ bos_token if loop.first else '' }}"
    "{% if m['role'] == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}"
    "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def write_tokenizer(folder: Path, template: str | None = TEMPLATE, special: list[str] = SPECIAL) -> None:
    """A token a word and blank, under a chat template of Llama 3's form."""
    vocabulary = {t: i for i, t in enumerate(["<unk>", "\n\n", "\n", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n\n|\n| +"), "isolated")
    tokenizer.add_special_tokens(special)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=SPECIAL[0], unk_token="<unk>")
    fast.chat_template = template
    fast.save_pretrained(str(folder))


def config(**changes: Any) -> LlamaConfig:
    """Of a backbone, with changes to its sizes."""
    sizes: dict[str, Any] = {
        "vocab_size": 64,
        "hidden_size": HIDDEN,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": POSITIONS,
        "rope_theta": 500000.0,
    }
    return LlamaConfig(**{**sizes, **changes})


def write_armorm(path: Path) -> None:
    """A random ArmoRM, as its authors lay it out."""
    torch.manual_seed(0)
    backbone = LlamaModel(config())
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    tensors = {f"model.{name}": tensor.clone() for name, tensor in backbone.state_dict().items()}
    tensors["regression_layer.weight"] = torch.randn(NUM, HIDDEN) / 40  # rewards of the size of the published model's
    tensors["reward_transform_matrix"] = torch.eye(NUM) + torch.randn(NUM, NUM) / 10
    sizes = [HIDDEN, WIDTH, WIDTH, WIDTH, NUM]
    for i in range(4):
        # Wide enough that the gate differs from prompt to prompt, and still mixes several objectives.
        tensors[f"gating.layers.{i}.weight"] = torch.randn(sizes[i + 1], sizes[i]) * 2.5 / sizes[i] ** 0.5
        tensors[f"gating.layers.{i}.bias"] = torch.randn(sizes[i + 1])
    tensors["gating.logit_scale"] = torch.tensor([1.3])
    save_file(tensors, str(path / "model.safetensors"))
    raw = config().to_dict() | {"architectures": ["LlamaForRewardModelWithGating"], "num_objectives": NUM}
    raw |= {"gating_temperature": TEMPERATURE, "gating_hidden_dim": WIDTH, "gating_n_hidden": 3}
    (path / "config.json").write_text(json.dumps(raw), "utf-8")
    write_tokenizer(path)


def write_classifier(path: Path, num_labels: int = 1, **sizes: Any) -> None:
    """A random sequence classifier, as transformers saves it."""
    torch.manual_seed(0)
    network = LlamaForSequenceClassification(config(num_labels=num_labels, pad_token_id=2, **sizes))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter) / max(1, parameter.shape[-1] / HIDDEN) ** 0.5)
        network.score.weight.div_(5)  # rewards below 1
    network.save_pretrained(str(path))
    write_tokenizer(path)
