"""Conversations: turns in lists, and turns in one text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prompt_tables import OWN, jsonl, refused, take
from pydantic import ValidationError

from fusechat.pipeline.prompts import turns
from fusechat.pipeline.recipe import PromptTable
from fusechat.pipeline.recipe.table_options import Role

HELPSTEER: dict[Role, str] = {"user": "<extra_id_1>User", "assistant": "<extra_id_1>Assistant"}
TRANSCRIPT: dict[Role, str] = {"system": "System:", "user": "Human:", "assistant": "Assistant:"}

SPLIT: dict[str, tuple[str, dict[Role, str], list[tuple[Role, str]]]] = {
    "without a mark": ("A?", HELPSTEER, [("user", "A?")]),
    "with HelpSteer2's marks": (
        "A?\n<extra_id_1>Assistant\nB.\n<extra_id_1>User\nC?",
        HELPSTEER,
        [("user", "A?"), ("assistant", "B."), ("user", "C?")],
    ),
    "with any space around the marks": (
        "A? \r\n\n <extra_id_1>Assistant \t\n\nB.\n\nC.<extra_id_1>User D?\n",
        HELPSTEER,
        [("user", "A?"), ("assistant", "B.\n\nC."), ("user", "D?")],
    ),
    "with a longer word after the mark": (
        "A?\n<extra_id_1>Users like it.",
        HELPSTEER,
        [("user", "A?\n<extra_id_1>Users like it.")],
    ),
    "as a transcript": (
        "\n\nHuman: A?\n\nAssistant: B.\n\nHuman: C?",
        TRANSCRIPT,
        [("user", "A?"), ("assistant", "B."), ("user", "C?")],
    ),
    "as a transcript with a system message": (
        "System: S.\nHuman: A?\nAssistant:",
        TRANSCRIPT,
        [("system", "S."), ("user", "A?")],
    ),
    "with a mark inside a sentence": (
        "Human: Is Human: a mark? NonHuman: no.\nAssistant: The Assistant: too.\nHuman: Good.",
        TRANSCRIPT,
        [("user", "Is Human: a mark? NonHuman: no."), ("assistant", "The Assistant: too."), ("user", "Good.")],
    ),
    "with two turns of one role": (
        "Human: A.\nHuman: B?",
        TRANSCRIPT,
        [("user", "A.\n\nB?")],
    ),
    "with one mark that begins as another": (
        "[U] A? [U2] B.",
        {"user": "[U]", "assistant": "[U2]"},
        [("user", "A?"), ("assistant", "B.")],
    ),
    "with white space inside the mark": (
        "### User:\nA?\n###  Assistant:\nB.\n### User: C?",
        {"user": "### User:", "assistant": "### Assistant:"},
        [("user", "A?"), ("assistant", "B."), ("user", "C?")],
    ),
    "of nothing": (" \n", HELPSTEER, []),
}


@pytest.mark.parametrize("case", SPLIT)
def test_a_text_is_split_into_turns(case: str) -> None:
    text, marks, expected = SPLIT[case]
    assert [(message["role"], message["content"]) for message in turns.split(text, marks)] == expected


def test_a_table_of_texts_becomes_conversations(tmp_path: Path) -> None:
    rows = [{"p": "A?\n<extra_id_1>Assistant\nB.\n<extra_id_1>User\nC?"}, {"p": "D?"}]
    taken = take(tmp_path, {"path": jsonl(tmp_path, rows), "columns": {"prompt": "p"}, "turns": HELPSTEER, **OWN})
    assert sorted(len(prompt["messages"]) for prompt in taken.prompts) == [1, 3]
    assert taken.texts == ["C?", "D?"]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"turns": {"assistant": "A:"}}, "turns needs the mark of the user"),
        ({"turns": {"user": " "}}, "turns has an empty mark"),
        ({"turns": {"user": "X", "assistant": " X"}}, "turns has one mark for two roles"),
        ({"turns": {"user": "X"}, "columns": {"messages": "m"}}, "turns needs columns.prompt"),
    ],
)
def test_marks_that_cannot_be_used_are_refused_with_the_recipe(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        PromptTable.model_validate({"path": "p.jsonl", **keys})


# --- lists of turns


def turn(role: object, content: object, **more: object) -> dict[str, object]:
    return {"role": role, "content": content, **more}


READ: dict[str, tuple[list[object], list[str]]] = {
    "Human and Assistant": ([turn("Human", "A"), turn("ASSISTANT", "B"), turn("human", "C")], ["A", "B", "C"]),
    "ShareGPT": ([{"from": "human", "value": "A"}], ["A"]),
    "ShareGPT with a null role": ([{"from": "gpt", "value": "A", "role": None}, turn("user", "B")], ["A", "B"]),
    "text in parts": ([turn("user", [{"type": "text", "text": "A "}, {"text": "b"}, "c"])], ["A bc"]),
    "two users": ([turn("user", "A"), turn("user", "B")], ["A", "B"]),
    "the assistant first": ([turn("model", "A"), turn("user", "B")], ["A", "B"]),
    "a system message in the middle": (
        [turn("user", "A"), turn("system", "B"), turn("user", "C")],
        ["A", "B", "C"],
    ),
    "keys of tools that are null": ([turn("user", "A", tool_calls=None, name=None)], ["A"]),
}


@pytest.mark.parametrize("case", READ)
def test_a_conversation_is_read(tmp_path: Path, case: str) -> None:
    messages, contents = READ[case]
    taken = take(tmp_path, jsonl(tmp_path, [{"id": "a", "domain": "instruction", "messages": messages}]))
    assert [message["content"] for message in taken.prompts[0]["messages"]] == contents


REFUSED: dict[str, tuple[object, str]] = {
    "a call of a tool": (
        [turn("assistant", None, tool_calls=[{}])],
        "messages[0] has tool_calls; calls of tools are not supported",
    ),
    "a tool's turn": (
        [turn("user", "A"), turn("tool", "B")],
        "messages[1].role is 'tool'; turns of tools are not supported",
    ),
    "null content": ([turn("user", None)], "messages[0].content is null; a turn needs text"),
    "an image": (
        [turn("user", [{"type": "image_url", "image_url": {}}])],
        "messages[0].content[0] is 'image_url'; only parts of type text are supported",
    ),
    "a number as content": ([turn("user", 7)], "messages[0].content must be text, got int"),
    "an unknown role": (
        [turn("narrator", "A")],
        "messages[0].role is 'narrator'; allowed: assistant, chatgpt, gpt, human, model, system, user",
    ),
    "an extra key": (
        [turn("user", "A", weight=1)],
        "messages[0] has the unknown key 'weight'; allowed: role, content; with columns.messages, other keys are "
        "ignored",
    ),
    "no content": ([{"role": "user"}], "messages[0] has no content; a turn has role and content, or from and value"),
    "no value": ([{"from": "human"}], "messages[0] has no value; a turn has role and content, or from and value"),
    "a text": ("A?", "messages must be a list of role and content, got str"),
    "a list of texts": (["A?"], "messages[0] must have role and content, got str"),
    "null in place of a turn": ([None], "messages[0] must have role and content, got null"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_turn_that_cannot_be_used_is_named_with_its_key(tmp_path: Path, case: str) -> None:
    messages, says = REFUSED[case]
    name = jsonl(tmp_path, [{"id": "a", "domain": "instruction", "messages": messages}])
    assert refused(tmp_path, name) == f"p.jsonl:1: {says}"


def test_extra_keys_of_a_mapped_conversation_are_ignored(tmp_path: Path) -> None:
    name = jsonl(tmp_path, [{"c": [turn("user", "A?", weight=1, loss=False)]}])
    assert take(tmp_path, {"path": name, "columns": {"messages": "c"}, **OWN}).texts == ["A?"]


def test_conversations_that_end_with_the_assistant_say_what_to_set(tmp_path: Path) -> None:
    messages = [turn("user", "A?"), turn("assistant", "B.")]
    entry = {"path": jsonl(tmp_path, [{"messages": messages}]), "columns": {"messages": "messages"}, **OWN}
    assert "last_answer: drop removes it" in refused(tmp_path, entry)
    assert take(tmp_path, entry | {"last_answer": "drop"}).texts == ["A?"]
