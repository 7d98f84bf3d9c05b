"""Stage `evaluate`: models answer the held-out prompts and the suites; verifiers and judges rate the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import StageError
from ..evaluation import heldout, item_tables, judging, suite_items, suite_prompts, suite_scores, suites
from ..evaluation.models_under_test import ModelUnderTest, models_under_test, services
from ..evaluation.result_types import Judging
from ..evaluation.suites import LoadedSuite
from ..identities import digest
from ..recipe import VERIFIED_DOMAINS, EvaluatedModel, HarnessSuite, JudgedSuite
from ..records import ItemRow, OverlapRow, PromptRow, RewardRow
from ..run import Run
from ..sampling.generate import draw
from ..scoring import model_scores
from ..scoring.verification import verify
from ..storage.manifest import Outcome
from .training import target_settings

INPUTS: tuple[str, ...] = ("prompts", "sft", "dpo")


def needed_inputs(context: Run) -> tuple[str, ...]:
    """The inputs that this recipe needs: a model that is not evaluated need not have been trained."""
    return tuple(name for name in INPUTS if name == "prompts" or name in context.recipe.evaluate.names)


def settings(context: Run) -> list[object]:
    """Sampling, judge, target, seed and time limit; and of models and suites what their answers depend on."""
    recipe = context.recipe
    judge = next((x for x in recipe.rewards if x.name == recipe.evaluate.judge), None)
    target, timeout_s = target_settings(context), recipe.score.verify.timeout_s
    return [recipe.evaluate.sampling, judge, target, recipe.seed, timeout_s, *_list_settings(context)]


def _list_settings(context: Run) -> list[object]:
    """The settings beyond the held-out evaluation of the run's own models."""
    config = context.recipe.evaluate
    mark = context.with_precision("", "evaluate.engine.dtype", config.engine)
    marks = [mark] if mark else []  # evaluations of versions that stored no precision stay valid
    if not config.suites and config.models == type(config)().models:
        return list(marks)
    own = [
        [m, context.evaluated_revision(m), context.read_template(m.chat_template)]
        for m in context.original_recipe.evaluate.models
        if isinstance(m, EvaluatedModel)
    ]
    sources = [[s.source.name, s.revision, s.template] for s in context.pinned_sources if s.source.name in config.names]
    files = [suites.fingerprints(suite, context.base) for suite in config.suites]
    judges = [[j.name, j.url, j.model, j.revision] for j in config.judges]
    return [config.names, own, sources, config.suites, files, judges, config.contamination, *marks]


def run(context: Run) -> Outcome:
    """Samples answers of all models, rates them, and writes the tables.

    Raises:
        StageError: there is nothing to evaluate on, a model can't be served, or rows of a suite are contaminated and
            the recipe refuses that.
        InputError: a suite can't be used.
    """
    recipe = context.recipe
    loaded = [suite_prompts.load(context, suite) for suite in recipe.evaluate.suites]
    if not len(context.heldout_prompts) and not loaded:
        raise StageError("evaluate", "prompts.heldout", "there is no held-out prompt and no suite")
    contaminated = suite_prompts.find_contaminated(context, loaded)
    for suite in loaded:
        suite_prompts.write_prompts(context, suite)
    models = models_under_test(context)
    tokens = 0
    for wants in (suite_prompts.first_turns, suite_prompts.second_turns):  # a second turn contains the first answer
        tokens += draw(
            context,
            "evaluate",
            suite_prompts.SAMPLES,
            wants(context, models, loaded),
            lambda missing: services(context, models, missing),
        )
    sources = [s.name for s in recipe.served]  # these may be judges
    context.release(m.source.name for m in models if m.source.name not in sources)
    context.ray()
    counts: dict[str, int] = {}
    data: list[object] = []
    if len(context.heldout_prompts):
        rows, read = _rate_heldout(context, models)
        tokens += read
        counts["answers"] = len(rows)
        data.append(rows)
    else:
        context.dir.remove_if_exists("evaluate", "answers.parquet")
        context.dir.remove_if_exists("evaluate", "metrics.json")
    if loaded:
        items, read = _score_suites(context, models, loaded, contaminated)
        tokens += read
        counts |= {"suites": len(loaded), "items": len(items)}
        data.append(items)
    else:
        context.dir.remove_if_exists("evaluate", "suites.json")
        context.dir.remove_if_exists("evaluate", "items.parquet")
    return Outcome(digest(*data), counts, tokens)


def _rate_heldout(context: Run, models: Sequence[ModelUnderTest]) -> tuple[list[object], int]:
    """Verifies and rates the answers to held-out prompts; returns the rows of answers.parquet, and tokens read."""
    recipe, heldout_prompts = context.recipe, context.heldout_prompts
    pinned = [m.pinned(recipe.evaluate.sampling, 1, recipe.seed) for m in models]
    rows = suite_prompts.answers(context, pinned, heldout_prompts)
    prompts: dict[str, PromptRow] = {p["prompt_id"]: p for p in heldout_prompts.to_pylist()}
    with context.show_progress("evaluate verify", sum(r["domain"] in VERIFIED_DOMAINS for r in rows)) as show:
        verdicts = verify(context.dir, "evaluate/verify", rows, prompts, recipe, show, context.progress.log)
    ratings: dict[str, RewardRow] = {}
    tokens = 0
    to_rate = item_tables.rated(recipe, rows)
    if to_rate and recipe.evaluate.judge is not None:
        folder = "evaluate/ratings"
        ratings, tokens = model_scores.reward(context, recipe.evaluate.judge, to_rate, prompts, folder=folder)
    table = item_tables.answers(rows, prompts, verdicts, ratings, {m.source.name: m.name for m in models})
    context.dir.write_table(table, "evaluate", "answers.parquet")
    context.dir.write_json(heldout.summarise(table), "evaluate", "metrics.json")
    return table.to_pylist(), tokens


def _score_suites(
    context: Run,
    models: Sequence[ModelUnderTest],
    loaded: Sequence[LoadedSuite],
    contaminated: Mapping[str, Mapping[str, OverlapRow]],
) -> tuple[list[object], int]:
    """Scores every suite; returns the rows of items.parquet, and the tokens that judges took."""
    items: list[ItemRow] = []
    judged: dict[str, Judging] = {}
    for suite in loaded:
        if isinstance(suite.config, JudgedSuite):
            scored, judged[suite.config.name] = suite_items.judged_items(context, models, suite)
        elif isinstance(suite.config, HarnessSuite):
            scored = suite_items.harness_items(context, models, suite)
        else:
            scored = suite_items.verified_items(context, models, suite)
        items += scored
    marked = {name: {*rows, *map(suites.second_turn, rows)} for name, rows in contaminated.items()}
    table = item_tables.items_table(items, marked)
    context.dir.write_table(table, "evaluate", "items.parquet")
    described = [suite_items.describe(context, suite, contaminated, judged) for suite in loaded]
    versions = {m.name: {"revision": m.revision, "template": m.template} for m in models}
    references = {s.config.name: item_tables.styles(s.references) for s in loaded}
    categories = {s.config.name: judging.categories_of(s) for s in loaded}
    scores = suite_scores.suite_results(table, described, versions, references, categories)
    context.dir.write_json(scores, "evaluate", "suites.json")
    return table.to_pylist(), sum(j["tokens"] for j in judged.values())
