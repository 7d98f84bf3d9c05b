"""GGUF to a transformers folder in bfloat16: `python -m fusechat.pipeline.models.gguf FILE FOLDER`."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import gguf
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


class GGUFReader(gguf.GGUFReader):  # type: ignore[misc]
    """gguf's reader over a plain array. It takes one slice per token; slicing a memory map takes ten times as long."""

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """The file's bytes."""
        return self._data

    @data.setter
    def data(self, mapped: npt.NDArray[np.uint8]) -> None:
        self._data = np.asarray(mapped)


def convert(file: Path, folder: Path) -> None:
    """Writes safetensors, config and tokenizer, with the chat template if the GGUF file contains one.

    Must run in a separate process, because it replaces gguf's reader by a cached one: transformers reads the file once
    for each of the three, which would take most of the time.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf.GGUFReader = cache(GGUFReader)
    folder_of_file, name = str(file.parent), file.name
    model = AutoModelForCausalLM.from_pretrained(
        folder_of_file, gguf_file=name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    tokenizer = AutoTokenizer.from_pretrained(folder_of_file, gguf_file=name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
