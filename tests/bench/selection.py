"""Selection on made-up scores: scores on disk to written data sets, against plain pandas, and margins of any window.

    python tests/bench/selection.py [RESPONSES ...]     # 1000000, or 100000 300000 1000000 3000000
    python tests/bench/selection.py --no-pandas 3000000

Prompts have 4 sources with 5 samples each; texts, scores and verdicts follow from the prompt's number alone. Each step
runs in a process of its own, on two cores; its memory is the largest resident set of that process. pandas is no
requirement of fusechat's own: datasets and trl bring it, so every environment from the lock files has it.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the modules that tests share
from example_recipe import make_recipe, source_tree

from fusechat.pipeline.identities import bucket_of, prompt_id
from fusechat.pipeline.recipe import Recipe
from fusechat.pipeline.records import PROMPT, REJECT, RESPONSE, SCORE
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

SOURCES = ("gemma", "llama", "mistral", "qwen")
SAMPLES = 5
BUCKETS = 16
DOMAINS = ("instruction", "instruction", "math", "code", "chinese")
WORDS = "the a of sum number is then we add both sides so it follows that answer each value left right half"


def recipe(folder: str, buckets: int = BUCKETS) -> Recipe:
    """FuseChat-3.0's rules over the four sources."""
    return make_recipe(
        name="bench",
        run_dir=folder,
        sources=[source_tree(name, samples={"math": SAMPLES}) for name in SOURCES],
        rewards=[{"name": "rm", "kind": "likelihood", "source": "qwen"}],
        sample={"buckets": buckets},
    )


def make(folder: str, num_responses: int) -> None:
    """Writes prompts, samples and scores, a shard a bucket, as the stages leave them."""
    run = RunDir(folder)
    num = num_responses // (len(SOURCES) * SAMPLES)
    buckets: dict[int, list[dict[str, Any]]] = {}
    for i in range(num):
        messages = [{"role": "user", "content": f"Question {i}: how many are there in all, and why?"}]
        identity = prompt_id(messages)
        row = {"prompt_id": identity, "id": str(i), "domain": DOMAINS[i % 5], "messages": messages}
        buckets.setdefault(bucket_of(identity, BUCKETS), []).append(row | {"file": "p.jsonl", "line": i + 1})
    run.write_table(pa.Table.from_pylist([], schema=REJECT), "prompts", "rejects.parquet")
    run.write_json({"recipe": "bench", "target": {}, "settings": recipe(folder).model_dump(mode="json")}, "run.json")
    for bucket, prompts in sorted(buckets.items()):
        Parts(run, "prompts/train", PROMPT, "prompt_id").write(bucket, prompts)
        responses, scores = _bucket(prompts, np.random.default_rng(bucket))
        place = (f"bucket-{bucket:04d}", "all.parquet")
        run.write_table(responses.sort_by("response_id"), "sample", *place)
        run.write_table(scores.sort_by("response_id"), "score", *place)


def _bucket(prompts: list[dict[str, Any]], draw: np.random.Generator) -> tuple[pa.Table, pa.Table]:
    each = len(SOURCES) * SAMPLES
    num = len(prompts) * each
    ids = [f"{draw.bytes(32).hex()}" for _ in range(num)]
    prompt = np.repeat(np.arange(len(prompts)), each)
    domain = pa.array([p["domain"] for p in prompts]).take(pa.array(prompt))
    verified = np.isin(np.array(domain.to_pylist()), ("math", "code"))
    source = pa.array(SOURCES).take(pa.array(np.tile(np.repeat(np.arange(4), SAMPLES), len(prompts))))
    lengths = draw.integers(20, 60, num)
    words = WORDS.split()
    drawn = np.array(words)[draw.integers(0, len(words), int(lengths.sum()))]
    ends = np.cumsum(lengths)
    texts = [" ".join(drawn[e - n : e]) for e, n in zip(ends, lengths, strict=True)]
    cut, refused = draw.random(num) < 0.05, draw.random(num) < 0.005
    shared = {
        "response_id": pa.array(ids),
        "prompt_id": pa.array([p["prompt_id"] for p in prompts]).take(pa.array(prompt)),
        "domain": domain,
        "source": source,
    }
    right = draw.random(num) < np.clip(0.55 + 0.3 * draw.standard_normal(len(prompts)), 0, 1)[prompt]
    reward = 0.15 + 0.02 * draw.standard_normal(len(prompts))[prompt] + 0.02 * draw.standard_normal(num)
    reward[draw.random(num) < 0.01] = np.nan
    columns = shared | {
        "revision": pa.array(["main"] * num),
        "sample_index": pa.array(np.tile(np.arange(SAMPLES), num // SAMPLES), pa.int32()),
        "seed": pa.array(draw.integers(0, 2**31, num)),
        "params": pa.array(['{"temperature": 0.8, "top_p": 0.95}'] * num),
        "template": pa.array(["0" * 64] * num),
        "text": pa.array(["" if r else t for t, r in zip(texts, refused, strict=True)]),
        "finish_reason": pa.array(np.where(refused, "rejected", np.where(cut, "length", "stop"))),
        "reject": pa.array(np.where(refused, "too_long", "")),
        "prompt_tokens": pa.array(np.full(num, 20), pa.int32()),
        "completion_tokens": pa.array(lengths, pa.int32()),
        "flags": pa.array([[]] * num, pa.list_(pa.string())),
    }
    offsets = pa.array(np.arange(num + 1), pa.int32())
    none = pa.array(np.zeros(num + 1), pa.int32())
    scores = shared | {
        "rewards": pa.MapArray.from_arrays(offsets, pa.array(["rm"] * num), pa.array(reward)),
        "reward_rejects": pa.MapArray.from_arrays(none, pa.array([], pa.string()), pa.array([], pa.string())),
        "correct": pa.array(right, mask=~verified),
        "verdict": pa.array(np.where(verified, np.where(right, "right", "wrong"), "none")),
        "detail": pa.array([""] * num),
    }
    return _as(columns, RESPONSE, num), _as(scores, SCORE, num)


def _as(columns: dict[str, Any], schema: pa.Schema, num: int) -> pa.Table:
    """The columns as the schema has them; what is not made up is null."""
    arrays = [columns[f.name] if f.name in columns else pa.nulls(num, f.type) for f in schema]
    return pa.table(arrays, names=schema.names).cast(schema)


def select(folder: str, buckets: int = BUCKETS) -> dict[str, Any]:
    """The stage's work."""
    from fusechat.pipeline.selection.apply_rule import run_select

    return run_select(RunDir(folder), recipe(folder, buckets), "rm")


def plain_pandas(folder: str) -> dict[str, Any]:
    """The same rule as one would write it in pandas: a frame, groupby, apply; rows written with their texts."""
    import pandas as pd

    from fusechat.pipeline.selection.apply_rule import in_sft_share

    rules = recipe(folder).select

    def table(name: str, schema: pa.Schema, key: str, columns: list[str]) -> pd.DataFrame:
        return Parts(RunDir(folder), name, schema, key).read(columns=columns).to_pandas()

    asked = table("prompts/train", PROMPT, "prompt_id", ["domain", "messages"])
    frame = table(
        "sample",
        RESPONSE,
        "response_id",
        ["prompt_id", "source", "text", "finish_reason", "reject", "completion_tokens"],
    )
    rated = table("score", SCORE, "response_id", ["rewards", "correct"])
    rated["reward"] = [dict(r).get("rm") for r in rated.pop("rewards")]
    frame = frame.merge(rated, on="response_id", how="left").merge(asked[["prompt_id", "domain"]], on="prompt_id")

    def pairs_of(mine: pd.DataFrame, verified: bool, rule: Any) -> list[tuple[float, str, Any, Any]]:
        found = []
        for source, group in mine.groupby("source"):
            good, bad = group, group
            if verified:
                good, bad = (group[group["correct"].eq(side)] for side in (True, False))
            good = good.sort_values(["reward", "completion_tokens", "response_id"], ascending=[False, True, True])
            bad = bad.sort_values(["reward", "completion_tokens", "response_id"])
            pair = next(((g, b) for g in good.itertuples() for b in bad.itertuples() if g.text != b.text), None)
            if pair is not None:
                margin = round(pair[0].reward - pair[1].reward, 12)
                top = rule.margin.max if rule.margin.max is not None else float("inf")
                if rule.margin.min <= margin <= top and (verified or margin > 0):
                    found.append((margin, source, *pair))
        return found

    def one(group: pd.DataFrame) -> dict[str, Any] | None:
        domain, prompt = group["domain"].iloc[0], group.name
        rule, verified = rules.rule(domain), domain in ("math", "code")
        usable = group[
            (group["reject"] == "") & (group["text"].str.strip() != "") & (group["finish_reason"] != "length")
        ]
        usable = usable[np.isfinite(usable["reward"])]
        good = usable[usable["correct"].eq(True)] if verified else usable
        if not len(good):
            return None
        share = in_sft_share(prompt, rule)
        found = [] if share else pairs_of(usable, verified, rule)
        row = {"prompt_id": prompt}
        if found:
            _, source, chosen, rejected = min(found, key=lambda p: (-p[0], p[1]))
            row |= {"source": source, "chosen": chosen.text, "rejected": rejected.text}
            return row | {"chosen_id": chosen.response_id, "rejected_id": rejected.response_id}
        if share or rule.fallback_to_sft:
            best = good.sort_values(["reward", "completion_tokens", "response_id"], ascending=[False, True, True]).iloc[
                0
            ]
            return row | {"source": best["source"], "completion": best["text"], "chosen_id": best["response_id"]}
        return None

    rows = pd.DataFrame([r for r in frame.groupby("prompt_id").apply(one) if r is not None])
    rows = rows.merge(asked[["prompt_id", "messages"]], on="prompt_id")
    sft, pairs = rows[rows["rejected_id"].isna()], rows[rows["rejected_id"].notna()]
    sft.to_parquet(f"{folder}/pandas-sft.parquet")
    pairs.to_parquet(f"{folder}/pandas-pairs.parquet")
    return {"sft": len(sft), "pairs": len(pairs)}


def same(folder: str) -> bool:
    """Whether both selected the same responses."""
    import polars as pl

    def ids(name: str, *columns: str) -> list[Any]:
        return sorted(pl.read_parquet(f"{folder}/{name}.parquet", columns=list(columns)).rows())

    return ids("select/sft", "response_id") == ids("pandas-sft", "chosen_id") and ids(
        "select/pairs", "chosen_id", "rejected_id"
    ) == ids("pandas-pairs", "chosen_id", "rejected_id")


def margins(folder: str) -> dict[str, Any]:
    """Three windows, each from the stored scores."""
    from fusechat.pipeline.dataset.margins import load, yields

    found, seconds = {}, {}
    for low, high in ((0.01, 0.1), (0.02, 0.05), (0.0, 1.0)):
        began = time.perf_counter()
        found[f"{low} to {high}"] = sum(y.pairs for y in yields(load(RunDir(folder)), recipe(folder).select, low, high))
        seconds[f"{low} to {high}"] = round(time.perf_counter() - began, 2)
    return {"pairs": found, "seconds": seconds}


def step(what: str, folder: str) -> dict[str, Any]:
    """One step in a process of its own on two cores: its result, seconds and GiB."""
    command = [sys.executable, __file__, "--step", what, folder]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1]) | {"process_s": round(seconds, 2)}


def main() -> None:
    arguments = sys.argv[1:]
    if arguments[:1] == ["--step"]:
        what, folder = arguments[1:]
        work = {"select": select, "pandas": plain_pandas, "margins": margins}[what]
        began = time.perf_counter()
        found = work(folder)
        gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"found": found, "s": round(time.perf_counter() - began, 2), "gib": round(gib, 2)}))
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    with_pandas = "--no-pandas" not in arguments
    for num in [int(a) for a in arguments if a != "--no-pandas"] or [1_000_000]:
        with tempfile.TemporaryDirectory() as folder:
            make(folder, num)
            size = sum(f.stat().st_size for f in Path(folder).rglob("*.parquet")) / 2**20
            print(f"{num} responses, {size:.0f} MiB of shards", flush=True)
            for what in ("select", *(("pandas",) if with_pandas else ()), "margins"):
                print(f"  {what}: {step(what, folder)}", flush=True)
            if with_pandas:
                print(f"  both selected the same: {same(folder)}", flush=True)


if __name__ == "__main__":
    main()
