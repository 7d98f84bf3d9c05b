"""Tokenizes the selected rows with the target's chat template; only the response is part of the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from fusechat.pipeline.errors import RecipeError, StageError, one_line
from fusechat.pipeline.records import REJECT

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

CHAT_TEMPLATE_KEY = "target.chat_template"

IGNORE_INDEX = -100
"""Label of a token that is not part of the loss, as in torch and transformers."""

SFT_TOKENS = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])
PAIR_TOKENS = pa.schema([(name, pa.list_(pa.int32())) for name in ("prompt_ids", "chosen_ids", "rejected_ids")])

PAD_TOKENS = ("<|finetune_right_pad_id|>", "<pad>", "<|pad|>", "[PAD]", "<|endoftext|>", "<unk>")
"""Padding tokens for a tokenizer that names none, best first. The end-of-turn token is the last resort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizedRows:
    """The tokenized rows of a training."""

    table: pa.Table
    """SFT_TOKENS or PAIR_TOKENS."""
    row_ids: list[str]
    """Ids of the table's rows, in order."""
    num_truncated: int
    """Rows whose response was truncated at `max_length`; their end-of-turn token is lost."""
    rejects: pa.Table
    """REJECT: rows that the chat template refuses, and rows whose prompt alone fills `max_length`."""


class TemplateRefusedError(Exception):
    """The chat template refuses a conversation; the message is the template's."""


@dataclass(slots=True)
class ChatTemplate:
    """A tokenizer's chat template and its end-of-turn token.

    Raises:
        RecipeError: there is no template, it can't render a conversation, or no token ends an assistant turn.
    """

    tokenizer: PreTrainedTokenizerBase
    end_ids: tuple[int, ...] = ()
    """Tokens that end generation, from the model's generation config."""
    turn_suffix: str = field(init=False)
    """The text that the template writes after the assistant's message."""
    end_id: int = field(init=False)
    """The end-of-turn token. It ends every response and is part of the loss."""

    def __post_init__(self) -> None:
        if not self.tokenizer.chat_template:
            raise RecipeError("target.chat_template", None, "the target has no chat template; set a Jinja file")
        probe = "response-probe"
        try:
            text = self.render([{"role": "user", "content": "x"}, {"role": "assistant", "content": probe}])
        except TemplateRefusedError as error:
            raise RecipeError("target.chat_template", str(error), "the template must render a conversation") from error
        if probe not in text:
            raise RecipeError(CHAT_TEMPLATE_KEY, text, "the template must write the assistant's message")
        self.turn_suffix = text[text.rindex(probe) + len(probe) :]
        ids = self.tokenizer(self.turn_suffix, add_special_tokens=False)["input_ids"]
        stops = {*self.end_ids, self.tokenizer.eos_token_id}
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        ends = [i for i in ids if i in stops] or [i for i in ids if i in special]
        if not ends and self.tokenizer.eos_token_id is None:
            allowed = "the template has no end-of-turn token and the tokenizer has no eos_token"
            raise RecipeError(CHAT_TEMPLATE_KEY, self.turn_suffix, allowed)
        # If the template ends a turn with no token, the model's end-of-sequence token ends it.
        self.end_id = ends[0] if ends else self.tokenizer.eos_token_id

    def render(self, messages: Sequence[Mapping[str, str]], *, prompt: bool = False) -> str:
        """The conversation as text. With `prompt`, it ends with the header of the assistant's turn.

        Raises:
            TemplateRefusedError: the template can't render it, e.g. because it knows no system messages.
        """
        try:
            text: str = self.tokenizer.apply_chat_template(
                [dict(m) for m in messages], tokenize=False, add_generation_prompt=prompt
            )
        except Exception as error:  # a template is a program and may raise anything
            raise TemplateRefusedError(one_line(error) or type(error).__name__) from error
        return text

    def encode(self, text: str) -> list[int]:
        """Token ids. The template writes its own BOS token, so none is added, and a duplicate is removed."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        bos = self.tokenizer.bos_token_id
        while bos is not None and ids[:2] == [bos, bos]:
            ids = ids[1:]
        return ids

    def prompt_and_response(
        self, prompt: Sequence[Mapping[str, str]], response: Sequence[Mapping[str, str]]
    ) -> tuple[list[int], list[int]]:
        """Token ids of the prompt, as at inference, and of the response with its end-of-turn token."""
        prompt_text = self.render(prompt, prompt=True)
        full_text = self.render([*prompt, *response])
        prompt_ids, ids = self.encode(prompt_text), self.encode(full_text)
        extends_prompt = full_text.startswith(prompt_text)
        if extends_prompt and ids[: len(prompt_ids)] == prompt_ids:
            answer = ids[len(prompt_ids) :]
        else:  # the template or a token merge changes the end of the prompt: keep the prompt as at inference
            if extends_prompt:
                answer_text = full_text[len(prompt_text) :]
            else:
                answer_text = response[-1]["content"].strip() + self.turn_suffix
            answer = self.tokenizer(answer_text, add_special_tokens=False)["input_ids"]
        if self.end_id in answer:  # text after the end of the turn (a line break) is never generated
            last = len(answer) - 1 - answer[::-1].index(self.end_id)
            return prompt_ids, answer[: last + 1]
        return prompt_ids, [*answer, self.end_id]


def load_tokenizer(model: Path, chat_template: str | None) -> PreTrainedTokenizerBase:
    """The target's tokenizer with its own chat template, or with `chat_template` (Jinja text) instead.

    The choice of padding token does not change the loss, because the labels mark the loss by position.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    if chat_template is not None:
        tokenizer.chat_template = chat_template
    if tokenizer.pad_token is None:
        vocabulary = tokenizer.get_vocab()
        tokenizer.pad_token = next((t for t in PAD_TOKENS if t in vocabulary), tokenizer.eos_token)
    if tokenizer.pad_token is None:
        raise RecipeError("target.model", str(model), "the tokenizer has no token to pad with: set pad_token")
    return tokenizer


def generation_end_ids(model: Path) -> tuple[int, ...]:
    """The end-of-sequence tokens in the model's generation config."""
    from transformers import GenerationConfig

    if not (model / "generation_config.json").exists():
        return ()
    eos = GenerationConfig.from_pretrained(model).eos_token_id
    return () if eos is None else (eos,) if isinstance(eos, int) else tuple(eos)


class TokenizedRow(NamedTuple):
    """The tokens of one row."""

    num_prompt: int
    """Tokens of the prompt."""
    columns: dict[str, list[int]]
    """The columns of SFT_TOKENS or PAIR_TOKENS."""
    truncated: bool


def tokenize_sft(rows: pa.Table, template: ChatTemplate, max_length: int) -> TokenizedRows:
    """Tokenizes SFT_ROW rows to SFT_TOKENS.

    Raises:
        StageError: there are no rows, a response is empty, or every row was rejected.
    """

    def tokenize(row: Mapping[str, Any]) -> TokenizedRow:
        _require_response("sft", row, "completion")
        prompt, response = template.prompt_and_response(row["prompt"], row["completion"])
        truncated = len(prompt) + len(response) > max_length
        ids = (prompt + response)[:max_length]
        labels = ([IGNORE_INDEX] * len(prompt) + response)[:max_length]
        return TokenizedRow(len(prompt), {"input_ids": ids, "labels": labels}, truncated)

    return _tokenize("sft", rows, tokenize, SFT_TOKENS, max_length)


def tokenize_pairs(rows: pa.Table, template: ChatTemplate, max_length: int) -> TokenizedRows:
    """Tokenizes PAIR rows to PAIR_TOKENS. A pair counts as truncated if either response was truncated.

    Raises:
        StageError: there are no pairs, a response is empty, or every pair was rejected.
    """

    def tokenize(row: Mapping[str, Any]) -> TokenizedRow:
        for name in ("chosen", "rejected"):
            _require_response("dpo", row, name)
        prompt, chosen = template.prompt_and_response(row["prompt"], row["chosen"])
        _, rejected = template.prompt_and_response(row["prompt"], row["rejected"])
        room = max_length - len(prompt)
        truncated = max(len(chosen), len(rejected)) > room
        kept = max(room, 0)
        ids = {"prompt_ids": prompt, "chosen_ids": chosen[:kept], "rejected_ids": rejected[:kept]}
        return TokenizedRow(len(prompt), ids, truncated)

    return _tokenize("dpo", rows, tokenize, PAIR_TOKENS, max_length)


def _tokenize(
    stage: str,
    rows: pa.Table,
    tokenize: Callable[[Mapping[str, Any]], TokenizedRow],
    schema: pa.Schema,
    max_length: int,
) -> TokenizedRows:
    require_rows(stage, rows.num_rows)
    kept: list[dict[str, list[int]]] = []
    rejects: list[dict[str, str]] = []
    row_ids: list[str] = []
    num_truncated = 0

    def reject(row: Mapping[str, Any], reason: str, detail: str) -> None:
        detail = f"prompt {row['prompt_id']}: {detail}"
        rejects.append({"stage": stage, "id": row["row_id"], "reason": reason, "detail": detail})

    for row in _iterate(rows):
        try:
            num_prompt, columns, truncated = tokenize(row)
        except TemplateRefusedError as error:
            reject(row, "template_error", str(error))
            continue
        if num_prompt >= max_length:
            reject(row, "prompt_too_long", f"{num_prompt} tokens of prompt, {stage}.max_length is {max_length}")
            continue
        num_truncated += truncated
        kept.append(columns)
        row_ids.append(row["row_id"])
    if not kept:
        raise _none_left(stage, rejects, max_length)
    return TokenizedRows(
        table=pa.Table.from_pylist(kept, schema=schema),
        row_ids=row_ids,
        num_truncated=num_truncated,
        rejects=pa.Table.from_pylist(rejects, schema=REJECT),
    )


def _none_left(stage: str, rejects: Sequence[Mapping[str, str]], max_length: int) -> StageError:
    """The error of a training whose rows were all rejected."""
    refused = next((r for r in rejects if r["reason"] == "template_error"), None)
    if refused is None:
        cause = f"every prompt alone has {max_length} tokens or more; raise {stage}.max_length"
        return StageError(stage, f"row {rejects[0]['id']}", cause)
    num = sum(r["reason"] == "template_error" for r in rejects)
    too_long = f", and the other prompts have {max_length} tokens or more" if num < len(rejects) else ""
    refuses = f"the target's chat template refuses {num} of {len(rejects)}{too_long}, e.g. {refused['detail']}"
    cause = f"no row is left: {refuses}; set target.system or target.chat_template"
    return StageError(stage, f"row {refused['id']}", cause)


def require_rows(stage: str, num_rows: int) -> None:
    """Raises:
    StageError: there are no rows to train on.
    """
    if num_rows:
        return
    if stage == "sft":
        cause = "selection chose no SFT row; raise select.*.sft_fraction or samples, or relax select.*.margin"
    else:
        cause = (
            "no preference pair survived selection; widen select.*.margin, lower select.*.sft_fraction, or "
            "raise the sources' samples so that a prompt has better and worse responses"
        )
    raise StageError(stage, "rows", cause)


def _iterate(rows: pa.Table) -> Iterator[Mapping[str, Any]]:
    for batch in rows.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _require_response(stage: str, row: Mapping[str, Any], name: str) -> None:
    messages = row[name]
    if not messages or not (messages[-1]["content"] or "").strip():
        raise StageError(stage, f"row {row['row_id']}", f"the {name} response is empty")


def token_counts(dataset: Dataset, column: str) -> list[int]:
    """Number of tokens in each row of a column of token ids. The ids are not converted to Python integers."""
    ids = dataset.select_columns([column]).with_format("arrow")[:].column(column)
    lengths: list[int] = pc.list_value_length(ids).to_pylist()
    return lengths
