"""Asks a suite's judge: about pairs of answers, or about answers one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..identities import digest
from ..recipe import REFERENCE, JudgedSuite
from ..records import PROMPT, PromptRow, ResponseRow
from ..run import Run
from ..sampling.generate import Want, draw
from ..storage.parts import Parts
from . import align_bench, item_tables, pairwise, rating
from .models_under_test import ModelUnderTest, judge_of, services
from .result_types import Judging
from .suite_prompts import add_prompts, answers
from .suites import LoadedSuite

JUDGEMENTS = "evaluate/judgements"
"""Folder of the judges' answers."""

Outcomes = dict[str, dict[str, tuple[float | None, str]]]
"""Model -> prompt id -> score and reason."""
Responses = Mapping[str, Mapping[str, ResponseRow]]
"""Model -> prompt id -> its answer. Second turns are items with identities of their own."""


def compare(
    run: Run, models: Sequence[ModelUnderTest], suite: LoadedSuite, prompts: Mapping[str, PromptRow], given: Responses
) -> tuple[Outcomes, Judging]:
    """Preferences for the models' answers over the baseline's, and the cost of the judge."""
    config = _config(suite)
    first_of = _first_turns(suite)
    baseline = (
        suite.references
        if config.baseline == REFERENCE
        else {i: r["text"] for i, r in given[str(config.baseline)].items()}
    )

    def first_turn(model: str, i: str) -> tuple[str, str] | None:
        return (given[model][first_of[i]]["text"], baseline[first_of[i]]) if i in first_of else None

    pairs = [
        pairwise.Pair(
            m.name, i, item_tables.conversation(p), given[m.name][i]["text"], baseline[i], first_turn(m.name, i)
        )
        for m in models
        if m.name != config.baseline
        for i, p in prompts.items()
    ]
    instruction = config.instruction if isinstance(config.instruction, str) else None
    rows, ids_of_pairs = pairwise.questions(pairs, instruction, config.name)
    judgements, spent = _judge(run, config, rows, digest(instruction or pairwise.INSTRUCTION))
    outcomes: Outcomes = {m.name: {} for m in models}
    for pair, ids in zip(pairs, ids_of_pairs, strict=True):
        outcomes[pair.model][pair.prompt_id] = pairwise.outcome(pair, [judgements.get(i) for i in ids])
    if config.baseline is not None and config.baseline != REFERENCE:
        outcomes[config.baseline] = dict.fromkeys(prompts, (0.5, "baseline"))
    return outcomes, spent


def rate(
    run: Run, models: Sequence[ModelUnderTest], suite: LoadedSuite, prompts: Mapping[str, PromptRow], given: Responses
) -> tuple[Outcomes, Judging]:
    """Ratings of all models' answers, and the cost of the judge."""
    config, first_of = _config(suite), _first_turns(suite)
    rated: list[rating.AnswerToRate] = []
    for m in models:
        for i, p in prompts.items():
            turns, questions = [i], [item_tables.conversation(p)]
            if (first := first_of.get(i)) is not None:
                turns, questions = [first, i], [item_tables.conversation(prompts[first]), p["messages"][-1]["content"]]
            references = [suite.references[turn] for turn in turns if turn in suite.references]
            rated.append(
                rating.AnswerToRate(
                    m.name,
                    i,
                    tuple(questions),
                    tuple(given[m.name][turn]["text"] for turn in turns),
                    tuple(references) if len(references) == len(turns) else (),
                    *suite.categories.get(i, ("", "")),
                )
            )
    rows, ids = rating.questions(rated, config)
    texts = sorted({rating.instruction(config, second, ref) for second in (False, True) for ref in (False, True)})
    judgements, spent = _judge(run, config, rows, digest(texts))
    outcomes: Outcomes = {m.name: {} for m in models}
    for each, identity in zip(rated, ids, strict=True):
        judged = None if identity is None else judgements.get(identity)
        outcomes[each.model][each.prompt_id] = rating.outcome(each, judged)
    return outcomes, spent


def categories_of(suite: LoadedSuite) -> dict[str, str]:
    """Prompt id -> category, if the suite's score is averaged over categories (AlignBench's rating); else empty."""
    config = suite.config
    if not isinstance(config, JudgedSuite) or config.method != "rating" or config.form != "align_bench":
        return {}
    categories = {i: category for i, (category, _) in suite.categories.items()}
    return categories if align_bench.weights(list(categories.values())) is not None else {}


def _config(suite: LoadedSuite) -> JudgedSuite:
    assert isinstance(suite.config, JudgedSuite)
    return suite.config


def _first_turns(suite: LoadedSuite) -> dict[str, str]:
    """Prompt id of a second turn -> that of its first turn."""
    return {second["prompt_id"]: first for first, second in suite.second_turns().items()}


def _judge(
    run: Run, config: JudgedSuite, questions: Sequence[PromptRow], instruction: str
) -> tuple[dict[str, ResponseRow], Judging]:
    """The judge's answers by prompt id, those that exist and those that it gives now; and what they cost."""
    judge = judge_of(run, config)
    folder = f"evaluate/questions/{config.name}-{digest(sorted(q['prompt_id'] for q in questions))[:12]}"
    parts = Parts(run.dir, folder, PROMPT, "prompt_id")
    add_prompts(run, parts, questions)
    want = Want(judge.pinned(config.judge_sampling, 1, run.recipe.seed), parts, f"evaluate judge {config.name}")
    draw(run, "evaluate", JUDGEMENTS, [want], lambda missing: services(run, [judge], missing))
    judgements = {r["prompt_id"]: r for r in answers(run, [want.source], parts.read(), JUDGEMENTS)}
    rows = judgements.values()
    read, written = sum(r["prompt_tokens"] for r in rows), sum(r["completion_tokens"] for r in rows)
    run.progress.log(f"evaluate {config.name}: {len(rows)} judgements, {read} tokens read and {written} written")
    return judgements, {
        "judge": config.judge,
        "revision": judge.revision,
        "sampling": config.judge_sampling.model_dump(mode="json"),
        "instruction": instruction[:12],
        "judgements": len(rows),
        "rejected": sum(bool(r["reject"]) for r in rows),
        "prompt_tokens": read,
        "completion_tokens": written,
        "tokens": read + written,
    }
