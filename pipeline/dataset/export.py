"""Exports the data set to other trainers' formats: TRL (Parquet), LLaMA-Factory (ShareGPT), alignment-handbook."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import RunDirectoryError, StageError, UserError
from ..identities import fraction_of
from ..recipe import Recipe
from ..records import MESSAGES, Message, PairRow, SftRow
from ..storage.run_dir import RunDir
from .card import card

TEST_FRACTION = 0.02
"""Share of the prompts in alignment-handbook's test splits. The prompt's hash decides."""

ROLES = {"user": "human", "assistant": "gpt"}
"""Role -> ShareGPT's name."""

Files = dict[str, tuple[bytes, int]]
"""File name -> content and number of rows."""
Configs = dict[str, dict[str, str]]
"""Name of a configuration -> split -> file name."""


class ShareGpt(TypedDict):
    """A conversation in LLaMA-Factory's ShareGPT format. The system message is not one of the turns."""

    conversations: list[dict[str, str]]
    system: str


def export(run: RunDir, recipe: Recipe, format_: str, out: Path) -> dict[str, int]:
    """Writes the data set and its card into a folder; returns data file -> number of rows.

    Raises:
        UserError: there is no such format, or the folder is not empty.
        RunDirectoryError: the folder can't be written.
        StageError: the selection has not been run.
    """
    if format_ not in FORMATS:
        raise UserError(f"export: --format {format_}: must be one of {', '.join(FORMATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"export: --out {out}: already exists and is not an empty folder")
    files = files_of(run, recipe, format_)
    try:
        for name, (content, _) in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(content)
    except OSError as error:
        raise RunDirectoryError(f"{out}: can't be written: {error.strerror}") from error
    return {name: num for name, (_, num) in files.items() if num or name.endswith(".parquet")}


def files_of(run: RunDir, recipe: Recipe, format_: str) -> Files:
    """All files of a format, including the card."""
    if not run.exists("select", "sft.parquet") or not run.exists("select", "pairs.parquet"):
        raise StageError("export", run.url, "the selection has not been run; `fusechat select` runs it")
    sft, pairs = (run.read_table("select", f"{name}.parquet") for name in ("sft", "pairs"))
    configs, files = FORMATS[format_](sft, pairs)
    return {**files, "README.md": (card(run, recipe, sft, pairs, configs).encode("utf-8", "replace"), 0)}


def trl(sft: pa.Table, pairs: pa.Table) -> tuple[Configs, Files]:
    """Conversational prompt + completion, and prompt + chosen + rejected, with provenance columns."""
    files = {"sft/train.parquet": (_parquet(sft), len(sft)), "pairs/train.parquet": (_parquet(pairs), len(pairs))}
    return {"sft": {"train": "sft/train.parquet"}, "pairs": {"train": "pairs/train.parquet"}}, files


def llamafactory(sft: pa.Table, pairs: pa.Table) -> tuple[Configs, Files]:
    """ShareGPT conversations, and the dataset_info.json that defines their columns."""
    sft_rows, pair_rows = _rows(sft, pairs)
    conversations = [{**_sharegpt([*r["prompt"], *r["completion"]]), **_origin(r)} for r in sft_rows]
    ranked = [
        {
            **_sharegpt(r["prompt"]),
            "chosen": _sharegpt(r["chosen"])["conversations"][0],
            "rejected": _sharegpt(r["rejected"])["conversations"][0],
            **_origin(r),
        }
        for r in pair_rows
    ]
    tags = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}
    columns = {"messages": "conversations", "system": "system"}
    info = {
        "fusechat_sft": {
            "file_name": "fusechat_sft.json",
            "formatting": "sharegpt",
            "columns": columns,
            "tags": tags,
        },
        "fusechat_pairs": {
            "file_name": "fusechat_pairs.json",
            "formatting": "sharegpt",
            "ranking": True,
            "columns": {**columns, "chosen": "chosen", "rejected": "rejected"},
            "tags": tags,
        },
    }
    files = {
        "fusechat_sft.json": (_json(conversations), len(conversations)),
        "fusechat_pairs.json": (_json(ranked), len(ranked)),
        "dataset_info.json": (_json(info), 0),
    }
    return {"sft": {"train": "fusechat_sft.json"}, "pairs": {"train": "fusechat_pairs.json"}}, files


def alignment_handbook(sft: pa.Table, pairs: pa.Table) -> tuple[Configs, Files]:
    """Whole conversations as `messages`, or as `chosen` and `rejected`, with the last turn of the prompt; in train and
    test splits."""
    sft_rows, pair_rows = _rows(sft, pairs)
    conversation = pa.list_(MESSAGES.value_type)
    sft_schema = pa.schema([("prompt", pa.string()), ("messages", conversation), *_ORIGIN])
    scores = [("score_chosen", pa.float64()), ("score_rejected", pa.float64())]
    pair_schema = pa.schema(
        [("prompt", pa.string()), ("chosen", conversation), ("rejected", conversation), *_ORIGIN, *scores]
    )
    conversations: list[dict[str, object]] = [
        {"prompt": r["prompt"][-1]["content"], "messages": [*r["prompt"], *r["completion"]], **_origin(r)}
        for r in sft_rows
    ]
    ranked: list[dict[str, object]] = [
        {
            "prompt": r["prompt"][-1]["content"],
            "chosen": [*r["prompt"], *r["chosen"]],
            "rejected": [*r["prompt"], *r["rejected"]],
            "score_chosen": r["chosen_reward"],
            "score_rejected": r["rejected_reward"],
            **_origin(r),
        }
        for r in pair_rows
    ]
    files: Files = {}
    configs: Configs = {"sft": {}, "pairs": {}}
    for config, stage, rows, schema in (
        ("sft", "sft", conversations, sft_schema),
        ("pairs", "prefs", ranked, pair_schema),
    ):
        for split in ("train", "test"):
            selected = [r for r in rows if _is_test(str(r["prompt_id"])) == (split == "test")]
            name = f"data/{split}_{stage}.parquet"
            files[name] = (_parquet(pa.Table.from_pylist(selected, schema=schema)), len(selected))
            configs[config][f"{split}_{stage}"] = name
    return configs, files


FORMATS: dict[str, Callable[[pa.Table, pa.Table], tuple[Configs, Files]]] = {
    "trl": trl,
    "llamafactory": llamafactory,
    "alignment-handbook": alignment_handbook,
}

_ORIGIN = [(name, pa.string()) for name in ("row_id", "prompt_id", "domain", "source", "revision")]


def _rows(sft: pa.Table, pairs: pa.Table) -> tuple[list[SftRow], list[PairRow]]:
    return sft.to_pylist(), pairs.to_pylist()


def _origin(row: SftRow | PairRow) -> dict[str, str]:
    return {
        "row_id": row["row_id"],
        "prompt_id": row["prompt_id"],
        "domain": row["domain"],
        "source": row["source"],
        "revision": row["revision"],
    }


def _is_test(prompt_id: str) -> bool:
    return fraction_of(prompt_id, "export") < TEST_FRACTION


def _sharegpt(messages: Sequence[Message]) -> ShareGpt:
    turns = [{"from": ROLES[m["role"]], "value": m["content"]} for m in messages if m["role"] in ROLES]
    return {"conversations": turns, "system": "\n".join(m["content"] for m in messages if m["role"] == "system")}


def _json(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "replace")


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
