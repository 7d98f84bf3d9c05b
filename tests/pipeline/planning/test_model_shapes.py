"""Sizes of models that are not on this machine: those that the makers publish, else those of the name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fusechat.pipeline.planning.memory import shape
from fusechat.pipeline.planning.model_shapes import model_shape, origin, parameters_of, shape_or_guess
from fusechat.pipeline.planning.published_shapes import PUBLISHED
from fusechat.pipeline.recipe import Model
from fusechat.pipeline.recipe.load import find, load, packaged_recipes
from fusechat.pipeline.recipe.paths import models

if TYPE_CHECKING:
    from transformers import PretrainedConfig

HEADS = {
    "google/gemma-2-27b-it": (32, 16, 128),
    "google/gemma-2-9b-it": (16, 8, 256),
    "mistralai/Mistral-Large-Instruct-2407": (96, 8, 128),
    "Qwen/Qwen2.5-72B-Instruct": (64, 8, 128),
    "Qwen/Qwen2.5-Math-72B-Instruct": (64, 8, 128),
    "Qwen/Qwen2.5-7B-Instruct": (28, 4, 128),
    "meta-llama/Llama-3.1-70B-Instruct": (64, 8, 128),
    "meta-llama/Llama-3.1-8B-Instruct": (32, 8, 128),
    "meta-llama/Llama-3.2-3B-Instruct": (24, 8, 128),
    "meta-llama/Llama-3.2-1B-Instruct": (32, 8, 64),
}
"""Hub id -> attention heads, key-value heads and head dimension of its config.json."""
TIED = {
    "google/gemma-2-27b-it",
    "google/gemma-2-9b-it",
    "meta-llama/Llama-3.2-3B-Instruct",
    "meta-llama/Llama-3.2-1B-Instruct",
}
"""Models whose head is their embedding."""


def config(hub: str) -> PretrainedConfig:
    """The transformers configuration that the published shape stands for."""
    from transformers import Gemma2Config, LlamaConfig, MistralConfig, Qwen2Config

    kinds = {"google": Gemma2Config, "mistralai": MistralConfig, "Qwen": Qwen2Config, "meta-llama": LlamaConfig}
    known = PUBLISHED[hub]
    heads, kv_heads, width = HEADS[hub]
    return kinds[hub.split("/")[0]](
        num_hidden_layers=known.layers,
        hidden_size=known.hidden,
        intermediate_size=known.intermediate,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=width,
        vocab_size=known.vocabulary,
        tie_word_embeddings=hub in TIED,
    )


@pytest.mark.parametrize("hub", HEADS)
def test_a_published_shape_has_the_parameters_of_the_real_architecture(hub: str) -> None:
    assert shape(config(hub)) == PUBLISHED[hub]


def test_armorm_is_a_llama_without_head_and_with_the_layers_of_its_gate() -> None:
    eight = PUBLISHED["meta-llama/Llama-3.1-8B-Instruct"]
    gate = (4096 + 1) * 1024 + 2 * (1024 + 1) * 1024 + (1024 + 1) * 19 + 1
    body = eight.parameters - eight.vocabulary * eight.hidden
    assert PUBLISHED["RLHFlow/ArmoRM-Llama3-8B-v0.1"].parameters == body + 19 * 4096 + 19 * 19 + gate


def test_the_size_of_every_model_of_the_papers_recipes_is_published() -> None:
    for path in packaged_recipes().glob("fusechat3-*.yaml"):
        unknown = {m.hub for _, m in models(load(find(path.stem))) if m.hub not in PUBLISHED}
        assert not unknown, path.name


def test_another_hub_model_has_the_size_of_its_name(tmp_path: Path) -> None:
    known = Model(hub="meta-llama/Llama-3.2-1B-Instruct", revision="main")
    other = Model(hub="owner/Other-3B", revision="main")
    assert (model_shape(known, tmp_path).parameters, model_shape(known, tmp_path).exact) == (1_235_814_400, True)
    assert (model_shape(other, tmp_path).parameters, model_shape(other, tmp_path).exact) == (3e9, False)
    assert parameters_of(other, "a") == 3e9
    assert origin([known]) == "as published"
    assert origin([known, other]) == "1 as published, the others by config.json where it is here, else by name"


def test_a_models_config_in_the_hubs_cache_tells_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "1" * 40
    folder = tmp_path / "models--owner--Cached-70B" / "snapshots" / commit
    folder.mkdir(parents=True)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 100, **sizes}))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = model_shape(Model(hub="owner/Cached-70B", revision=commit), tmp_path)
    assert (found.layers, found.exact) == (2, True)
    assert model_shape(Model(hub="owner/Cached-70B", revision="2" * 40), tmp_path).parameters == 70e9


def test_a_source_whose_config_cannot_be_read_has_the_size_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "a-3b").mkdir()
    (tmp_path / "a-3b" / "config.json").write_text("{}")
    assert shape_or_guess(Model(path="a-3b"), "a", tmp_path).parameters == 3e9
    assert shape_or_guess(Model(path="gone-7b"), "a", tmp_path).parameters == 7e9
