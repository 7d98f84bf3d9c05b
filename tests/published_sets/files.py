"""Writes rows as the files of a hub repository."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

Row = dict[str, Any]


def lines(rows: Iterable[Row]) -> Iterable[str]:
    return (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_jsonl(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(lines(rows)), encoding="utf-8")


def write_parquet(folder: Path, splits: Mapping[str, tuple[list[Row], int]], schema: pa.Schema) -> None:
    """Writes what `push_to_hub` of `datasets` makes: shards in data/, and a card that says the features and sizes.

    Args:
        splits: rows of each split, and the number of its shards.
    """
    (folder / "data").mkdir()
    sizes, paths = [], []
    for split, (rows, num) in splits.items():
        table = pa.Table.from_pylist(rows, schema)
        for shard in range(num):
            start, end = (at * len(rows) // num for at in (shard, shard + 1))
            path = folder / "data" / f"{split}-{shard:05}-of-{num:05}.parquet"
            pq.write_table(table.slice(start, end - start), path)
        sizes.append({"name": split, "num_bytes": table.nbytes, "num_examples": len(rows)})
        paths.append({"split": split, "path": f"data/{split}-*"})
    features = [{"name": field.name} | _feature(field.type) for field in schema]
    card = {
        "dataset_info": {"features": features, "splits": sizes},
        "configs": [{"config_name": "default", "data_files": paths}],
    }
    write_card(folder, card)


def write_card(folder: Path, card: Mapping[str, Any]) -> None:
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card, sort_keys=False)}---\n")


def _feature(kind: pa.DataType) -> Row:
    """A column's type as cards say it."""
    if pa.types.is_list(kind):
        inner = _feature(kind.value_type)
        return {"list": inner["struct"]} if "struct" in inner else {"sequence": inner["dtype"]}
    if pa.types.is_struct(kind):
        return {"struct": [{"name": field.name} | _feature(field.type) for field in kind]}
    return {"dtype": "float64" if pa.types.is_float64(kind) else str(kind)}
