"""Sequence classifiers as reward models: alone as in any batch; no number for what must not have one."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_reward import POSITIONS, TEMPLATE, WORDS, write_classifier, write_tokenizer
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification

from fusechat.pipeline.errors import InputError
from fusechat.services import classifier
from fusechat.services.classifier import Classifier
from fusechat.services.reward_inputs import score_all


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("classifier")
    write_classifier(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Classifier:
    return classifier.load(folder, dtype="float32")


def talk(prompt: str, response: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}, {"role": "assistant", "content": response}]


def some(num: int) -> list[list[dict[str, str]]]:
    draw = random.Random(1)
    return [talk(*(" ".join(draw.choices(WORDS, k=draw.randint(1, 20))) for _ in range(2))) for _ in range(num)]


def test_the_score_is_the_logit_of_transformers(folder: Path, model: Classifier) -> None:
    network = AutoModelForSequenceClassification.from_pretrained(str(folder), dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    conversations = some(8)
    for conversation, score in zip(conversations, score_all(model, conversations), strict=True):
        ids = tokenizer.apply_chat_template(conversation, tokenize=True, return_dict=False)
        with torch.no_grad():
            logit = float(network(input_ids=torch.tensor([ids])).logits[0, 0])
        assert score.reward == pytest.approx(logit, abs=1e-5)
        assert (score.reject, score.tokens, score.objectives) == ("", len(ids), ())


@pytest.mark.parametrize("max_batch_tokens", [1, 100, 16384])
def test_a_score_alone_equals_the_score_in_any_padded_batch(model: Classifier, max_batch_tokens: int) -> None:
    conversations = some(12)
    together = score_all(model, conversations, max_batch_tokens)
    alone = [score_all(model, [c])[0].reward for c in conversations]
    assert [s.reward for s in together] == pytest.approx(alone, abs=1e-5)
    rows: Any = [model.encode(c) for c in conversations]
    assert [s.reward for s in model.rate(rows)] == pytest.approx(alone, abs=1e-5), "in one batch, far apart in length"


def test_bfloat16_stays_near_float32(folder: Path, model: Classifier) -> None:
    rough, conversations = classifier.load(folder, dtype="bfloat16"), some(8)
    exact = [s.reward for s in score_all(model, conversations)]
    assert [s.reward for s in score_all(rough, conversations)] == pytest.approx(exact, abs=2e-2)


@pytest.mark.parametrize(
    ("conversation", "reject"),
    [
        ([], "no_response"),
        (talk("alpha", "beta")[:1], "no_response"),
        (talk("alpha", " \n"), "empty_response"),
        (talk("alpha", "beta " * 80), "too_long: "),
        (talk("alpha", "beta <|eot_id|>"), "special_token"),
        (talk("alpha", "beta \ud800"), "not_unicode"),
        ([{"role": "tool", "content": "x"}, *talk("alpha", "beta")], "template: no tools here"),
    ],
)
def test_what_cannot_be_rated_is_a_reject(model: Classifier, conversation: list[dict[str, str]], reject: str) -> None:
    good, bad = score_all(model, [talk("alpha", "beta"), conversation])
    assert bad.reward is None and bad.reject.startswith(reject)
    assert good.reward is not None


def changed(folder: Path, path: Path, change: Any) -> Path:
    shutil.copytree(folder, path)
    change(path)
    return path


def tensors(path: Path, change: Any) -> None:
    found = load_file(str(path / "model.safetensors"))
    change(found)
    save_file(found, str(path / "model.safetensors"), metadata={"format": "pt"})


def deaf(path: Path) -> None:
    write_tokenizer(path, "{{ messages[0].content }}<|eot_id|>")


def two_labels(path: Path) -> None:
    write_classifier(path, num_labels=2)


def untemplated(path: Path) -> None:
    (path / "chat_template.jinja").unlink()
    write_tokenizer(path, None)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda p: tensors(p, lambda t: t.pop("score.weight")), r"the tensor score\.weight is missing"),
        (lambda p: tensors(p, lambda t: t.update({"lm_head.weight": torch.zeros(2, 2)})), "lm_head.weight is unknown"),
        (lambda p: tensors(p, lambda t: t.update({"score.weight": torch.zeros(1, 3)})), "score.weight|can't be loaded"),
        (lambda p: tensors(p, lambda t: t["score.weight"].fill_(float("nan"))), "can't rate a plain .* not_finite"),
        (two_labels, "one label, this one has 2"),
        (untemplated, "no chat template"),
        (deaf, "can't rate a plain conversation: template: it leaves out what the assistant says"),
        (lambda p: (p / "config.json").unlink(), r"config\.json: can't be read"),
        (lambda p: (p / "config.json").write_text(json.dumps({"model_type": "x"})), "can't be loaded as a sequence"),
        (lambda p: (p / "model.safetensors").write_bytes(b"x"), "can't be loaded as a sequence"),
    ],
)
def test_a_folder_that_is_no_reward_model_is_refused(folder: Path, tmp_path: Path, change: Any, says: str) -> None:
    with pytest.raises(InputError, match=says):
        classifier.load(changed(folder, tmp_path / "model", change))


def test_an_encoder_is_rated_by_its_own_head(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=POSITIONS, num_labels=1,
    )  # fmt: skip
    network = BertForSequenceClassification(config).eval()
    network.save_pretrained(str(tmp_path))
    write_tokenizer(tmp_path, TEMPLATE)
    model, conversations = classifier.load(tmp_path, dtype="float32"), some(6)
    rows: Any = [model.encode(c) for c in conversations]
    with torch.no_grad():
        expected = [float(network(input_ids=torch.tensor([r.ids])).logits[0, 0]) for r in rows]
    assert [s.reward for s in model.rate(rows)] == pytest.approx(expected, abs=1e-5)
