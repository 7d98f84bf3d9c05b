"""Stand-ins for the eight data sets of FuseChat-3.0: the published schemas, files and splits, with rows of our own.

What is imitated, since it matters to whoever reads them: duplicates, prompts of code and of mathematics among others,
two rows a prompt, turn marks inside a text, solutions that are wrong, examples and tests inside texts, filled inputs.
The rows depend on nothing but their number.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .chinese import write_alpaca, write_magpie_chinese
from .english import write_helpsteer2, write_magpie_pro, write_ultrafeedback
from .exercises import write_leetcode, write_open_math, write_self_oss

COMMITS = {
    "openbmb/UltraFeedback": "40b436560ca83a8dba36114c22ab3c66e43f6d5e",
    "Magpie-Align/Magpie-Pro-DPO-100K-v0.1": "14c54207fd8b3f4ad111d02e7d0cec12a8876f0d",
    "nvidia/HelpSteer2": "8f07aff2849f4f29bd3aba8e12735b0fab4b1ad9",
    "nvidia/OpenMathInstruct-2": "b5962b8ab12ad83482a01914004812b89b802758",
    "bigcode/self-oss-instruct-sc2-exec-filter-50k": "356bb069eee815daa6e23e9a282eeefe1490ad44",
    "llamafactory/alpaca_gpt4_zh": "065394ee242c43928298de8f43a8748ffd16f3e3",
    "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese": "ee71d5dbafec166eac8f5dcf9e581c90c56ce631",
}
"""Commits of the published sets, for a recipe that names them. Of greengerong/leetcode none is known in full."""


WRITERS: dict[str, Callable[[Path, int], None]] = {
    "openbmb/UltraFeedback": write_ultrafeedback,
    "Magpie-Align/Magpie-Pro-DPO-100K-v0.1": write_magpie_pro,
    "nvidia/HelpSteer2": write_helpsteer2,
    "nvidia/OpenMathInstruct-2": write_open_math,
    "greengerong/leetcode": write_leetcode,
    "bigcode/self-oss-instruct-sc2-exec-filter-50k": write_self_oss,
    "llamafactory/alpaca_gpt4_zh": write_alpaca,
    "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese": write_magpie_chinese,
}
"""Writes a set's files to its folder, by the set's name."""


def write_sets(root: Path, rows: int = 40) -> list[str]:
    """Writes the eight sets to ROOT/datasets/OWNER/NAME.

    Args:
        rows: rows of each set's train split (`train_1M` of OpenMathInstruct-2, whose other splits have more).

    Returns:
        The sets' names, owner/name.
    """
    for name, write in WRITERS.items():
        folder = root / "datasets" / name
        folder.mkdir(parents=True)
        write(folder, rows)
    return list(WRITERS)
