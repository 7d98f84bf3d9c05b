"""Checks the responses in a row of the data set against what was sampled and scored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from ..identities import IMPORTED, digest, row_id
from ..recipe import DOMAINS, VERIFIED_DOMAINS, Recipe
from ..records import Message, PairRow, ResponseRow, ScoreRow, SftRow
from ..selection.rule import margin_of

ONE_SOURCE = "one source in every pair"
MARGINS = "margins inside the window"
REWARDS = "rewards as scored"
VERDICTS = "verdicts as labelled"
TEXTS = "texts as sampled"
SHARES = "every prompt in one stage, that of its share"
ROWS_PER_PROMPT = "rows per prompt as the recipe allows"
NO_REJECTS = "no rejected or contaminated prompt"
TRACEABLE = "every row traceable"
ONE_REASON = "every prompt in one reason"
DECIDED = "rows and reasons as the rule decides"
OUTPUTS = "stage outputs as their manifests record"
RULES = (
    ONE_SOURCE,
    MARGINS,
    REWARDS,
    VERDICTS,
    TEXTS,
    SHARES,
    ROWS_PER_PROMPT,
    NO_REJECTS,
    TRACEABLE,
    ONE_REASON,
    DECIDED,
    OUTPUTS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A row that breaks a rule."""

    rule: str
    """One of RULES."""
    row: str
    """row_id or prompt_id, or the name of a stage."""
    why: str


@dataclass(frozen=True, slots=True)
class _RowResponse:
    """A response as a row of the data set contains it."""

    name: str
    """response, chosen or rejected."""
    response_id: str
    messages: list[Message]
    seed: int
    reward: float | None
    correct: bool | None
    verdict: str | None


@dataclass(slots=True)
class StoredResponse:
    """A response as the run directory contains it."""

    response: ResponseRow | None = None
    score: ScoreRow | None = None


def _check_response(
    row: SftRow | PairRow, given: _RowResponse, stored: Mapping[str, StoredResponse], reward_model: str, recipe: Recipe
) -> list[Violation]:
    """Compares one response of a row with what was sampled and scored."""

    def violation(rule: str, why: str) -> Violation:
        return Violation(rule=rule, row=row["row_id"], why=f"{given.name} {given.response_id[:16]}: {why}")

    entry = stored.get(given.response_id, StoredResponse())
    response, score = entry.response, entry.score
    if response is None or score is None:
        neither = response is None and score is None
        missing = "neither sampled nor scored" if neither else "not scored" if score is None else "not sampled"
        return [violation(TRACEABLE, f"is {missing} in this run")]
    violations = []
    # The parameters of an imported response are the hash of its text. A pair has those of its chosen response.
    imported = response["revision"] == IMPORTED
    params = row["params"] if imported and given.name == "rejected" else response["params"]
    for name, value, expected in (
        ("source", row["source"], score["source"]),
        ("revision", row["revision"], response["revision"]),
        ("template", row["template"], response["template"]),
        ("params", row["params"], params),
        ("prompt_id", row["prompt_id"], score["prompt_id"]),
        ("domain", row["domain"], score["domain"]),
    ):
        if value != expected:
            rule = ONE_SOURCE if name == "source" and given.name != "response" else TRACEABLE
            violations.append(violation(rule, f"{name} is {expected!r}, the row says {value!r}"))
    if given.seed != response["seed"]:
        violations.append(violation(TRACEABLE, f"seed is {response['seed']}, the row says {given.seed}"))
    if [m["content"] for m in given.messages] != [response["text"]]:
        violations.append(violation(TEXTS, "the text differs from the sampled response"))
    if imported and json.loads(response["params"]).get("text") not in (None, digest(response["text"])):
        violations.append(violation(TEXTS, "the text differs from what was imported, by the hash in its parameters"))
    reward = dict(score["rewards"]).get(reward_model)
    if given.reward != reward:
        violations.append(violation(REWARDS, f"reward {given.reward}, scored {reward}"))
    if (given.correct, given.verdict) != (score["correct"], score["verdict"]):
        violations.append(violation(VERDICTS, f"labelled {given.verdict!r}, verified {score['verdict']!r}"))
    must_be_right = given.name != "rejected"
    if row["domain"] in VERIFIED_DOMAINS and score["correct"] is not must_be_right:
        violations.append(
            violation(VERDICTS, f"must be {'right' if must_be_right else 'wrong'}, is {score['correct']}")
        )
    if score["source"] not in [s.name for s in recipe.sources]:
        violations.append(violation(TRACEABLE, f"source {score['source']!r} is not in the recipe"))
    return violations


def check_sft(row: SftRow, stored: Mapping[str, StoredResponse], reward_model: str, recipe: Recipe) -> list[Violation]:
    """Checks an SFT row.

    Args:
        stored: response id -> the response in the run directory.
        reward_model: name of the reward model that selection used.
    """
    response = _RowResponse(
        "response", row["response_id"], row["completion"], row["seed"], row["reward"], row["correct"], row["verdict"]
    )
    violations = _check_response(row, response, stored, reward_model, recipe)
    if row["row_id"] != row_id("sft", row["prompt_id"], row["response_id"]):
        violations.append(Violation(rule=TRACEABLE, row=row["row_id"], why="row_id does not match the row"))
    return violations


def check_pair(
    row: PairRow, stored: Mapping[str, StoredResponse], reward_model: str, recipe: Recipe
) -> list[Violation]:
    """Checks a pair; see `check_sft` for the arguments."""
    chosen = _RowResponse(
        "chosen",
        row["chosen_id"],
        row["chosen"],
        row["chosen_seed"],
        row["chosen_reward"],
        row["chosen_correct"],
        row["chosen_verdict"],
    )
    rejected = _RowResponse(
        "rejected",
        row["rejected_id"],
        row["rejected"],
        row["rejected_seed"],
        row["rejected_reward"],
        row["rejected_correct"],
        row["rejected_verdict"],
    )
    violations = _check_response(row, chosen, stored, reward_model, recipe)
    violations += _check_response(row, rejected, stored, reward_model, recipe)

    def violation(rule: str, why: str) -> Violation:
        return Violation(rule=rule, row=row["row_id"], why=why)

    if row["row_id"] != row_id("pair", row["prompt_id"], row["chosen_id"], row["rejected_id"]):
        violations.append(violation(TRACEABLE, "row_id does not match the row"))
    if row["chosen"] == row["rejected"]:
        violations.append(violation(TEXTS, "chosen and rejected have the same text"))
    margin = margin_of(row["chosen_reward"], row["rejected_reward"])
    window = recipe.select.rule(row["domain"]).margin if row["domain"] in DOMAINS else None
    if row["margin"] != margin:
        violations.append(violation(REWARDS, f"margin {row['margin']}, the rewards differ by {margin}"))
    high = float("inf") if window is None or window.max is None else window.max
    if window is not None and margin is not None and not window.min <= margin <= high:
        violations.append(violation(MARGINS, f"margin {margin}, window {window.min} to {window.max}"))
    return violations
