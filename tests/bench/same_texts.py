"""Whether the same recipe and seed give the same texts again: greedy and seeded sampling, each run twice.

`.venv/bin/python tests/bench/same_texts.py [--prompts 150]`

vLLM promises the same tokens for a seed only where a request's batch is the same too: matrix products in bfloat16 round
differently for other batch shapes, and which requests share a batch hangs on timing. Identities and seeds are the same
in any case.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import small

from fusechat.pipeline.records import RESPONSE
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

FUSECHAT = str(Path(sys.executable).with_name("fusechat"))


def texts(folder: Path, num: int, temperature: float, dtype: str) -> dict[str, str]:
    """Identity -> text of one run."""
    folder.mkdir()
    source = {
        "sampling": {"temperature": temperature, "max_tokens": 48},
        "engine": {"dtype": dtype, "max_model_len": 1024},
    }
    path = small.recipe(folder, small.prompts(num), samples=1, source=source)
    for stage in ("prompts", "sample"):
        subprocess.run([FUSECHAT, stage, str(path)], check=True, stderr=subprocess.DEVNULL)
    rows = Parts(RunDir(str(folder / "run")), "sample", RESPONSE, "response_id").read().to_pylist()
    return {r["response_id"]: r["text"] for r in rows}


def main() -> None:
    """Prints the share of equal texts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=150)
    options = parser.parse_args()
    print(f"{small.machine()}, `{' '.join(sys.argv)}`\n")
    print("| sampling | dtype | same identities | same texts |\n| --- | --- | --- | --- |", flush=True)
    for temperature, dtype in ((0.0, "bfloat16"), (0.8, "bfloat16"), (0.8, "float32")):
        with tempfile.TemporaryDirectory() as top:
            one, two = (texts(Path(top, name), options.prompts, temperature, dtype) for name in ("one", "two"))
        same = sum(one[i] == two.get(i) for i in one) / len(one)
        kind = "greedy" if temperature == 0 else f"seeded, temperature {temperature:g}"
        print(f"| {kind} | {dtype} | {'yes' if one.keys() == two.keys() else 'NO'} | {100 * same:.1f}% |", flush=True)


if __name__ == "__main__":
    main()
