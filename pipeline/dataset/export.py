"""The data set as other trainers read it: TRL's Parquet, LLaMA-Factory's ShareGPT, alignment-handbook's messages."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import RunDirectoryError, StageError, UserError
from ..identities import fraction_of
from ..recipe import Recipe
from ..records import MESSAGES
from ..storage.run_dir import RunDir
from .card import card

TEST_FRACTION = 0.02
"""Share of the prompts in alignment-handbook's test splits, by hash of the prompt."""

ROLES = {"user": "human", "assistant": "gpt"}
"""ShareGPT's names."""

Files = dict[str, tuple[bytes, int]]
"""Name -> content and rows."""


def export(run: RunDir, recipe: Recipe, format_: str, out: Path) -> dict[str, int]:
    """Writes the data set and its card into a folder; name of each data file -> rows.

    Raises:
        UserError: there is no such format, or the folder holds something.
        RunDirectoryError: the folder can't be written.
        StageError: the selection has not been run.
    """
    if format_ not in FORMATS:
        raise UserError(f"export: --format {format_}: must be one of {', '.join(FORMATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"export: --out {out}: is there already and not an empty folder")
    files = files_of(run, recipe, format_)
    try:
        for name, (content, _) in files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(content)
    except OSError as error:
        raise RunDirectoryError(f"{out}: can't be written: {error.strerror}") from error
    return {name: num for name, (_, num) in files.items() if num or name.endswith(".parquet")}


def files_of(run: RunDir, recipe: Recipe, format_: str) -> Files:
    """All files of a format, the card among them."""
    if not run.exists("select", "sft.parquet") or not run.exists("select", "pairs.parquet"):
        raise StageError("export", run.url, "the selection has not been run; `fusechat select` runs it")
    sft, pairs = (run.read_table("select", f"{name}.parquet") for name in ("sft", "pairs"))
    configs, files = FORMATS[format_](sft, pairs)
    return {**files, "README.md": (card(run, recipe, sft, pairs, configs).encode("utf-8", "replace"), 0)}


def trl(sft: pa.Table, pairs: pa.Table) -> tuple[dict[str, dict[str, str]], Files]:
    """prompt + completion and prompt + chosen + rejected, conversational, with provenance columns."""
    files = {"sft/train.parquet": (_parquet(sft), len(sft)), "pairs/train.parquet": (_parquet(pairs), len(pairs))}
    return {"sft": {"train": "sft/train.parquet"}, "pairs": {"train": "pairs/train.parquet"}}, files


def llamafactory(sft: pa.Table, pairs: pa.Table) -> tuple[dict[str, dict[str, str]], Files]:
    """ShareGPT conversations and the dataset_info.json that names their columns."""
    rows = [{**_sharegpt([*r["prompt"], *r["completion"]]), **_origin(r)} for r in sft.to_pylist()]
    ranked = [
        {
            **_sharegpt(r["prompt"]),
            "chosen": _sharegpt(r["chosen"])["conversations"][0],
            "rejected": _sharegpt(r["rejected"])["conversations"][0],
            **_origin(r),
        }
        for r in pairs.to_pylist()
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
        "fusechat_sft.json": (_json(rows), len(rows)),
        "fusechat_pairs.json": (_json(ranked), len(ranked)),
        "dataset_info.json": (_json(info), 0),
    }
    return {"sft": {"train": "fusechat_sft.json"}, "pairs": {"train": "fusechat_pairs.json"}}, files


def alignment_handbook(sft: pa.Table, pairs: pa.Table) -> tuple[dict[str, dict[str, str]], Files]:
    """Whole conversations as `messages`, or `chosen` and `rejected`, beside the prompt's last turn; train and test."""
    whole = pa.list_(MESSAGES.value_type)
    sft_schema = pa.schema([("prompt", pa.string()), ("messages", whole), *_ORIGIN])
    scores = [("score_chosen", pa.float64()), ("score_rejected", pa.float64())]
    pair_schema = pa.schema([("prompt", pa.string()), ("chosen", whole), ("rejected", whole), *_ORIGIN, *scores])
    rows = [{**_last(r), "messages": [*r["prompt"], *r["completion"]], **_origin(r)} for r in sft.to_pylist()]
    ranked = [
        {
            **_last(r),
            "chosen": [*r["prompt"], *r["chosen"]],
            "rejected": [*r["prompt"], *r["rejected"]],
            "score_chosen": r["chosen_reward"],
            "score_rejected": r["rejected_reward"],
            **_origin(r),
        }
        for r in pairs.to_pylist()
    ]
    files: Files = {}
    configs: dict[str, dict[str, str]] = {"sft": {}, "pairs": {}}
    for config, stage, members, schema in (("sft", "sft", rows, sft_schema), ("pairs", "prefs", ranked, pair_schema)):
        for split in ("train", "test"):
            mine = [r for r in members if (fraction_of(r["prompt_id"], "export") < TEST_FRACTION) == (split == "test")]
            name = f"data/{split}_{stage}.parquet"
            files[name] = (_parquet(pa.Table.from_pylist(mine, schema=schema)), len(mine))
            configs[config][f"{split}_{stage}"] = name
    return configs, files


FORMATS: dict[str, Callable[[pa.Table, pa.Table], tuple[dict[str, dict[str, str]], Files]]] = {
    "trl": trl,
    "llamafactory": llamafactory,
    "alignment-handbook": alignment_handbook,
}

_ORIGIN = [(name, pa.string()) for name in ("row_id", "prompt_id", "domain", "source", "revision")]


def _origin(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name, _ in _ORIGIN}


def _last(row: dict[str, Any]) -> dict[str, str]:
    return {"prompt": row["prompt"][-1]["content"]}


def _sharegpt(messages: list[dict[str, str]]) -> dict[str, Any]:
    """LLaMA-Factory wants turns of human and gpt, and the system message beside them."""
    turns = [{"from": ROLES[m["role"]], "value": m["content"]} for m in messages if m["role"] in ROLES]
    return {"conversations": turns, "system": "\n".join(m["content"] for m in messages if m["role"] == "system")}


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode("utf-8", "replace")


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
