"""Records of responses."""

from __future__ import annotations

from typing import TypedDict

import pyarrow as pa

from .prompt_records import Domain

RESPONSE = pa.schema(
    [
        pa.field("response_id", pa.string(), nullable=False),
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("domain", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("revision", pa.string(), nullable=False),
        pa.field("sample_index", pa.int32(), nullable=False),
        pa.field("seed", pa.int64(), nullable=False),
        pa.field("params", pa.string(), nullable=False),  # sampling parameters as JSON
        pa.field("template", pa.string(), nullable=False),  # sha256 of the chat template
        pa.field("text", pa.string(), nullable=False),
        pa.field("finish_reason", pa.string(), nullable=False),  # stop, length, imported, rejected ...
        pa.field("reject", pa.string(), nullable=False),  # reason for a missing response; otherwise empty
        pa.field("prompt_tokens", pa.int32(), nullable=False),
        pa.field("completion_tokens", pa.int32(), nullable=False),
        pa.field("flags", pa.list_(pa.string()), nullable=False),  # truncated, empty, refused, duplicate
    ]
)


class WantedResponse(TypedDict):
    """A wanted response before it is sampled: RESPONSE without the columns that the model adds."""

    response_id: str
    prompt_id: str
    domain: Domain
    source: str
    revision: str
    sample_index: int
    seed: int
    params: str
    template: str


class ResponseRow(WantedResponse):
    """A row of RESPONSE."""

    text: str
    finish_reason: str
    reject: str
    prompt_tokens: int
    completion_tokens: int
    flags: list[str]


FINISHED = ("stop", "imported")
"""Finish reasons of complete responses."""
