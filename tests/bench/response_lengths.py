"""Lengths of real responses, in tokens, for the training benchmarks: makes response_lengths.json.

    python tests/bench/response_lengths.py

SmolLM2-135M answers 200 prompts of `../shared/prompts` (100 instructions, 60 of math, 40 of code) at temperature 0.8
with at most 1,024 tokens; about four minutes. The file that lies here is what it wrote on 2026-11-25, so the
benchmarks need neither the prompts nor the model.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
import small

LENGTHS = Path(__file__).with_suffix(".json")
PROMPTS = {"instruction": 100, "math_train": 60, "code_train": 40}


def main() -> None:
    """Samples, and writes [prompt tokens, response tokens] of the responses that ended by themselves."""
    shared = Path(__file__).resolve().parents[3] / "shared" / "prompts"
    rows = []
    for name, num in PROMPTS.items():
        lines = (shared / f"{name}.jsonl").read_text("utf-8").splitlines()
        step = len(lines) // num
        for line in lines[: num * step : step]:
            row = json.loads(line)
            rows.append({"id": row["id"], "domain": "instruction", "prompt": row["prompt"]})
    with tempfile.TemporaryDirectory() as folder:
        source = {
            "engine": {"dtype": "bfloat16", "max_model_len": 2048},
            "sampling": {"temperature": 0.8, "max_tokens": 1024},
        }
        path = small.recipe(Path(folder), rows, samples=1, source=source)
        for stage in ("prompts", "sample"):
            subprocess.run([small.FUSECHAT, stage, str(path)], check=True)
        found = []
        for file in sorted(Path(folder, "run", "sample").rglob("*.parquet")):
            table = pq.read_table(file)
            if "completion_tokens" in table.column_names:
                columns = ("prompt_tokens", "completion_tokens", "finish_reason")
                found += zip(*(table[c].to_pylist() for c in columns), strict=True)
    kept = sorted([prompt, response] for prompt, response, reason in found if reason == "stop")
    LENGTHS.write_text(json.dumps(kept) + "\n", "utf-8")
    sizes = sorted(response for _, response in kept)
    print(f"{len(kept)} of {len(found)} ended; median {sizes[len(sizes) // 2]}, longest {sizes[-1]}")


if __name__ == "__main__":
    main()
