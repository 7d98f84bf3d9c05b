"""ArmoRM on a tiny random model in the published layout: against a straight line of torch, padded, cut and broken."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_reward import (
    HIDDEN,
    NUM,
    POSITIONS,
    SPECIAL,
    TEMPERATURE,
    TEMPLATE,
    WORDS,
    config,
    write_armorm,
    write_tokenizer,
)
from transformers import LlamaModel, PreTrainedTokenizerFast

from fusechat.pipeline.errors import FusechatError, InputError
from fusechat.pipeline.records import OBJECTIVES
from fusechat.services import armorm
from fusechat.services.armorm import END, HEADER, ArmoRM
from fusechat.services.reward_inputs import RewardInput, score_all


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random ArmoRM, as its authors lay it out."""
    path = tmp_path_factory.mktemp("armorm")
    write_armorm(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> ArmoRM:
    return armorm.load(folder, dtype="float32")


def talk(*turns: str, system: str | None = None) -> list[dict[str, str]]:
    roles = ["user", "assistant"] * len(turns)
    head = [{"role": "system", "content": system}] if system is not None else []
    return head + [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]


def some(num: int, seed: int = 1) -> list[list[dict[str, str]]]:
    """Conversations of many lengths."""
    draw = random.Random(seed)

    def words() -> str:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, 9)))

    return [talk(*(words() for _ in range(draw.choice([2, 4, 6])))) for _ in range(num)]


def reference(folder: Path, conversation: list[dict[str, str]]) -> tuple[float, list[float], list[float], int]:
    """The definition, written once more without batches: reward, objectives, gate, and where the gate looks."""
    tensors = load_file(str(folder / "model.safetensors"))
    backbone = LlamaModel(config()).eval()
    backbone.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
    tokenizer = PreTrainedTokenizerFast.from_pretrained(str(folder))
    ids = tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False)
    header = tokenizer.encode(HEADER, add_special_tokens=False)
    position = max(i for i in range(len(ids)) if ids[i : i + len(header)] == header)
    with torch.no_grad():
        hidden = backbone(torch.tensor([ids])).last_hidden_state[0]
        r = tensors["regression_layer.weight"] @ hidden[-1]
        x = hidden[position]
        for i in range(4):
            x = tensors[f"gating.layers.{i}.weight"] @ x + tensors[f"gating.layers.{i}.bias"]
            x = torch.relu(x) if i < 3 else x
        g = torch.softmax(x / TEMPERATURE, dim=0) * tensors["gating.logit_scale"][0]
        total = sum(float(g[k]) * float((r @ tensors["reward_transform_matrix"])[k]) for k in range(NUM))
    return total, r.tolist(), g.tolist(), position


def test_the_score_is_the_definition(folder: Path, model: ArmoRM) -> None:
    conversations = some(8)
    for conversation, score in zip(conversations, score_all(model, conversations), strict=True):
        reward, objectives, gate, _ = reference(folder, conversation)
        assert score.reject == ""
        assert score.reward == pytest.approx(reward, abs=1e-5)
        assert score.objectives == pytest.approx(objectives, abs=1e-5)
        assert score.gate == pytest.approx(gate, abs=1e-5)
        assert len(score.objectives) == len(score.gate) == len(OBJECTIVES)
    assert len({round(s.reward or 0, 3) for s in score_all(model, conversations)}) > 4, (
        "the random model tells them apart"
    )


@pytest.mark.parametrize("max_batch_tokens", [1, 100, 16384])
def test_a_score_alone_equals_the_score_in_any_padded_batch(model: ArmoRM, max_batch_tokens: int) -> None:
    conversations = some(12, seed=2)
    random.Random(3).shuffle(conversations)
    together = score_all(model, conversations, max_batch_tokens=max_batch_tokens)
    for conversation, score in zip(conversations, together, strict=True):
        (alone,) = score_all(model, [conversation])
        assert score.reward == pytest.approx(alone.reward, abs=1e-5)
        assert score.gate == pytest.approx(alone.gate, abs=1e-5)
        assert score.tokens == alone.tokens


def test_bfloat16_stays_near_float32(folder: Path, model: ArmoRM) -> None:
    rough, conversations = armorm.load(folder, dtype="bfloat16"), some(8)
    for exact, near in zip(score_all(model, conversations), score_all(rough, conversations), strict=True):
        assert near.reward == pytest.approx(exact.reward, abs=2e-2)


def test_the_gate_looks_at_the_last_assistant_turn(folder: Path, model: ArmoRM) -> None:
    conversation = talk("alpha", "beta gamma", "delta one", "two")
    score = score_all(model, [conversation])[0]
    _, _, gate, position = reference(folder, conversation)
    row = model.encode(conversation)
    assert isinstance(row, RewardInput)
    ends = [i for i, token in enumerate(row.ids) if token == row.ids[-1]]
    assert row.gate_at == position == ends[2], "the end of the second user turn"
    assert score.gate == pytest.approx(gate, abs=1e-5)
    # Another last response leaves the gate as it is; another earlier one moves it.
    assert score_all(model, [talk("alpha", "beta gamma", "delta one", "three yes")])[0].gate == pytest.approx(
        gate, abs=1e-6
    )
    assert score_all(model, [talk("alpha", "no no", "delta one", "two")])[0].gate != pytest.approx(gate, abs=1e-4)


@pytest.mark.parametrize(
    ("conversation", "reject"),
    [
        ([], "no_response"),
        (talk("alpha"), "no_response"),
        ([{"role": "assistant", "content": "beta"}], "pattern_missing"),
        (talk("alpha", "beta " * 80), "too_long: "),
        (talk("alpha", f"beta {HEADER} gamma"), "special_token: a message holds '<|"),
        (talk("alpha", "beta", system=f"one{END}"), "special_token"),
        (talk("alpha", "beta \ud800"), "not_unicode"),
        ([{"role": "tool", "content": "x"}, *talk("alpha", "beta")], "template: no tools here"),
    ],
)
def test_what_cannot_be_rated_is_a_reject_and_spoils_nothing(
    model: ArmoRM, conversation: list[dict[str, str]], reject: str
) -> None:
    good = talk("alpha", "beta")
    before, bad, after = score_all(model, [good, conversation, good])
    assert bad.reward is None and bad.reject.startswith(reject)
    assert before.reward == pytest.approx(score_all(model, [good])[0].reward, abs=1e-5)
    assert after.reward == pytest.approx(before.reward, abs=1e-5)


def test_the_limit_is_the_smaller_of_the_setting_and_the_model(folder: Path) -> None:
    assert armorm.load(folder, max_length=4096).max_length == POSITIONS
    short = armorm.load(folder, max_length=12)
    (score,) = score_all(short, [talk("alpha", "beta gamma delta one two three")])
    assert score.reject.startswith(f"too_long: {score.tokens} tokens, the reward model takes 12")


def test_a_template_that_leaves_the_turn_open_or_writes_other_headers_is_a_reject(folder: Path, tmp_path: Path) -> None:
    for template, reject in (
        (TEMPLATE.replace("| trim }}<|eot_id|>", "| trim }}{{ '' if loop.last else '<|eot_id|>' }}"), "truncated"),
        ("{% for m in messages %}<|eot_id|>{{ m['content'] }}{% endfor %}", "pattern_missing"),
    ):
        shutil.copytree(folder, tmp_path / reject)
        write_tokenizer(tmp_path / reject, template)
        (score,) = score_all(armorm.load(tmp_path / reject), [talk("alpha", "beta")])
        assert score.reject.startswith(reject)


def test_no_conversation_is_no_score(model: ArmoRM) -> None:
    assert score_all(model, []) == []


def test_shards_with_an_index_load_the_same(folder: Path, model: ArmoRM, tmp_path: Path) -> None:
    path = tmp_path / "sharded"
    shutil.copytree(folder, path)
    tensors = load_file(str(path / "model.safetensors"))
    (path / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"one.safetensors": names[::2], "two.safetensors": names[1::2]}
    for file, members in parts.items():
        save_file({n: tensors[n] for n in members}, str(path / file))
    weights = {n: file for file, members in parts.items() for n in members}
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))
    conversations = some(4)
    sharded = [s.reward for s in score_all(armorm.load(path, dtype="float32"), conversations)]
    assert sharded == pytest.approx([s.reward for s in score_all(model, conversations)], abs=1e-6)
    (path / "two.safetensors").unlink()
    with pytest.raises(InputError, match=r"two\.safetensors: can't be read"):
        armorm.load(path)


def broken(folder: Path, path: Path, change: Any) -> Path:
    shutil.copytree(folder, path)
    tensors = load_file(str(path / "model.safetensors"))
    change(tensors)
    save_file(tensors, str(path / "model.safetensors"))
    return path


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.update({"lm_head.weight": torch.zeros(2, 2)}), "unknown tensor lm_head.weight"),
        (
            lambda t: t.update({"score.weight": torch.zeros(2), "x": torch.zeros(2)}),
            r"unknown tensor .* \(and 1 more\)",
        ),
        (lambda t: t.pop("gating.logit_scale"), "the tensor gating.logit_scale is missing"),
        (lambda t: t.pop("model.norm.weight"), "the tensor model.norm.weight is missing"),
        (lambda t: t.update({"regression_layer.weight": torch.zeros(3, HIDDEN)}), r"has the shape \(3, 32\)"),
    ],
)
def test_a_checkpoint_of_another_layout_is_refused(folder: Path, tmp_path: Path, change: Any, says: str) -> None:
    with pytest.raises(FusechatError, match=says):
        armorm.load(broken(folder, tmp_path / "broken", change))


def without_template(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    write_tokenizer(folder, None)


def test_a_folder_without_its_parts_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"config\.json: can't be read"):
        armorm.load(tmp_path / "none")
    for name, change, says in (
        ("gemma", lambda p: (p / "config.json").write_text('{"model_type": "gemma"}'), "not 'gemma'"),
        ("garbage", lambda p: (p / "model.safetensors").write_bytes(b"x"), r"model\.safetensors: can't be read"),
        ("bare", lambda p: (p / "model.safetensors").unlink(), r"model\.safetensors: can't be read"),
        ("untemplated", without_template, "no chat template"),
        ("unspecial", lambda p: write_tokenizer(p, special=SPECIAL[:3]), "turn tokens"),
    ):
        shutil.copytree(folder, tmp_path / name)
        change(tmp_path / name)
        with pytest.raises(InputError, match=says):
            armorm.load(tmp_path / name)


def test_scores_that_are_no_numbers_are_rejects(folder: Path, tmp_path: Path) -> None:
    path = broken(folder, tmp_path / "nan", lambda t: t["reward_transform_matrix"].fill_(float("nan")))
    (score,) = score_all(armorm.load(path), [talk("alpha", "beta")])
    assert (score.reward, score.reject) == (None, "not_finite: nan")
