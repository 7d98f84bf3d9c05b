"""A small table of numbered rows for tests of the storage. Its schema is none of the pipeline's own."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from fusechat.pipeline.identities import digest
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("value", pa.int64()),
    ]
)


def row(num: int, value: int = 0) -> dict[str, Any]:
    """The row with the id `r<num>`; each row belongs to a prompt of its own."""
    return {"id": f"r{num:03d}", "prompt_id": digest(num), "value": value}


def parts(run: RunDir) -> Parts:
    """The table in the run directory's folder `stage`."""
    return Parts(run, "stage", SCHEMA, "id")
