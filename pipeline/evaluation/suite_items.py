"""The scores of a suite's items: verified, judged, or from the harness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..identities import digest
from ..recipe import REFERENCE, HarnessSuite, JudgedSuite, VerifiedSuite
from ..records import PROMPT, ItemRow, OverlapRow, PromptRow, ResponseRow
from ..run import Run
from ..sampling.generate import Want, draw
from ..scoring.verification import verify
from ..storage.parts import Parts
from . import harness, pairwise, suites, tables
from .models_under_test import ModelUnderTest, judge_of, services
from .result_types import Judging, SuiteDescription
from .suite_prompts import add_prompts, answers, groups, second_turns_of, suite_answers
from .suites import LoadedSuite

JUDGEMENTS = "evaluate/judgements"
"""Folder of the judges' answers."""


def harness_items(run: Run, models: Sequence[ModelUnderTest], suite: LoadedSuite) -> list[ItemRow]:
    """The items of the harness's tasks."""
    config, prompts = suite.config, {p["prompt_id"]: p for p in suite.prompts}
    assert isinstance(config, HarnessSuite)
    items: list[ItemRow] = []
    for name, rows in suite_answers(run, models, suite).items():
        responses = {r["prompt_id"]: r for r in rows}
        scored = harness.score(config, run.base, {i: r["text"] for i, r in responses.items()})
        items += tables.harness_items(config.name, name, responses, prompts, scored)
    return items


def verified_items(run: Run, models: Sequence[ModelUnderTest], suite: LoadedSuite) -> list[ItemRow]:
    """The items of a verified suite."""
    name, prompts = suite.config.name, {p["prompt_id"]: p for p in suite.prompts}
    by_model = suite_answers(run, models, suite)
    rows = [r for responses in by_model.values() for r in responses]
    folder = f"evaluate/verdicts/{name}-{suite.identity}"
    with run.show_progress(f"evaluate verify {name}", len(rows)) as show:
        # The folder's name depends on gold answers and tests.
        verdicts = verify(run.dir, folder, rows, prompts, run.recipe, show, run.progress.log, keep_unmarked=True)
    items: list[ItemRow] = []
    for model, responses in by_model.items():
        items += tables.verified_items(name, model, responses, prompts, verdicts)
    return items


def judged_items(run: Run, models: Sequence[ModelUnderTest], suite: LoadedSuite) -> tuple[list[ItemRow], Judging]:
    """The items of a judged suite, and the cost of its judge."""
    config, prompts = suite.config, {p["prompt_id"]: p for p in suite.prompts}
    assert isinstance(config, JudgedSuite)
    responses = {n: {r["prompt_id"]: r for r in rows} for n, rows in suite_answers(run, models, suite).items()}
    second = suite.second_turns()
    prompts |= {p["prompt_id"]: p for p in second.values()}
    if second:
        _add_second_turns(run, models, suite, responses)
    pairs = _pairs(models, config, suite, prompts, responses, {p["prompt_id"]: first for first, p in second.items()})
    judge = judge_of(run, config)
    questions, ids_of_pairs = pairwise.questions(pairs, config.instruction, config.name)
    folder = f"evaluate/questions/{config.name}-{digest(sorted(q['prompt_id'] for q in questions))[:12]}"
    parts = Parts(run.dir, folder, PROMPT, "prompt_id")
    add_prompts(run, parts, questions)
    want = Want(judge.pinned(config.judge_sampling, 1, run.recipe.seed), parts, f"evaluate judge {config.name}")
    draw(run, "evaluate", JUDGEMENTS, [want], lambda missing: services(run, [judge], missing))
    judgements = {r["prompt_id"]: r for r in answers(run, [want.source], parts.read(), JUDGEMENTS)}
    outcomes: dict[str, dict[str, tuple[float | None, str]]] = {m.name: {} for m in models}
    for pair, ids in zip(pairs, ids_of_pairs, strict=True):
        outcomes[pair.model][pair.prompt_id] = pairwise.outcome(pair, [judgements.get(i) for i in ids])
    if config.baseline != REFERENCE:
        outcomes[config.baseline] = dict.fromkeys(prompts, (0.5, "baseline"))
    items: list[ItemRow] = []
    for m in models:
        items += tables.judged_items(config.name, m.name, responses[m.name], prompts, outcomes[m.name])
    spent = _judging(config, judge, list(judgements.values()))
    run.progress.log(
        f"evaluate {config.name}: {spent['judgements']} judgements, {spent['prompt_tokens']} tokens read and "
        f"{spent['completion_tokens']} written"
    )
    return items, spent


def _add_second_turns(
    run: Run, models: Sequence[ModelUnderTest], suite: LoadedSuite, responses: dict[str, dict[str, ResponseRow]]
) -> None:
    """Adds the answers to second turns, under the identity of the second turn's item."""
    for model in models:
        pinned, parts, turns = second_turns_of(run, model, suite)
        second_answers = {r["prompt_id"]: r for r in answers(run, [pinned], parts.read())}
        responses[model.name] |= {suites.second_turn(i): second_answers[p["prompt_id"]] for i, p in turns.items()}


def _pairs(
    models: Sequence[ModelUnderTest],
    config: JudgedSuite,
    suite: LoadedSuite,
    prompts: Mapping[str, PromptRow],
    responses: Mapping[str, Mapping[str, ResponseRow]],
    first_of: Mapping[str, str],
) -> list[pairwise.Pair]:
    """The pairs to judge: each model's answers and the baseline's.

    Args:
        first_of: prompt id of a second turn -> that of its first turn.
    """
    baseline = (
        suite.references
        if config.baseline == REFERENCE
        else {i: r["text"] for i, r in responses[config.baseline].items()}
    )

    def first_turn(model: str, i: str) -> tuple[str, str] | None:
        return (responses[model][first_of[i]]["text"], baseline[first_of[i]]) if i in first_of else None

    return [
        pairwise.Pair(
            m.name, i, tables.conversation(p), responses[m.name][i]["text"], baseline[i], first_turn(m.name, i)
        )
        for m in models
        if m.name != config.baseline
        for i, p in prompts.items()
    ]


def _judging(config: JudgedSuite, judge: ModelUnderTest, judgements: Sequence[ResponseRow]) -> Judging:
    read = sum(r["prompt_tokens"] for r in judgements)
    written = sum(r["completion_tokens"] for r in judgements)
    return {
        "judge": config.judge,
        "revision": judge.revision,
        "sampling": config.judge_sampling.model_dump(mode="json"),
        "instruction": digest(config.instruction or pairwise.INSTRUCTION)[:12],
        "judgements": len(judgements),
        "rejected": sum(bool(r["reject"]) for r in judgements),
        "prompt_tokens": read,
        "completion_tokens": written,
        "tokens": read + written,
    }


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
        "ask": None if isinstance(config, HarnessSuite) else suites.ask_of(config),
        "tasks": list(config.tasks) if isinstance(config, HarnessSuite) else None,
        "baseline": config.baseline if isinstance(config, JudgedSuite) else None,
        "control": config.control if isinstance(config, JudgedSuite) else None,
        "judging": judged.get(config.name),
    }
