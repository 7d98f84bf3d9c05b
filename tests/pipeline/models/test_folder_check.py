"""What can be seen of a model folder before an engine is started on it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from fusechat.pipeline.models.folder_check import problem


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As transformers saves a model; the file is as the safetensors library writes it."""
    tensors = {"a": {"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 48]}}
    tensors["b"] = {"dtype": "F32", "shape": [5], "data_offsets": [48, 68]}
    header = json.dumps({"__metadata__": {"format": "pt"}, **tensors}).encode()
    header += b" " * (-len(header) % 8)
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(68))
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"]}))
    return tmp_path


def cut(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-4])


def test_a_whole_folder_has_no_problem(folder: Path) -> None:
    assert problem(folder) is None
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert problem(folder) is None


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (cut, "model.safetensors: has "),
        (lambda f: (f / "model.safetensors").write_bytes(b""), "model.safetensors: is not a safetensors file"),
        (lambda f: (f / "model.safetensors").write_text("version https://git-lfs"), "is not a safetensors file"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"[]"), "is not a safetensors file"),
        (lambda f: (f / "model.safetensors").unlink(), "contains no weights"),
        (lambda f: (f / "config.json").write_text("{"), "config.json can't be read: "),
        (lambda f: (f / "config.json").write_text("[1]"), "config.json names no architectures"),
        (lambda f: (f / "config.json").write_text("{}"), "config.json names no architectures"),
        (lambda f: (f / "config.json").unlink(), "config.json can't be read: "),
    ],
)
def test_what_is_broken_is_said_in_one_line(folder: Path, harm: Callable[[Path], object], why: str) -> None:
    harm(folder)
    found = problem(folder)
    assert found is not None
    assert why in found
    assert "\n" not in found
