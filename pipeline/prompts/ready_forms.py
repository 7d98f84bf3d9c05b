"""The forms of ready SFT rows and pairs: those of TRL, ShareGPT (LLaMA-Factory), Alpaca, and plain conversations.

A row becomes its prompt and one response (SFT) or two (a pair). Rows are text of unknown origin: whatever they hold, a
row is used or rejected with a reason.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ..recipe import DatasetField, DatasetForm, DatasetKind, DatasetTable
from ..records import Message
from .rows import RawRow, score
from .turns import messages_of
from .unusable import UnusableError

ALTERNATIVES: dict[DatasetField, tuple[str, ...]] = {
    "source": ("source", "source_model"),
    "score_chosen": ("score_chosen", "chosen_score", "chosen_reward"),
    "score_rejected": ("score_rejected", "rejected_score", "rejected_reward"),
    "score": ("score", "reward"),
}
"""Field -> names of its column in published data sets. The column of other fields has the field's name."""

FORMS: dict[DatasetKind, dict[DatasetForm, tuple[DatasetField, ...]]] = {
    "sft": {
        "trl": ("prompt", "completion"),
        "messages": ("messages",),
        "sharegpt": ("conversations",),
        "alpaca": ("instruction", "output"),
    },
    "pairs": {
        "trl": ("chosen", "rejected"),
        "sharegpt": ("conversations", "chosen", "rejected"),
        "alpaca": ("instruction", "chosen", "rejected"),
    },
}
"""Form -> the fields that it needs."""


class ReadyRow(NamedTuple):
    """A row: the prompt, which ends with the user's turn, and the texts of its responses."""

    prompt: list[Message]
    texts: tuple[str, ...]
    """The completion; or the chosen and the rejected response."""


class Columns:
    """The columns of a table's fields.

    Args:
        columns: the names of the table's columns.

    Raises:
        ValueError: a column that the recipe names is missing.
    """

    def __init__(self, table: DatasetTable, columns: Collection[str]) -> None:
        self._named, self._present = table.columns, columns
        for field, column in self._named.items():
            if column not in columns:
                raise ValueError(f"no column {column!r} (columns.{field}); there are {', '.join(columns)}")

    def of(self, field: DatasetField) -> str | None:
        """The field's column; None if the table has none."""
        names = (self._named[field],) if field in self._named else ALTERNATIVES.get(field, (field,))
        return next((name for name in names if name in self._present), None)

    def value(self, row: RawRow, field: DatasetField) -> Any:
        """The field's value in a row; None if it is missing or null."""
        column = self.of(field)
        return None if column is None else row.get(column)

    def score(self, row: RawRow, field: DatasetField) -> float | None:
        """The score in a row; None if it is missing, as an empty text is.

        Raises:
            UnusableError: it is neither a finite number nor the text of one.
        """
        value = self.value(row, field)
        return None if value == "" else score(value, field)


def form_of(kind: DatasetKind, table: DatasetTable, columns: Columns, names: Collection[str]) -> DatasetForm:
    """The form of a table's rows: that of the recipe, or the only one that has its columns.

    Args:
        names: the names of the table's columns, for messages.

    Raises:
        ValueError: no form fits, several do, or columns of the recipe's form are missing.
    """
    forms, shown = FORMS[kind], ", ".join(names)
    if table.form is not None:
        if table.form not in forms:
            raise ValueError(f"form {table.form} has no pairs; allowed: {', '.join(forms)}")
        if missing := [field for field in forms[table.form] if columns.of(field) is None]:
            raise ValueError(f"form {table.form} needs the column {missing[0]!r}; there are {shown}")
        return table.form
    fitting = [form for form, fields in forms.items() if all(columns.of(field) is not None for field in fields)]
    if len(fitting) > 1 and kind == "pairs" and columns.of("prompt") is None:
        fitting.remove("trl")  # its prompt is in another form's column
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ValueError(f"the columns {shown} fit the forms {', '.join(fitting)}; set form")
    known = "; ".join(f"{form}: {', '.join(fields)}" for form, fields in forms.items())
    raise ValueError(f"the columns {shown} fit no form ({known}); columns maps others")


def read_row(kind: DatasetKind, form: DatasetForm, columns: Columns, raw: RawRow) -> ReadyRow:
    """The prompt and the responses of a row.

    Raises:
        UnusableError: the row can't be used.
    """
    row = _pair(form, columns, raw) if kind == "pairs" else _sft(form, columns, raw)
    if not row.prompt or row.prompt[-1]["role"] != "user":
        last = row.prompt[-1]["role"] if row.prompt else "nothing"
        raise UnusableError("no_user_turn", f"the prompt must end with the user's turn, it ends with {last}")
    if not row.prompt[-1]["content"].strip():
        raise UnusableError("empty", "the prompt is empty")
    if any(not text.strip() for text in row.texts):
        raise UnusableError("empty_response", "a response is empty")
    if len(row.texts) == 2 and row.texts[0].strip() == row.texts[1].strip():
        raise UnusableError("same_texts", "chosen and rejected have the same text")
    try:
        "".join([*row.texts, *(m["content"] for m in row.prompt)]).encode()
    except UnicodeEncodeError as error:
        raise UnusableError("not_unicode", "the row holds a lone surrogate") from error
    return row


def _sft(form: DatasetForm, columns: Columns, raw: RawRow) -> ReadyRow:
    if form == "trl":
        conversation = [*_turns(columns, raw, "prompt", "user"), *_turns(columns, raw, "completion", "assistant")]
    elif form == "alpaca":
        conversation = [*_alpaca(columns, raw), *_turns(columns, raw, "output", "assistant")]
    else:
        conversation = _turns(columns, raw, FORMS["sft"][form][0], "user")
    return _split(_with_system(columns, raw, conversation))


def _pair(form: DatasetForm, columns: Columns, raw: RawRow) -> ReadyRow:
    sides = [_turns(columns, raw, side, "assistant") for side in ("chosen", "rejected")]
    if all(len(side) == 1 and side[0]["role"] == "assistant" for side in sides):
        if form == "alpaca":
            prompt = _alpaca(columns, raw)
        else:
            prompt = _turns(columns, raw, "prompt" if form == "trl" else "conversations", "user")
        return ReadyRow(_with_system(columns, raw, prompt), tuple(side[0]["content"] for side in sides))
    chosen, rejected = (_split(_with_system(columns, raw, side)) for side in sides)  # whole conversations
    if chosen.prompt != rejected.prompt:
        raise UnusableError("different_prompts", "chosen and rejected answer different prompts")
    return ReadyRow(chosen.prompt, (*chosen.texts, *rejected.texts))


def _split(conversation: list[Message]) -> ReadyRow:
    """A conversation as its last answer and the prompt before it."""
    if not conversation or conversation[-1]["role"] != "assistant":
        raise UnusableError("no_response", "the conversation must end with the assistant's turn")
    return ReadyRow(conversation[:-1], (conversation[-1]["content"],))


def _alpaca(columns: Columns, raw: RawRow) -> list[Message]:
    """The turns of `history`, and the instruction with its input on the next line, as LLaMA-Factory joins them."""
    turns: list[Message] = []
    history = columns.value(raw, "history") or []
    if not isinstance(history, list) or not all(
        isinstance(turn, Sequence) and len(turn) == 2 and all(isinstance(text, str) for text in turn)
        for turn in history
    ):
        raise UnusableError("wrong_type", "history is a list of (instruction, response)")
    for question, answer in history:
        turns += [Message(role="user", content=question), Message(role="assistant", content=answer)]
    parts = [columns.value(raw, "instruction"), columns.value(raw, "input")]
    if not isinstance(parts[0], str) or not isinstance(parts[1], str | None):
        raise UnusableError("wrong_type", "instruction and input must be texts")
    return [*turns, Message(role="user", content="\n".join(part for part in parts if part))]


def _with_system(columns: Columns, raw: RawRow, turns: list[Message]) -> list[Message]:
    """The turns after that of the column `system`. A system turn that they begin with stays alone."""
    text = columns.value(raw, "system")
    if not isinstance(text, str | None):
        raise UnusableError("wrong_type", f"system must be a text, got {type(text).__name__}")
    if not text or (turns and turns[0]["role"] == "system"):
        return turns
    return [Message(role="system", content=text), *turns]


def _turns(columns: Columns, raw: RawRow, field: DatasetField, role: str) -> list[Message]:
    """The turns in a field: messages, one message, or a text, which is one turn of `role`.

    Raises:
        UnusableError: it holds something else.
    """
    value = columns.value(raw, field)
    if value is None:
        raise UnusableError("missing", f"{columns.of(field) or field} is missing")
    if isinstance(value, str):
        return [Message(role=role, content=value)]
    if isinstance(value, Mapping):
        lists = [part for part in value.values() if isinstance(part, list)]
        if len(lists) == len(value) and len({len(part) for part in lists}) == 1:  # how some data sets store a list
            value = [dict(zip(value, turn, strict=True)) for turn in zip(*lists, strict=True)]
        else:
            value = [value]
    if not isinstance(value, list):
        raise UnusableError("wrong_type", f"{field} must be a text or messages, got {type(value).__name__}")
    return messages_of(value, extra_keys=True, name=field)
