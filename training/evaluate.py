"""Answers of target, SFT and DPO models to the held-out prompts, verified and rated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from fusechat.pipeline.config import DOMAINS, Evaluate, Model, Recipe, Source
from fusechat.pipeline.records import ANSWER

MODELS = ("target", "sft", "dpo")


def as_source(name: str, config: Evaluate) -> Source:
    """A model under evaluation, asked like any source: every domain, one greedy answer a prompt."""
    return Source(
        name=f"model-{name}",
        model=Model(path=name),
        engine=config.engine,
        placement=config.placement,
        sampling=config.sampling,
        samples=dict.fromkeys(DOMAINS, 1),
    )


def answers(
    responses: list[dict[str, Any]],
    prompts: Mapping[str, Mapping[str, Any]],
    verdicts: Mapping[str, Mapping[str, Any]],
    ratings: Mapping[str, Mapping[str, Any]],
) -> pa.Table:
    """The ANSWER table, by model and prompt."""
    rows = []
    for r in responses:
        prompt = prompts[r["prompt_id"]]
        verdict = verdicts.get(r["response_id"])
        rating = ratings.get(r["response_id"])
        rows.append(
            {
                "answer_id": r["response_id"],
                "model": r["source"].removeprefix("model-"),
                "prompt_id": r["prompt_id"],
                "id": prompt["id"],
                "domain": prompt["domain"],
                "template_seen": prompt["template_seen"],
                "prompt": "\n\n".join(m["content"] for m in prompt["messages"]),
                "text": r["text"],
                "finish_reason": r["finish_reason"],
                "completion_tokens": r["completion_tokens"],
                "correct": verdict["correct"] if verdict else None,
                "verdict": verdict["verdict"] if verdict else (r["reject"] or "unverified"),
                "rating": rating["score"] if rating else None,
            }
        )
    order = {name: i for i, name in enumerate(MODELS)}
    rows.sort(key=lambda row: (order[row["model"]], row["domain"], row["id"]))
    return pa.Table.from_pylist(rows, schema=ANSWER)


def judged(recipe: Recipe, responses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Answers that only a judge can rate: no gold, no tests."""
    if recipe.evaluate.judge is None:
        return []
    return [r for r in responses if r["domain"] in ("instruction", "chinese") and r["text"].strip()]
