"""Assumptions of `fusechat plan` when nothing was measured: response lengths, accelerators, sizes of models."""

from __future__ import annotations

import re
from dataclasses import dataclass

SHARE_OF_MAX_TOKENS = 0.5
"""Expected length of a response, as a share of `max_tokens`, if no length was measured."""
CHARS_PER_TOKEN = 4.0


@dataclass(frozen=True, slots=True)
class Accelerator:
    """Model of hardware that was not measured: a decoding step reads all weights once and computes two operations per
    parameter and sequence, at shares of these data sheet figures."""

    bandwidth: float
    """TB/s of device memory."""
    compute: float
    """Dense bfloat16 TFLOP/s."""
    memory: float = 0.0
    """GB."""


ACCELERATORS = {
    "H100": Accelerator(3.35, 989, 80),
    "H200": Accelerator(4.8, 989, 141),
    "A100": Accelerator(1.56, 312, 40),
    "A100-40G": Accelerator(1.56, 312, 40),
    "A100-80G": Accelerator(2.0, 312, 80),
    "L40S": Accelerator(0.86, 362, 48),
    "L4": Accelerator(0.3, 121, 24),
    "A10G": Accelerator(0.6, 70, 24),
}
"""Ray's accelerator type -> data sheet figures."""

UNKNOWN_PARAMETERS = 8e9
UNNAMED_SIZES = {"mistral-large": 123e9}
"""Parameters of models whose names do not contain their size."""


def size_in_name(name: str) -> float:
    """Parameters according to a model's name ("Qwen2.5-72B-Instruct", "135m"); 8e9 if the name has no size."""
    for known, size in UNNAMED_SIZES.items():
        if known in name.lower():
            return size
    found = re.findall(r"(?<![\w.])(\d+(?:\.\d+)?)([bBmM])(?![a-zA-Z])", name.replace("-", " ").replace("_", " "))
    sizes = [float(number) * (1e9 if unit in "bB" else 1e6) for number, unit in found]
    return max(sizes) if sizes else UNKNOWN_PARAMETERS
