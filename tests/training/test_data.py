"""Rows become tokens: the target's template, one BOS, the end-of-turn token in the loss, every cut counted."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from tiny_model import TEMPLATE, make_tokenizer

from fusechat.pipeline.errors import RecipeError, StageError
from fusechat.training import data
from fusechat.training.row_order import LengthGroupedSampler


def test_the_loss_is_on_the_response_and_its_end_of_turn_token_alone(tokenizer: Any, sft_rows: Any) -> None:
    tokens = data.tokenize_sft(sft_rows(3), data.ChatTemplate(tokenizer), 256)
    for line, row in zip(tokens.table.to_pylist(), sft_rows(3).to_pylist(), strict=True):
        learned = [i for i, label in zip(line["input_ids"], line["labels"], strict=True) if label != -100]
        assert tokenizer.decode(learned) == row["completion"][0]["content"] + "<|end|>"
        assert learned == [label for label in line["labels"] if label != -100]
        assert line["input_ids"][-1] == tokenizer.eos_token_id
    assert tokens.num_truncated == 0


def test_the_prompt_is_what_inference_would_send(tokenizer: Any, sft_rows: Any) -> None:
    row = sft_rows(1).to_pylist()[0]
    line = data.tokenize_sft(sft_rows(1), data.ChatTemplate(tokenizer), 256).table.to_pylist()[0]
    sent = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"]
    assert line["input_ids"][: len(sent)] == sent
    assert line["labels"][: len(sent)] == [-100] * len(sent)
    assert line["labels"][len(sent)] != -100


@pytest.mark.parametrize("writes_bos", [True, False])
def test_there_is_one_bos_where_the_template_has_one(sft_rows: Any, writes_bos: bool) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = TEMPLATE if writes_bos else TEMPLATE.replace("{{ bos_token }}", "")
    line = data.tokenize_sft(sft_rows(1), data.ChatTemplate(tokenizer), 256).table.to_pylist()[0]
    assert line["input_ids"].count(tokenizer.bos_token_id) == int(writes_bos)


def test_a_template_that_writes_bos_twice_yields_one() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = "{{ bos_token }}" + TEMPLATE
    template = data.ChatTemplate(tokenizer)
    prompt, _ = template.prompt_and_response(
        [{"role": "user", "content": "x"}], [{"role": "assistant", "content": "y"}]
    )
    assert prompt.count(tokenizer.bos_token_id) == 1


def test_a_cut_row_is_counted_and_loses_its_end_of_turn(tokenizer: Any, sft_rows: Any) -> None:
    rows = sft_rows(2, ["twelve", "twelve " * 100])
    tokens = data.tokenize_sft(rows, data.ChatTemplate(tokenizer), 64)
    short, long = tokens.table.to_pylist()
    assert tokens.num_truncated == 1
    assert len(long["input_ids"]) == len(long["labels"]) == 64
    assert long["labels"][-1] != tokenizer.eos_token_id == short["labels"][-1]


def test_a_prompt_that_fills_max_length_is_a_counted_reject(tokenizer: Any, sft_rows: Any) -> None:
    rows = sft_rows(2)
    size = len(data.ChatTemplate(tokenizer).prompt_and_response(*_row(rows, 0))[0])
    lines = rows.to_pylist()
    lines[1]["prompt"][0]["content"] *= 10
    rows = type(rows).from_pylist(lines, schema=rows.schema)
    tokens = data.tokenize_sft(rows, data.ChatTemplate(tokenizer), size + 4)
    assert tokens.table.num_rows == 1
    reject = tokens.rejects.to_pylist()[0]
    assert (reject["stage"], reject["id"], reject["reason"]) == ("sft", "row-1", "prompt_too_long")


def test_all_prompts_too_long_is_an_error_that_names_the_setting(tokenizer: Any, pairs: Any) -> None:
    with pytest.raises(StageError, match=r"row-0.*raise dpo\.max_length"):
        data.tokenize_pairs(pairs(2), data.ChatTemplate(tokenizer), 16)


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_response_is_refused_with_its_row(tokenizer: Any, sft_rows: Any, text: str) -> None:
    with pytest.raises(StageError, match=r"row-1.*completion response is empty"):
        data.tokenize_sft(sft_rows(2, ["twelve", text]), data.ChatTemplate(tokenizer), 256)


def test_an_empty_rejected_response_is_refused_with_its_row(tokenizer: Any, pairs: Any) -> None:
    with pytest.raises(StageError, match=r"row-0.*rejected response is empty"):
        data.tokenize_pairs(pairs(1, [" "]), data.ChatTemplate(tokenizer), 256)


def test_both_responses_of_a_pair_end_their_turn(tokenizer: Any, pairs: Any) -> None:
    for line in data.tokenize_pairs(pairs(4), data.ChatTemplate(tokenizer), 256).table.to_pylist():
        assert line["chosen_ids"][-1] == line["rejected_ids"][-1] == tokenizer.eos_token_id
        assert tokenizer.decode(line["prompt_ids"]).endswith("<|start|>assistant\n")


@pytest.mark.parametrize(("stage", "setting"), [("sft", "sft_fraction"), ("dpo", "margin")])
def test_no_rows_is_an_error_that_says_what_to_change(stage: str, setting: str) -> None:
    with pytest.raises(StageError, match=f"stage {stage}.*{setting}"):
        data.require_rows(stage, 0)


def test_a_target_without_chat_template_is_refused() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(RecipeError, match=r"target\.chat_template: .*no chat template"):
        data.ChatTemplate(tokenizer)


@pytest.mark.parametrize("template", ["{% for", "{{ raise_exception('no') }}", "no messages"])
def test_a_template_that_renders_no_conversation_is_refused(template: str) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(RecipeError, match=r"target\.chat_template"):
        data.ChatTemplate(tokenizer)


def test_without_pad_token_the_end_of_turn_stays_in_the_loss(tmp_path: Any, sft_rows: Any) -> None:
    make_tokenizer(pad_token=None).save_pretrained(tmp_path)
    tokenizer = data.load_tokenizer(tmp_path, None)
    assert tokenizer.pad_token == tokenizer.eos_token  # nothing better is in this vocabulary
    line = data.tokenize_sft(sft_rows(1), data.ChatTemplate(tokenizer), 256).table.to_pylist()[0]
    assert line["labels"][-1] == tokenizer.eos_token_id == tokenizer.pad_token_id


def test_a_pad_token_of_the_vocabulary_is_preferred_to_the_end_of_turn(tmp_path: Any) -> None:
    make_tokenizer(pad_token=None, unk_token="<pad>").save_pretrained(tmp_path)
    assert data.load_tokenizer(tmp_path, None).pad_token == "<pad>"


def test_a_tokenizer_with_nothing_to_pad_with_is_refused(tmp_path: Any) -> None:
    make_tokenizer(pad_token=None, eos_token=None).save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match=r"target\.model: .*no token to pad with: set pad_token"):
        data.load_tokenizer(tmp_path, None)


def test_a_step_knows_its_rows() -> None:
    batches = LengthGroupedSampler([(7 * i) % 31 for i in range(10)], 4, 3, lambda: 1)
    assert [set(batches.rows_of_step(step)) for step in (4, 5, 6)] == [
        set(list(batches)[start : start + 4]) for start in (0, 4, 8)
    ]
    assert batches.rows_of_step(1) != batches.rows_of_step(4)


def test_a_template_that_ends_no_turn_gets_the_end_of_sequence_token(sft_rows: Any) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    line = data.tokenize_sft(sft_rows(1), data.ChatTemplate(tokenizer), 256).table.to_pylist()[0]
    assert line["labels"][-1] == tokenizer.eos_token_id


def test_the_turns_own_end_wins_over_the_end_of_sequence() -> None:
    tokenizer = make_tokenizer(eos_token="<|eos|>")
    assert data.ChatTemplate(tokenizer).end_id == tokenizer.convert_tokens_to_ids("<|end|>")


def test_an_order_holds_every_row_once_and_sorts_within_the_global_batch() -> None:
    lengths = [(7 * i) % 31 for i in range(50)]
    order = list(LengthGroupedSampler(lengths, 8, 3, lambda: 0))
    assert sorted(order) == list(range(50))
    for start in range(0, 50, 8):
        batch = [lengths[i] for i in order[start : start + 8]]
        assert batch == sorted(batch)


def test_an_order_hangs_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return list(LengthGroupedSampler([1] * 40, 8, seed, lambda: epoch))

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) != order(1, 1)


GEMMA = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
    "{% endfor %}"
)
"""What the templates of Gemma 2 and Mistral refuse."""


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_a_row_that_the_template_refuses_is_a_counted_reject(sft_rows: Any, pairs: Any, stage: str) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = GEMMA + TEMPLATE
    template = data.ChatTemplate(tokenizer)
    rows, tokenize = (sft_rows(4), data.tokenize_sft) if stage == "sft" else (pairs(4), data.tokenize_pairs)
    lines = rows.to_pylist()
    lines[1]["prompt"].insert(0, {"role": "system", "content": "Be brief."})
    lines[2]["prompt"].insert(0, {"role": "user", "content": "Hello."})
    lines[3]["prompt"].insert(0, {"role": "assistant", "content": "Hello."})
    tokens = tokenize(pa.Table.from_pylist(lines, schema=rows.schema), template, 256)
    assert tokens.row_ids == ["row-0"]
    assert [(r["stage"], r["id"], r["reason"], r["detail"]) for r in tokens.rejects.to_pylist()] == [
        (stage, "row-1", "template_error", "prompt prompt-1: System role not supported"),
        (stage, "row-2", "template_error", "prompt prompt-2: Roles must alternate"),
        (stage, "row-3", "template_error", "prompt prompt-3: Roles must alternate"),
    ]
    with pytest.raises(StageError) as refused:
        tokenize(pa.Table.from_pylist(lines[1:], schema=rows.schema), template, 256)
    assert str(refused.value) == (
        f"stage {stage}, row row-1: no row is left: the target's chat template refuses 3 of 3, e.g. prompt prompt-1: "
        "System role not supported; set target.system or target.chat_template"
    )


def _row(rows: Any, index: int) -> tuple[Any, Any]:
    row = rows.to_pylist()[index]
    return row["prompt"], row["completion"]
