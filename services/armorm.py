"""ArmoRM (arXiv 2406.12845), implemented from its published layout: 19 objectives and a gate that reads the prompt.

With h the backbone's hidden states: r = W h(last token) are the K objectives. The gate reads the token where the last
assistant header begins: g = softmax(MLP(h(that token)) / temperature) * logit_scale. score = sum_k g_k (r T)_k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fusechat.pipeline.errors import InputError
from fusechat.pipeline.records import OBJECTIVES

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
    from transformers import LlamaConfig, PreTrainedTokenizerBase

END = "<|eot_id|>"
HEADER = f"{END}<|start_header_id|>assistant<|end_header_id|>\n\n"
"""What the gate reads: the end of the turn before the response, and the assistant's header."""

TURN_TOKENS = (END, "<|start_header_id|>", "<|end_header_id|>")


class GatingNetwork(nn.Module):
    """The gate's MLP, with the published tensor names.

    Args:
        sizes: of the layers: backbone's hidden size, hidden layers, number of objectives.
    """

    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.logit_scale = nn.Parameter(torch.empty(1))

    def forward(self, hidden: torch.Tensor, temperature: float) -> torch.Tensor:
        """Returns the weights of the objectives, (batch, K), from hidden states, (batch, H)."""
        *layers, last = self.layers
        for layer in layers:
            hidden = layer(hidden).relu()
        weights: torch.Tensor = (last(hidden) / temperature).softmax(dim=-1) * self.logit_scale
        return weights


class ArmoRMNetwork(nn.Module):
    """Backbone, objectives and gate, with the published tensor names."""

    def __init__(self, config: LlamaConfig, gating_sizes: Sequence[int]) -> None:
        from transformers import LlamaModel

        super().__init__()
        num = len(OBJECTIVES)
        self.model = LlamaModel(config)
        self.regression_layer = nn.Linear(config.hidden_size, num, bias=False)
        self.reward_transform_matrix = nn.Parameter(torch.empty(num, num))
        self.gating = GatingNetwork(gating_sizes)


class ArmoRM:
    """A loaded ArmoRM, made by `load`."""

    def __init__(
        self, network: ArmoRMNetwork, tokenizer: PreTrainedTokenizerBase, *, temperature: float, max_length: int
    ) -> None:
        self._network, self._tokenizer, self._temperature = network, tokenizer, temperature
        self.max_length = max_length
        self._header: list[int] = tokenizer(HEADER, add_special_tokens=False)["input_ids"]
        self._special = list(dict.fromkeys([*special_tokens(tokenizer), *TURN_TOKENS]))

    def encode(self, conversation: Conversation) -> RewardInput | RewardScore:
        """Returns the token ids under the model's own chat template and the gate's position, or a rejected score."""
        ids = token_ids(self._tokenizer, conversation, self._special)
        if isinstance(ids, str):
            return RewardScore(reject=ids)
        position = self._gate_position(ids)
        if isinstance(position, str):
            return RewardScore(reject=position, tokens=len(ids))
        return RewardInput(ids, position)

    def _gate_position(self, ids: list[int]) -> int | str:
        """Returns the position where the last assistant header begins, or the reject."""
        num = len(self._header)
        starts = range(len(ids) - num, -1, -1)
        position = next((i for i in starts if ids[i : i + num] == self._header), None)
        if position is None:
            return "pattern_missing: no assistant header after an ended turn"
        if ids[-1] != self._header[0] or len(ids) == position + num:
            return "truncated: the assistant's turn is not ended"
        if len(ids) > self.max_length:
            return f"too_long: {len(ids)} tokens, the reward model takes {self.max_length}"
        return position

    def rate(self, rows: Sequence[RewardInput]) -> list[RewardScore]:
        """Returns one score per row, from one forward pass over rows padded to the longest."""
        network = self._network
        device = network.reward_transform_matrix.device
        tokens, mask = pad(rows)
        row = torch.arange(len(rows), device=device)
        last = torch.tensor([len(r.ids) - 1 for r in rows], device=device)
        gate_at = torch.tensor([r.gate_at for r in rows], device=device)
        with torch.inference_mode():
            output = network.model(input_ids=tokens.to(device), attention_mask=mask.to(device), use_cache=False)
            hidden = output.last_hidden_state
            # The heads compute in float32 whatever the backbone's dtype: score margins of 0.01 matter.
            objectives = network.regression_layer(hidden[row, last].float())
            gate = network.gating(hidden[row, gate_at].float(), self._temperature)
            rewards = (gate * (objectives @ network.reward_transform_matrix)).sum(dim=-1)
        columns = zip(rewards.tolist(), rows, objectives.tolist(), gate.tolist(), strict=True)
        return [finite_score(*column) for column in columns]


def load(model: Path, *, dtype: str = "bfloat16", device: str = "cpu", max_length: int = 4096) -> ArmoRM:
    """Loads a checkpoint in the published layout: config, tokenizer, safetensors (one file, or shards with an index).

    Args:
        dtype: of the backbone, `bfloat16` or `float32`. The heads are float32.
        max_length: longer conversations are rejected. The model's own limit applies as well.

    Raises:
        InputError: a file is missing or broken; a tensor is unknown, missing or has the wrong shape; or the tokenizer
            lacks the chat template or its special tokens.
    """
    raw = read_json(model / "config.json")
    if raw.get("model_type") != "llama":
        raise InputError(str(model / "config.json"), 0, f"ArmoRM has a llama backbone, not {raw.get('model_type')!r}")
    if (num := int(raw.get("num_objectives", len(OBJECTIVES)))) != len(OBJECTIVES):
        raise InputError(str(model / "config.json"), 0, f"ArmoRM has {len(OBJECTIVES)} objectives, not {num}")
    tokenizer = _load_tokenizer(model)
    files = _tensor_files(model)
    with torch.device("meta"):
        network = _build_network(raw)
    _load_weights(network, model, files, getattr(torch, dtype), device)
    limit = min(max_length, int(raw.get("max_position_embeddings", max_length)))
    return ArmoRM(network.eval(), tokenizer, temperature=float(raw.get("gating_temperature", 10.0)), max_length=limit)


def _build_network(raw: Mapping[str, Any]) -> ArmoRMNetwork:
    from transformers import LlamaConfig

    config = LlamaConfig.from_dict(dict(raw))
    width, num_hidden = int(raw.get("gating_hidden_dim", 1024)), int(raw.get("gating_n_hidden", 3))
    return ArmoRMNetwork(config, [config.hidden_size, *[width] * num_hidden, len(OBJECTIVES)])


def _load_weights(
    network: ArmoRMNetwork, model: Path, files: Mapping[str, Path], dtype: torch.dtype, device: str
) -> None:
    """Loads the checkpoint's tensors into the network, one shard at a time."""
    from safetensors import SafetensorError, safe_open
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    shapes = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if unknown := sorted(set(files) - set(shapes)):
        raise InputError(str(files[unknown[0]]), 0, f"unknown tensor {unknown[0]}{_others(unknown)}")
    if missing := sorted(set(shapes) - set(files)):
        raise InputError(str(model), 0, f"the tensor {missing[0]} is missing{_others(missing)}")
    for file in sorted(set(files.values())):
        try:
            with safe_open(file, framework="pt", device=device) as shard:
                tensors = {name: shard.get_tensor(name) for name, path in files.items() if path == file}
        except (SafetensorError, OSError) as error:
            raise InputError(str(file), 0, f"can't be read: {error}") from error
        for name, tensor in tensors.items():
            if tuple(tensor.shape) != shapes[name]:
                problem = f"{name} has the shape {tuple(tensor.shape)}, the config requires {shapes[name]}"
                raise InputError(str(file), 0, problem)
            tensors[name] = tensor.to(dtype if name.startswith("model.") else torch.float32)
        network.load_state_dict(tensors, strict=False, assign=True)
    # Checkpoints don't contain the rotary frequencies, which are computed from the config.
    network.model.rotary_emb = LlamaRotaryEmbedding(config=network.model.config).to(device)


def _tensor_files(model: Path) -> dict[str, Path]:
    """Returns the file of each tensor, by tensor name."""
    from safetensors import SafetensorError, safe_open

    index = model / "model.safetensors.index.json"
    if index.is_file():
        weights = read_json(index).get("weight_map")
        if not isinstance(weights, dict):
            raise InputError(str(index), 0, "has no weight_map")
        files = {str(name): model / str(file) for name, file in weights.items()}
    else:
        file = model / "model.safetensors"
        try:
            with safe_open(file, framework="pt") as shard:
                files = dict.fromkeys(shard.keys(), file)
        except (SafetensorError, OSError) as error:
            raise InputError(str(file), 0, f"can't be read: {error}") from error
    return files


def _load_tokenizer(model: Path) -> PreTrainedTokenizerBase:
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(model))
    except (OSError, ValueError) as error:
        raise InputError(str(model), 0, f"the tokenizer can't be read: {str(error).splitlines()[0]}") from error
    if not tokenizer.chat_template:
        raise InputError(str(model), 0, "the tokenizer has no chat template; scores under another one would be wrong")
    ids: list[int] = tokenizer(HEADER, add_special_tokens=False)["input_ids"]
    named = [tokenizer.convert_tokens_to_ids(t) for t in TURN_TOKENS]
    if None in named or tokenizer.unk_token_id in named or ids[:2] != named[:2] or ids[3:4] != named[2:]:
        raise InputError(str(model), 0, "the tokenizer does not know Llama 3's turn tokens")
    return tokenizer


def _others(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
