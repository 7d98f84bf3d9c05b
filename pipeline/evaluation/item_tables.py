"""The tables ANSWER (held-out prompts) and ITEM (suites), with verdicts, ratings and judgements."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import pyarrow as pa

from ..recipe import Recipe
from ..records import ANSWER, ITEM, AnswerRow, ItemRow, PromptRow, ResponseRow, RewardRow, VerdictRow
from .harness import HarnessScore
from .win_rates import style_of


def answers(
    responses: Sequence[ResponseRow],
    prompts: Mapping[str, PromptRow],
    verdicts: Mapping[str, VerdictRow],
    ratings: Mapping[str, RewardRow],
    models: Mapping[str, str],
) -> pa.Table:
    """The ANSWER table, sorted by model and prompt.

    Args:
        models: source name of a response -> model name, in the order of the models.
    """
    rows: list[AnswerRow] = []
    for r in responses:
        prompt = prompts[r["prompt_id"]]
        verdict = verdicts.get(r["response_id"])
        rating = ratings.get(r["response_id"])
        rows.append(
            {
                "answer_id": r["response_id"],
                "model": models[r["source"]],
                "prompt_id": r["prompt_id"],
                "id": prompt["id"],
                "domain": prompt["domain"],
                "template_seen": prompt["template_seen"],
                "prompt": conversation(prompt),
                "text": r["text"],
                "finish_reason": r["finish_reason"],
                "completion_tokens": r["completion_tokens"],
                "correct": verdict["correct"] if verdict else None,
                "verdict": verdict["verdict"] if verdict else (r["reject"] or "unverified"),
                "rating": rating["score"] if rating else None,
            }
        )
    order = {name: i for i, name in enumerate(models.values())}
    rows.sort(key=lambda row: (order[row["model"]], row["domain"], row["id"]))
    return pa.Table.from_pylist(rows, schema=ANSWER)


def rated(recipe: Recipe, responses: Sequence[ResponseRow]) -> list[ResponseRow]:
    """The answers that a judge rates, because they have neither gold nor tests."""
    if recipe.evaluate.judge is None:
        return []
    return [r for r in responses if r["domain"] in ("instruction", "chinese") and r["text"].strip()]


def conversation(prompt: PromptRow) -> str:
    """A prompt's messages as one text."""
    return "\n\n".join(m["content"] for m in prompt["messages"])


def verified_items(
    suite: str,
    model: str,
    responses: Sequence[ResponseRow],
    prompts: Mapping[str, PromptRow],
    verdicts: Mapping[str, VerdictRow],
    scores: Mapping[str, tuple[float | None, str]] = {},
) -> list[ItemRow]:
    """ITEM rows of a verified suite, with `contaminated` not yet set. The score is the share of right answers.

    A missing answer is wrong. If the verifier has no verdict (`correct` is null because gold or tests are faulty), the
    item has no score for any model.

    Args:
        scores: response id -> score and reason, of answers that a rule scores and no verifier.
    """
    checked_by_id = {i: (v["correct"], v["verdict"]) for i, v in verdicts.items()} | dict(scores)
    by_prompt: dict[str, list[ResponseRow]] = defaultdict(list)
    for r in responses:
        by_prompt[r["prompt_id"]].append(r)
    items = []
    for identity, prompt in prompts.items():
        answers = sorted(by_prompt[identity], key=lambda r: r["sample_index"])
        checked = [checked_by_id.get(r["response_id"], (False, r["reject"])) for r in answers]
        right = [s for s, _ in checked if s is not None]
        known = bool(checked) and len(right) == len(checked)
        why = checked[0][1] if known else next((w for s, w in checked if s is None), "unanswered")
        items.append(_item(suite, model, prompt, answers, sum(right) / len(right) if known else None, why))
    return items


def harness_items(
    suite: str,
    model: str,
    answers: Mapping[str, ResponseRow],
    prompts: Mapping[str, PromptRow],
    scored: Sequence[HarnessScore],
) -> list[ItemRow]:
    """ITEM rows with the scores of lm-evaluation-harness, with `contaminated` not yet set."""
    return [
        _item(suite, model, {**prompts[s.prompt_id], "id": s.id}, [answers[s.prompt_id]], s.score, s.why)
        for s in scored
    ]


def judged_items(
    suite: str,
    model: str,
    answers: Mapping[str, ResponseRow],
    prompts: Mapping[str, PromptRow],
    outcomes: Mapping[str, tuple[float | None, str]],
) -> list[ItemRow]:
    """ITEM rows of a judged suite, with `contaminated` not yet set. The score is the preference or rating.

    Args:
        answers: prompt id -> the model's RESPONSE row.
        outcomes: prompt id -> preference or rating, and reason.
    """
    return [_item(suite, model, prompt, [answers[i]], *outcomes[i]) for i, prompt in prompts.items()]


def _item(
    suite: str, model: str, prompt: PromptRow, answers: Sequence[ResponseRow], score: float | None, why: str
) -> ItemRow:
    text = answers[0]["text"] if answers else ""
    num = max(len(answers), 1)
    return {
        "suite": suite,
        "model": model,
        "prompt_id": prompt["prompt_id"],
        "id": prompt["id"],
        "domain": prompt["domain"],
        "score": score,
        "why": why,
        "prompt": conversation(prompt),
        "text": text,
        "answers": len(answers),
        "rejected": sum(bool(r["reject"]) for r in answers),
        "truncated": sum(r["finish_reason"] == "length" for r in answers),
        "completion_tokens": sum(r["completion_tokens"] for r in answers) / num,
        "chars": sum(len(r["text"]) for r in answers) / num,
        "style": list(style_of(text)),
        "contaminated": False,
    }


def styles(references: Mapping[str, str]) -> dict[str, tuple[int, int, int, int]]:
    """Prompt id -> `win_rates.STYLE` of the reference answer."""
    return {identity: style_of(text) for identity, text in references.items()}


def items_table(items: Sequence[ItemRow], contaminated: Mapping[str, set[str]]) -> pa.Table:
    """The ITEM table.

    Args:
        contaminated: suite -> ids of its contaminated prompts.
    """
    rows = [{**i, "contaminated": i["prompt_id"] in contaminated.get(i["suite"], ())} for i in items]
    return pa.Table.from_pylist(rows, schema=ITEM)
