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
    """gguf's reader, over a plain array: each slice of a memory map, one a token, costs as much as ten of these."""

    @property
    def data(self) -> npt.NDArray[np.uint8]:
        """The file's bytes."""
        return self._data

    @data.setter
    def data(self, mapped: npt.NDArray[np.uint8]) -> None:
        self._data = np.asarray(mapped)


def convert(file: Path, folder: Path) -> None:
    """Writes safetensors, config and tokenizer; the chat template is kept where the GGUF carries one.

    For a process of its own: transformers reads the file once for each of the three, which takes most of the time, and
    finds what was read the first time.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    gguf.GGUFReader = cache(GGUFReader)
    place, name = str(file.parent), file.name
    model = AutoModelForCausalLM.from_pretrained(
        place, gguf_file=name, quantization_config=GgufConfig(dequantize=True), dtype=torch.bfloat16
    )
    tokenizer = AutoTokenizer.from_pretrained(place, gguf_file=name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
