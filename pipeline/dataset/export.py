"""Exports the data set to other trainers' formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import RunDirectoryError, StageError, UserError
from ..recipe import Recipe
from ..records import PROMPT
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from .card import card
from .export_parts import ExportFiles, PromptReference, SelectedData, jsonl
from .json_formats import axolotl, llamafactory, ms_swift
from .parquet_formats import alignment_handbook, trl, verl

FORMATS: dict[str, Callable[[SelectedData], ExportFiles]] = {
    "trl": trl,
    "llamafactory": llamafactory,
    "alignment-handbook": alignment_handbook,
    "axolotl": axolotl,
    "ms-swift": ms_swift,
    "verl": verl,
}


def export(run: RunDir, recipe: Recipe, format_: str, out: Path) -> ExportFiles:
    """Writes the data set and its card into a folder; returns what was written.

    Raises:
        UserError: there is no such format, or the folder is not empty.
        RunDirectoryError: the folder can't be written.
        StageError: the selection has not been run.
    """
    if format_ not in FORMATS:
        raise UserError(f"export: --format {format_}: must be one of {', '.join(FORMATS)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"export: --out {out}: already exists and is not an empty folder")
    exported = files_of(run, recipe, format_)
    try:
        for name, content in exported.files.items():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(content)
    except OSError as error:
        raise RunDirectoryError(f"{out}: can't be written: {error.strerror}") from error
    return exported


def files_of(run: RunDir, recipe: Recipe, format_: str) -> ExportFiles:
    """All files of a format, including the card, and left_out.jsonl if rows are left out."""
    if not run.exists("select", "sft.parquet") or not run.exists("select", "pairs.parquet"):
        raise StageError("export", run.url, "the selection has not been run; `fusechat select` runs it")
    sft, pairs = (run.read_table("select", f"{name}.parquet") for name in ("sft", "pairs"))
    references = _references(run, sft, pairs) if format_ == "verl" else {}
    exported = FORMATS[format_](SelectedData(sft, pairs, references))
    if exported.left_out:
        exported.files["left_out.jsonl"] = jsonl(exported.left_out)
    text = card(run, recipe, sft, pairs, exported.configs, exported.usage)
    exported.files["README.md"] = text.encode("utf-8", "replace")
    return exported


def _references(run: RunDir, sft: pa.Table, pairs: pa.Table) -> dict[str, PromptReference]:
    """Prompt id -> gold answer and tests, of the prompts that have rows."""
    used = pa.array({*sft.column("prompt_id").to_pylist(), *pairs.column("prompt_id").to_pylist()}, pa.string())
    columns = ["gold", "tests", "entry_point"]
    prompts = Parts(run, "prompts/train", PROMPT, "prompt_id").read(columns=columns)
    rows = prompts.filter(pc.is_in(prompts.column("prompt_id"), used)).to_pylist()
    return {r["prompt_id"]: {"gold": r["gold"], "tests": r["tests"], "entry_point": r["entry_point"]} for r in rows}
