"""Checks a data set that was imported ready to train on: its rows against their own identities and their prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..identities import digest, prompt_id, response_id
from ..prompts.ready_dataset import IMPORTED
from ..recipe import Recipe
from ..records import PROMPT, Message, OutcomeRow, PairRow, PromptRow, SftRow
from ..selection.rule import PLACES
from ..storage.parts import Parts
from ..storage.run_dir import RunDir
from .outputs import check_outputs
from .row_checks import NO_REJECTS, ONE_REASON, OUTPUTS, REWARDS, TEXTS, TRACEABLE, Violation

IMPORTED_RULES = (TEXTS, REWARDS, NO_REJECTS, TRACEABLE, ONE_REASON, OUTPUTS)
"""The rules that apply: those about sources, verdicts, windows and shares do not, because the rows came ready."""


def check_imported(run: RunDir, recipe: Recipe) -> list[Violation]:
    """All violations of IMPORTED_RULES.

    Every identity is the hash of the texts, so a text that was changed after the import is found.
    """
    sft: list[SftRow] = run.read_table("select", "sft.parquet").to_pylist()
    pairs: list[PairRow] = run.read_table("select", "pairs.parquet").to_pylist()
    known: list[PromptRow] = Parts(run, "select/prompts", PROMPT, "prompt_id").read().to_pylist()
    prompts = {p["prompt_id"]: p for p in known}
    heldout = Parts(run, "prompts/heldout", PROMPT, "prompt_id").ids()
    found: list[Violation] = []
    for row in sft:
        found += _check_row(row, "sft", [(row["completion"], row["response_id"])], prompts, heldout)
    for pair in pairs:
        sides = [(pair["chosen"], pair["chosen_id"]), (pair["rejected"], pair["rejected_id"])]
        found += _check_row(pair, "pair", sides, prompts, heldout)
        found += _check_pair(pair)
    return found + _check_reasons(run, sft, pairs) + check_outputs(run, recipe)


def _check_row(
    row: SftRow | PairRow,
    kind: str,
    responses: Sequence[tuple[list[Message], str]],
    prompts: Mapping[str, PromptRow],
    heldout: set[str],
) -> list[Violation]:
    def violation(rule: str, why: str) -> Violation:
        return Violation(rule=rule, row=row["row_id"], why=why)

    found = []
    prompt, shown = row["prompt_id"], f"prompt {row['prompt_id'][:16]}"
    if prompt_id(row["prompt"]) != prompt:
        found.append(violation(TEXTS, f"{shown} is not the prompt that was imported"))
    if prompt not in prompts:
        found.append(violation(TRACEABLE, f"{shown} is not in select/prompts"))
    if prompt in heldout:
        found.append(violation(NO_REJECTS, f"{shown} is held out"))
    for messages, identity in responses:
        text = "".join(m["content"] for m in messages)
        if response_id(prompt, row["source"], IMPORTED, IMPORTED, {"text": digest(text)}, 0) != identity:
            found.append(violation(TEXTS, f"response {identity[:16]} is not the response that was imported"))
    if row["row_id"] != digest(kind, prompt, *(identity for _, identity in responses)):
        found.append(violation(TRACEABLE, "row_id does not match the row"))
    return found


def _check_pair(pair: PairRow) -> list[Violation]:
    found = []
    if pair["chosen"] == pair["rejected"]:
        found.append(Violation(rule=TEXTS, row=pair["row_id"], why="chosen and rejected have the same text"))
    chosen, rejected = pair["chosen_reward"], pair["rejected_reward"]
    margin = None if chosen is None or rejected is None else round(chosen - rejected, PLACES)
    if pair["margin"] != margin:
        why = f"margin {pair['margin']}, the rewards differ by {margin}"
        found.append(Violation(rule=REWARDS, row=pair["row_id"], why=why))
    return found


def _check_reasons(run: RunDir, sft: Sequence[SftRow], pairs: Sequence[PairRow]) -> list[Violation]:
    outcomes: list[OutcomeRow] = run.read_table("select", "outcomes.parquet").to_pylist()
    reasons: dict[str, list[str]] = {}
    for outcome in outcomes:
        reasons.setdefault(outcome["prompt_id"], []).append(outcome["reason"])
    in_sft, in_pairs = {r["prompt_id"] for r in sft}, {r["prompt_id"] for r in pairs}
    found = []
    for prompt in sorted(in_sft | in_pairs | set(reasons)):
        kinds = (prompt in in_sft, prompt in in_pairs)
        expected = {(True, True): "selected_both", (True, False): "selected_sft", (False, True): "selected_pair"}.get(
            kinds
        )
        if reasons.get(prompt) != [expected]:
            why = f"its reasons are {reasons.get(prompt, [])}, its rows call for {expected}"
            found.append(Violation(rule=ONE_REASON, row=prompt, why=why))
    return found
