"""Prefill tokens that vLLM computes for N = 5 samples a prompt, over those for N = 1, from vLLM's own counters.

`.venv/bin/python tests/bench/prefix_cache.py [--prompts 200]`

Only whole blocks of a prompt are shared (32 tokens on CPUs, 16 on GPUs), and at least the last token of a prompt is
computed for each sample; so the ratio falls with the prompt's length, and it is printed for several.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import small

from fusechat.pipeline.progress import Progress
from fusechat.pipeline.recipe.load import load
from fusechat.pipeline.records import RESPONSE
from fusechat.pipeline.run import Run
from fusechat.pipeline.sampling.batch_worker import sample_units
from fusechat.pipeline.sampling.plan import plan
from fusechat.pipeline.sampling.serve_backend import ServeBackend
from fusechat.pipeline.stages.walk import walk
from fusechat.pipeline.storage.parts import Parts
from fusechat.services.deployments import ServeDeployments

PASSAGE = (Path(__file__).resolve().parents[2] / "LICENSE").read_text().split()


def lengthened(rows: list[dict[str, Any]], words: int) -> list[dict[str, Any]]:
    """The prompts with a passage of so many words in front, another one for each."""
    if not words:
        return rows
    found = []
    for i, row in enumerate(rows):
        start = (i * 7) % (len(PASSAGE) - words)
        found.append({**row, "prompt": f"Passage {i}: {' '.join(PASSAGE[start : start + words])}\n\n{row['prompt']}"})
    return found


def counted(folder: Path, rows: list[dict[str, Any]], samples: int) -> tuple[float, float]:
    """Prefill tokens computed, and prompt tokens a request on average."""
    folder.mkdir()
    source = {"sampling": {"temperature": 0.8, "max_tokens": 16}}
    path = small.recipe(folder, rows, samples=samples, source=source)
    run = Run(load(path), folder, Progress())
    walk(run, ("prompts",))
    one, source_of = run.pinned_sources[0], run.recipe.served[0]
    done = Parts(run.dir, "sample", RESPONSE, "response_id")
    (found,) = plan([one], run.prompts("train"), done, run.recipe.sample.buckets)
    service = run.source_service(source_of, run.model(source_of.model, "smollm2"))
    run.make_deployments = ServeDeployments
    quiet: Callable[[int, int], None] = lambda rows, tokens: None  # noqa: E731
    try:
        run.deployments.start(service)
        run.deployments.wait("smollm2")
        from ray import serve

        handle = serve.get_app_handle("smollm2")
        before = handle.counters.remote().result()
        sample_units(
            run.dir,
            run.prompts("train").folder,
            "sample",
            one,
            ServeBackend("smollm2"),
            found.units,
            run.recipe.sample,
            quiet,
        )
        after = handle.counters.remote().result()
    finally:
        run.close()
    prompt, cached = (after[kind] - before[kind] for kind in ("prompt", "cached"))
    return prompt - cached, prompt / len(rows) / samples


def apart(folder: Path, rows: list[dict[str, Any]], samples: int) -> tuple[float, float]:
    """The count in a process of its own: what Serve keeps in a process does not outlive its Ray."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(counted, folder, rows, samples).result()


def main() -> None:
    """Prints the ratio for real prompts as they are and with longer ones."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=200)
    options = parser.parse_args()
    print(f"{small.machine()}, `{' '.join(sys.argv)}`\n")
    print("| prompt tokens, mean | N = 1, computed | N = 5, computed | ratio |\n| --- | --- | --- | --- |", flush=True)
    for words in (0, 200, 400):
        rows = lengthened(small.prompts(options.prompts), words)
        with tempfile.TemporaryDirectory() as folder:
            one, length = apart(Path(folder, "one"), rows, 1)
            five, _ = apart(Path(folder, "five"), rows, 5)
        print(f"| {length:.0f} | {one:.0f} | {five:.0f} | {five / one:.2f} |", flush=True)


if __name__ == "__main__":
    main()
