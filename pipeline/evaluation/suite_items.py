"""The scores of a suite's items: verified, judged, or from the harness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import StageError, one_line
from ..recipe import HarnessSuite, JudgedSuite, VerifiedSuite
from ..records import ItemRow, OverlapRow, ResponseRow
from ..run import Run
from ..scoring.verification import verify
from . import harness, item_tables, judging, suite_rows, suites
from .forms import rules
from .models_under_test import ModelUnderTest
from .partial_solutions import completed
from .result_types import Judging, SuiteDescription
from .suite_prompts import answers, groups, second_turns_of, suite_answers
from .suites import LoadedSuite

RuleScore = tuple[float | None, str]
"""Score and reason; no score if the check failed itself."""


def harness_items(run: Run, models: Sequence[ModelUnderTest], suite: LoadedSuite) -> list[ItemRow]:
    """The items of the harness's tasks."""
    config, prompts = suite.config, {p["prompt_id"]: p for p in suite.prompts}
    assert isinstance(config, HarnessSuite)
    items: list[ItemRow] = []
    for name, rows in suite_answers(run, models, suite).items():
        responses = {r["prompt_id"]: r for r in rows}
        scored = harness.score(config, run.base, {i: r["text"] for i, r in responses.items()})
        items += item_tables.harness_items(config.name, name, responses, prompts, scored)
    return items


def verified_items(run: Run, models: Sequence[ModelUnderTest], suite: LoadedSuite) -> list[ItemRow]:
    """The items of a verified suite."""
    config, prompts = suite.config, {p["prompt_id"]: p for p in suite.prompts}
    assert isinstance(config, VerifiedSuite)
    name, recipe = config.name, run.recipe
    if config.timeout_s is not None:
        limits = recipe.score.verify.model_copy(update={"timeout_s": config.timeout_s})
        recipe = recipe.model_copy(update={"score": recipe.score.model_copy(update={"verify": limits})})
    by_model = suite_answers(run, models, suite)
    rows = [r for responses in by_model.values() for r in responses]
    folder = f"evaluate/verdicts/{name}-{suite.identity}"
    with run.show_progress(f"evaluate verify {name}", len(rows)) as show:
        # The folder's name depends on gold answers and tests.
        programs = completed(suite.beginnings, rows)
        verdicts = verify(run.dir, folder, programs, prompts, recipe, show, run.progress.log, keep_unmarked=True)
    scores = rule_scores(suite, rows)
    items: list[ItemRow] = []
    for model, responses in by_model.items():
        items += item_tables.verified_items(name, model, responses, prompts, verdicts, scores)
    return items


def rule_scores(suite: LoadedSuite, responses: Sequence[ResponseRow]) -> dict[str, RuleScore]:
    """Response id -> score and reason, of the answers that a rule scores.

    Raises:
        StageError: a package that checks the answers lacks an instruction, or data.
    """
    gold = {p["prompt_id"]: p["gold"] or "" for p in suite.prompts}
    try:
        return {
            r["response_id"]: _rule_score(suite.rules[r["prompt_id"]], gold[r["prompt_id"]], r["text"])
            for r in responses
            if r["prompt_id"] in suite.rules and not r["reject"]
        }
    except LookupError as error:
        problem = one_line(error).replace("*", "").strip()
        raise StageError("evaluate", f"suite {suite.config.name}", f"no check: {problem}"[:300]) from error


def _rule_score(rule: str, gold: str, response: str) -> RuleScore:
    try:
        score = rules.score(rule, gold, response)
    except Exception as error:
        if type(error) is LookupError:  # no instruction or data; an IndexError is about the answer
            raise
        return None, f"error: {type(error).__name__}"
    return score, "correct" if score == 1 else "partly" if score else "wrong"


def judged_items(run: Run, models: Sequence[ModelUnderTest], suite: LoadedSuite) -> tuple[list[ItemRow], Judging]:
    """The items of a judged suite, and the cost of its judge."""
    config, prompts = suite.config, {p["prompt_id"]: p for p in suite.prompts}
    assert isinstance(config, JudgedSuite)
    responses = {n: {r["prompt_id"]: r for r in rows} for n, rows in suite_answers(run, models, suite).items()}
    second = suite.second_turns()
    prompts |= {p["prompt_id"]: p for p in second.values()}
    if second:
        _add_second_turns(run, models, suite, responses)
    judge = judging.rate if config.method == "rating" else judging.compare
    outcomes, spent = judge(run, models, suite, prompts, responses)
    items: list[ItemRow] = []
    for m in models:
        items += item_tables.judged_items(config.name, m.name, responses[m.name], prompts, outcomes[m.name])
    return items, spent


def _add_second_turns(
    run: Run, models: Sequence[ModelUnderTest], suite: LoadedSuite, responses: dict[str, dict[str, ResponseRow]]
) -> None:
    """Adds the answers to second turns, under the identity of the second turn's item."""
    for model in models:
        for pinned, parts, turns in second_turns_of(run, model, suite):
            second_answers = {r["prompt_id"]: r for r in answers(run, [pinned], parts.read())}
            responses[model.name] |= {suites.second_turn(i): second_answers[p["prompt_id"]] for i, p in turns.items()}


def describe(
    run: Run,
    suite: LoadedSuite,
    contaminated: Mapping[str, Mapping[str, OverlapRow]],
    judged: Mapping[str, Judging],
) -> SuiteDescription:
    """The description of a suite in evaluate/suites.json."""
    config, samplings = suite.config, [each.model_dump(mode="json") for _, each in groups(run, suite)]
    return {
        "name": config.name,
        "kind": config.kind,
        "group": config.group,
        "form": "harness" if isinstance(config, HarnessSuite) else config.form,
        "num_items": len(suite.prompts) + len(suite.follow_ups),
        "files": suites.fingerprints(config, run.base),
        "identity": suite.identity,
        "unusable": len(suite.rejects),
        "contaminated": len(contaminated.get(config.name, ())),
        "sampling": samplings[0],
        "more_samplings": samplings[1:],
        "samples": config.samples if isinstance(config, VerifiedSuite) else 1,
        "seed": run.recipe.seed,
        "ask": None if isinstance(config, HarnessSuite) else suite_rows.ask_of(config),
        "tasks": list(config.tasks) if isinstance(config, HarnessSuite) else None,
        "baseline": config.baseline if isinstance(config, JudgedSuite) else None,
        "control": config.control if isinstance(config, JudgedSuite) and config.method == "pairs" else None,
        "method": config.method if isinstance(config, JudgedSuite) else None,
        "judging": judged.get(config.name),
    }
