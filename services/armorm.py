"""ArmoRM (arXiv 2406.12845), written anew from its published layout: 19 objectives and a gate that reads the prompt.

With h the backbone's hidden states: r = W h(last token) holds K objectives; the gate looks at the token where the last
assistant header begins, g = softmax(MLP(h(there)) / temperature) * logit_scale; score = sum_k g_k (r T)_k.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fusechat.pipeline.errors import InputError
from fusechat.pipeline.records import OBJECTIVES

from .reward_inputs import Conversation, Row, Score, pad, rated, read_json, special_tokens, token_ids

if TYPE_CHECKING:
    import torch

END = "<|eot_id|>"
HEADER = f"{END}<|start_header_id|>assistant<|end_header_id|>\n\n"
"""Where the gate looks: the end of the turn before the response, and the assistant's header."""

TURN_TOKENS = (END, "<|start_header_id|>", "<|end_header_id|>")


class ArmoRM:
    """A loaded ArmoRM; `load` makes it."""

    def __init__(self, network: torch.nn.Module, tokenizer: Any, *, temperature: float, max_length: int) -> None:
        self._network, self._tokenizer, self._temperature = network, tokenizer, temperature
        self.max_length = max_length
        self._header: list[int] = tokenizer(HEADER, add_special_tokens=False)["input_ids"]
        self._special = list(dict.fromkeys([*special_tokens(tokenizer), *TURN_TOKENS]))

    def encode(self, conversation: Conversation) -> Row | Score:
        """Token ids under the model's own chat template and where the gate looks; or the reject."""
        ids = token_ids(self._tokenizer, conversation, self._special)
        if isinstance(ids, str):
            return Score(reject=ids)
        position = self._gate_position(ids)
        if isinstance(position, str):
            return Score(reject=position, tokens=len(ids))
        return Row(ids, position)

    def _gate_position(self, ids: list[int]) -> int | str:
        """Where the last assistant header begins; or why the conversation can't be rated."""
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

    def rate(self, rows: Sequence[Row]) -> list[Score]:
        """One score a row: one forward pass, padded to the longest row."""
        import torch

        network: Any = self._network
        device = network.reward_transform_matrix.device
        tokens, mask = pad(rows)
        row = torch.arange(len(rows), device=device)
        last = torch.tensor([len(r.ids) - 1 for r in rows], device=device)
        gate_at = torch.tensor([r.gate_at for r in rows], device=device)
        with torch.inference_mode():
            output = network.model(input_ids=tokens.to(device), attention_mask=mask.to(device), use_cache=False)
            hidden = output.last_hidden_state
            # The heads compute in float32 whatever the backbone does: margins of 0.01 decide.
            objectives = network.regression_layer(hidden[row, last].float())
            gate = _gate(network.gating, hidden[row, gate_at].float(), self._temperature)
            rewards = (gate * (objectives @ network.reward_transform_matrix)).sum(dim=-1)
        columns = zip(rewards.tolist(), rows, objectives.tolist(), gate.tolist(), strict=True)
        return [rated(*column) for column in columns]


def load(
    model: Path,
    *,
    dtype: Literal["bfloat16", "float32"] = "bfloat16",
    device: str = "cpu",
    max_length: int = 4096,
) -> ArmoRM:
    """Loads a checkpoint in the published layout: config, tokenizer, safetensors (one file, or shards with an index).

    Args:
        dtype: of the backbone; the heads are float32.
        max_length: conversations of more tokens are rejects; the model's own limit holds as well.

    Raises:
        InputError: a file is missing or broken, a tensor is unknown, missing or misshapen, or the tokenizer lacks the
            chat template or its special tokens.
    """
    import torch

    raw = read_json(model / "config.json")
    if raw.get("model_type") != "llama":
        raise InputError(str(model / "config.json"), 0, f"ArmoRM has a llama backbone, not {raw.get('model_type')!r}")
    if (num := int(raw.get("num_objectives", len(OBJECTIVES)))) != len(OBJECTIVES):
        raise InputError(str(model / "config.json"), 0, f"ArmoRM has {len(OBJECTIVES)} objectives, not {num}")
    tokenizer = _tokenizer(model)
    files = _files(model)
    with torch.device("meta"):
        network = _network(raw)
    _fill(network, model, files, getattr(torch, dtype), device)
    limit = min(max_length, int(raw.get("max_position_embeddings", max_length)))
    return ArmoRM(network.eval(), tokenizer, temperature=float(raw.get("gating_temperature", 10.0)), max_length=limit)


def _network(raw: Mapping[str, Any]) -> torch.nn.Module:
    """The modules under the names of the published tensors."""
    from torch import empty, nn
    from transformers import LlamaConfig, LlamaModel

    config = LlamaConfig.from_dict(dict(raw))
    num, width = len(OBJECTIVES), int(raw.get("gating_hidden_dim", 1024))
    sizes = [config.hidden_size, *[width] * int(raw.get("gating_n_hidden", 3)), num]
    network, gating = nn.Module(), nn.Module()
    gating.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
    gating.logit_scale = nn.Parameter(empty(1))
    network.model = LlamaModel(config)
    network.regression_layer = nn.Linear(config.hidden_size, num, bias=False)
    network.reward_transform_matrix = nn.Parameter(empty(num, num))
    network.gating = gating
    return network


def _fill(network: torch.nn.Module, model: Path, files: Mapping[str, Path], dtype: torch.dtype, device: str) -> None:
    """Puts the checkpoint's tensors into the network, a shard at a time."""
    import torch
    from safetensors import SafetensorError, safe_open
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if unknown := sorted(set(files) - set(wanted)):
        raise InputError(str(files[unknown[0]]), 0, f"unknown tensor {unknown[0]}{_others(unknown)}")
    if missing := sorted(set(wanted) - set(files)):
        raise InputError(str(model), 0, f"the tensor {missing[0]} is missing{_others(missing)}")
    for file in sorted(set(files.values())):
        try:
            with safe_open(file, framework="pt", device=device) as shard:
                tensors = {name: shard.get_tensor(name) for name, where in files.items() if where == file}
        except (SafetensorError, OSError) as error:
            raise InputError(str(file), 0, f"can't be read: {error}") from error
        for name, tensor in tensors.items():
            if tuple(tensor.shape) != wanted[name]:
                problem = f"{name} has the shape {tuple(tensor.shape)}, the config asks for {wanted[name]}"
                raise InputError(str(file), 0, problem)
            tensors[name] = tensor.to(dtype if name.startswith("model.") else torch.float32)
        network.load_state_dict(tensors, strict=False, assign=True)
    backbone: Any = network.model
    # The one thing that no checkpoint holds: frequencies, computed from the config.
    backbone.rotary_emb = LlamaRotaryEmbedding(config=backbone.config).to(device)


def _files(model: Path) -> dict[str, Path]:
    """Tensor name -> file."""
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


def _tokenizer(model: Path) -> Any:
    from transformers import PreTrainedTokenizerFast

    try:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(str(model))
    except (OSError, ValueError) as error:
        raise InputError(str(model), 0, f"the tokenizer can't be read: {str(error).splitlines()[0]}") from error
    if not tokenizer.chat_template:
        raise InputError(str(model), 0, "the tokenizer brings no chat template; scores under another one are wrong")
    ids: list[int] = tokenizer(HEADER, add_special_tokens=False)["input_ids"]
    named = [tokenizer.convert_tokens_to_ids(t) for t in TURN_TOKENS]
    if None in named or tokenizer.unk_token_id in named or ids[:2] != named[:2] or ids[3:4] != named[2:]:
        raise InputError(str(model), 0, "the tokenizer does not know Llama 3's turn tokens")
    return tokenizer


def _gate(gating: Any, hidden: torch.Tensor, temperature: float) -> torch.Tensor:
    """Weights of the objectives, (batch, K), from hidden states (batch, H)."""
    *layers, last = gating.layers
    for layer in layers:
        hidden = layer(hidden).relu()
    weights: torch.Tensor = (last(hidden) / temperature).softmax(dim=-1) * gating.logit_scale
    return weights


def _others(names: Sequence[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""
