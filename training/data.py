"""From selected rows to tokens: the target's own template, loss on the response alone, every cut counted."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fusechat.pipeline.errors import RecipeError, StageError
from fusechat.pipeline.records import REJECT

KEY = "target.chat_template"

IGNORED = -100
"""Label of a token outside the loss (torch's and transformers' convention)."""

SFT_TOKENS = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])
PAIR_TOKENS = pa.schema([(name, pa.list_(pa.int32())) for name in ("prompt_ids", "chosen_ids", "rejected_ids")])

PAD_TOKENS = ("<|finetune_right_pad_id|>", "<pad>", "<|pad|>", "[PAD]", "<|endoftext|>", "<unk>")
"""Tokens that pad where a tokenizer names none, best first; the end-of-turn token only as a last resort."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What a training reads."""

    table: pa.Table
    """SFT_TOKENS or PAIR_TOKENS, a line a row."""
    row_ids: list[str]
    """Of the table's lines."""
    num_truncated: int
    """Rows whose response was cut at `max_length`; they lost their end-of-turn token."""
    rejects: pa.Table
    """REJECT: rows whose prompt alone fills `max_length`."""


@dataclass(slots=True)
class Template:
    """A tokenizer's chat template with its end-of-turn token.

    Raises:
        RecipeError: there is no template, it fails on a conversation, or nothing ends an assistant's turn.
    """

    tokenizer: Any
    end_ids: tuple[int, ...] = ()
    """Tokens that end generation, as the model's generation config has them."""
    tail: str = field(init=False)
    """What the template writes after the assistant's words."""
    end_id: int = field(init=False)
    """The end-of-turn token; the last token of every response and part of the loss."""

    def __post_init__(self) -> None:
        if not self.tokenizer.chat_template:
            raise RecipeError("target.chat_template", None, "the target brings no chat template; name a Jinja file")
        probe = "response-probe"
        try:
            text = self.render([{"role": "user", "content": "x"}, {"role": "assistant", "content": probe}])
        except Exception as error:
            raise RecipeError("target.chat_template", str(error), "the template must render a conversation") from error
        if probe not in text:
            raise RecipeError(KEY, text, "the template must write the assistant's message")
        self.tail = text[text.rindex(probe) + len(probe) :]
        ids = self.tokenizer(self.tail, add_special_tokens=False)["input_ids"]
        stops = {*self.end_ids, self.tokenizer.eos_token_id}
        special = {i for i, token in self.tokenizer.added_tokens_decoder.items() if token.special}
        ends = [i for i in ids if i in stops] or [i for i in ids if i in special]
        if not ends and self.tokenizer.eos_token_id is None:
            allowed = "the template ends no turn and the tokenizer has no eos_token"
            raise RecipeError(KEY, self.tail, allowed)
        # A template that ends no turn leaves that to the model's end-of-sequence token.
        self.end_id = ends[0] if ends else self.tokenizer.eos_token_id

    def render(self, messages: Sequence[Mapping[str, str]], *, prompt: bool = False) -> str:
        """The conversation as text; with `prompt`, up to where the assistant starts to write."""
        text: str = self.tokenizer.apply_chat_template(
            [dict(m) for m in messages], tokenize=False, add_generation_prompt=prompt
        )
        return text

    def encode(self, text: str) -> list[int]:
        """Token ids. The template writes its own BOS, so none is added; a second one is dropped."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        bos = self.tokenizer.bos_token_id
        while bos is not None and ids[:2] == [bos, bos]:
            ids = ids[1:]
        return ids

    def prompt_and_response(
        self, prompt: Sequence[Mapping[str, str]], response: Sequence[Mapping[str, str]]
    ) -> tuple[list[int], list[int]]:
        """Ids of the prompt as inference sees it, and of the response with its end-of-turn token."""
        head = self.render(prompt, prompt=True)
        whole = self.render([*prompt, *response])
        prompt_ids, ids = self.encode(head), self.encode(whole)
        if whole.startswith(head) and ids[: len(prompt_ids)] == prompt_ids:
            answer = ids[len(prompt_ids) :]
        else:  # the template or a merge of tokens differs across the border; the prompt of inference decides
            rest = whole[len(head) :] if whole.startswith(head) else response[-1]["content"].strip() + self.tail
            answer = self.tokenizer(rest, add_special_tokens=False)["input_ids"]
        if self.end_id in answer:  # what a template writes after the turn's end (a line break) is never generated
            last = len(answer) - 1 - answer[::-1].index(self.end_id)
            return prompt_ids, answer[: last + 1]
        return prompt_ids, [*answer, self.end_id]


def load_tokenizer(model: Path, chat_template: str | None) -> Any:
    """The target's tokenizer with its template, or with `chat_template` (Jinja text) in its place.

    The padding token never decides what is in the loss: labels say that by position.
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


def end_ids(model: Path) -> tuple[int, ...]:
    """The end tokens of the model's generation config."""
    from transformers import GenerationConfig

    if not (model / "generation_config.json").exists():
        return ()
    ends = GenerationConfig.from_pretrained(model).eos_token_id
    return () if ends is None else (ends,) if isinstance(ends, int) else tuple(ends)


def tokenize_sft(rows: pa.Table, template: Template, max_length: int) -> Tokens:
    """SFT_ROW to SFT_TOKENS.

    Raises:
        StageError: there are no rows, a response is empty, or no row is short enough.
    """

    def row(line: Mapping[str, Any]) -> tuple[int, dict[str, list[int]], bool]:
        _refuse_empty("sft", line, "completion")
        prompt, answer = template.prompt_and_response(line["prompt"], line["completion"])
        cut = len(prompt) + len(answer) > max_length
        ids = (prompt + answer)[:max_length]
        labels = ([IGNORED] * len(prompt) + answer)[:max_length]
        return len(prompt), {"input_ids": ids, "labels": labels}, cut

    return _tokenize("sft", rows, row, SFT_TOKENS, max_length)


def tokenize_pairs(rows: pa.Table, template: Template, max_length: int) -> Tokens:
    """PAIR to PAIR_TOKENS. A pair counts as truncated when either response was cut.

    Raises:
        StageError: there are no pairs, a response is empty, or no pair is short enough.
    """

    def row(line: Mapping[str, Any]) -> tuple[int, dict[str, list[int]], bool]:
        for name in ("chosen", "rejected"):
            _refuse_empty("dpo", line, name)
        prompt, chosen = template.prompt_and_response(line["prompt"], line["chosen"])
        _, rejected = template.prompt_and_response(line["prompt"], line["rejected"])
        room = max_length - len(prompt)
        cut = max(len(chosen), len(rejected)) > room
        kept = max(room, 0)
        ids = {"prompt_ids": prompt, "chosen_ids": chosen[:kept], "rejected_ids": rejected[:kept]}
        return len(prompt), ids, cut

    return _tokenize("dpo", rows, row, PAIR_TOKENS, max_length)


def _tokenize(
    stage: str,
    rows: pa.Table,
    row: Callable[[Mapping[str, Any]], tuple[int, dict[str, list[int]], bool]],
    schema: pa.Schema,
    max_length: int,
) -> Tokens:
    refuse_no_rows(stage, rows.num_rows)
    kept: list[dict[str, list[int]]] = []
    rejects: list[dict[str, str]] = []
    row_ids: list[str] = []
    num_truncated = 0
    for line in _lines(rows):
        num_prompt, ids, cut = row(line)
        if num_prompt >= max_length:
            detail = f"{num_prompt} tokens of prompt, {stage}.max_length is {max_length}"
            rejects.append({"stage": stage, "id": line["row_id"], "reason": "prompt_too_long", "detail": detail})
            continue
        num_truncated += cut
        kept.append(ids)
        row_ids.append(line["row_id"])
    if not kept:
        cause = f"every prompt alone has {max_length} tokens or more; raise {stage}.max_length"
        raise StageError(stage, rejects[0]["id"], cause)
    return Tokens(
        table=pa.Table.from_pylist(kept, schema=schema),
        row_ids=row_ids,
        num_truncated=num_truncated,
        rejects=pa.Table.from_pylist(rejects, schema=REJECT),
    )


def refuse_no_rows(stage: str, num_rows: int) -> None:
    """Raises:
    StageError: there is nothing to train on.
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


def _lines(rows: pa.Table) -> Iterator[Mapping[str, Any]]:
    for batch in rows.to_batches(max_chunksize=1024):
        yield from batch.to_pylist()


def _refuse_empty(stage: str, line: Mapping[str, Any], name: str) -> None:
    messages = line[name]
    if not messages or not (messages[-1]["content"] or "").strip():
        raise StageError(stage, f"row {line['row_id']}", f"the {name} response is empty")


def num_tokens(dataset: Any, column: str) -> list[int]:
    """Tokens in each row of a column of ids, without making Python's numbers of the ids.

    Args:
        dataset: datasets.Dataset.
    """
    found = dataset.select_columns([column]).with_format("arrow")[:].column(column)
    lengths: list[int] = pc.list_value_length(found).to_pylist()
    return lengths


class GlobalBatches:
    """Order of the rows, epoch by epoch: a random permutation, sorted by length inside each global batch.

    A step's rows are those of a random order, so the mathematics stay; rows of like length share a
    micro-batch, so padding shrinks. The order hangs on the seed and the epoch alone, so a resumed training
    sees it again.
    """

    def __init__(self, lengths: Iterable[int], global_batch_size: int, seed: int, epoch: Callable[[], int]) -> None:
        self.lengths, self.size, self.seed, self.epoch = list(lengths), global_batch_size, seed, epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        for batch in self._batches(self.epoch()):
            yield from self.arranged(batch)

    def of_step(self, step: int) -> list[int]:
        """The rows of one step; steps count from 1 through all epochs."""
        epoch, batch = divmod(step - 1, math.ceil(len(self.lengths) / self.size))
        return sorted(self._batches(epoch)[batch])

    def arranged(self, batch: Sequence[int]) -> list[int]:
        """One global batch in the order in which its micro-batches are cut."""
        return sorted(batch, key=lambda i: (self.lengths[i], i))

    def _batches(self, epoch: int) -> list[list[int]]:
        order = list(range(len(self.lengths)))
        random.Random(f"{self.seed}/{epoch}").shuffle(order)
        return [order[start : start + self.size] for start in range(0, len(order), self.size)]
