"""Stage `score`: verdicts, rewards of the reward models that the recipe needs, and how well all of them agree."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..errors import RecipeError, StageError
from ..recipe import COMBINED, DOMAINS, VERIFIED_DOMAINS, ImportedReward, ImportedSource, Recipe
from ..records import SCORE, ResponseRow, RewardRow, ScoreRow, VerdictRow
from ..run import Run
from ..sampling import generate
from ..scoring import agreement, imported_scores, merge, model_scores
from ..scoring.verification import verify
from ..storage.manifest import Outcome
from ..storage.parts import Parts

INPUTS: tuple[str, ...] = ("prompts", "sample")


def settings(context: Run) -> list[object]:
    """The reward models, the verification, and of the selection only what decides which responses are scored.

    Another margin window therefore can use the stored scores.
    """
    recipe = context.recipe
    return [
        [model_scores.version_of(context, x.name) for x in recipe.rewards],
        [recipe.score.reward, recipe.score.agreement_sample, recipe.score.verify.timeout_s],
        {d: recipe.select.rule(d).keep_truncated for d in DOMAINS},
    ]


def check(recipe: Recipe) -> None:
    """Checks, before anything is sampled, that `score.reward: auto` can choose.

    Raises:
        RecipeError: there are several reward models, and no response will have a verdict.
    """
    served = {d for s in recipe.sources for d in (DOMAINS if isinstance(s, ImportedSource) else s.samples)}
    if recipe.score.reward == "auto" and len(recipe.rewards) > 1 and not served.intersection(VERIFIED_DOMAINS):
        why = "without math and code there are no verdicts to choose a reward model by"
        raise RecipeError("score.reward", "auto", f"{why}; set one of {_names(recipe)}, or a combination")


def run(context: Run) -> Outcome:
    """Verifies, compares the reward models on a sample, scores with those that are used, and reports how they agree.

    Raises:
        StageError: `score.reward: auto` can't choose: no verdict tells the reward models apart.
    """
    recipe, rows = context.recipe, generate.responses(context)
    prompts = {p["prompt_id"]: p for p in context.train_prompts.to_pylist()}
    to_verify = sum(r["domain"] in VERIFIED_DOMAINS for r in rows)
    if to_verify or recipe.scored_models:  # imported scores need no cluster
        context.ray()
    with context.show_progress("verify", to_verify) as show:
        verdicts = verify(context.dir, "verify", rows, prompts, recipe, show, context.progress.log)
    if recipe.score.reward == "auto" and len(recipe.rewards) > 1 and not agreement.is_comparable(verdicts.values()):
        raise _no_choice(recipe, verdicts)
    pilot = agreement.sample(rows, verdicts, recipe.score.agreement_sample)
    imported = _imported(context)
    agreements, tokens = {}, 0
    for model in recipe.rewards:
        if model.name in imported:
            table = imported_scores.rewards(imported[model.name], [r["response_id"] for r in pilot])
        else:
            table, read = model_scores.reward(context, model.name, pilot, prompts)
            tokens += read
        agreements[model.name] = agreement.with_verdicts(pilot, verdicts, _scores(table.values()))
    for name, figures in agreements.items():
        auc = _shown(figures["auc"])
        context.progress.log(f"score: {name}: area under the curve {auc} on {figures['num']} verified responses")
    rule = recipe.score.reward
    chosen = COMBINED if not isinstance(rule, str) else agreement.choose(agreements) if rule == "auto" else rule
    if chosen is None:
        raise _no_choice(recipe, verdicts)
    context.progress.log(f"score: selection uses {chosen}")
    reasons = merge.not_scored(rows, verdicts, recipe.select)
    usable = [r for r in rows if r["response_id"] not in reasons]
    names = [chosen] if isinstance(rule, str) else rule.names
    for name in names:
        if name in imported:
            continue
        to_score = usable if isinstance(rule, str) else [r for r in usable if name in rule.terms(r["domain"])]
        _, read = model_scores.reward(context, name, to_score, prompts)
        tokens += read
    rewards = model_scores.stored(context, {r["response_id"] for r in rows})
    ids = [r["response_id"] for r in usable]
    rewards |= {name: imported_scores.rewards(scores, ids) for name, scores in imported.items()}
    merged = merge.merge(rows, verdicts, rewards, reasons, rule).to_pylist()
    context.dir.remove_tables("score")
    Parts(context.dir, "score", SCORE, "response_id").write_all(merged, recipe.sample.buckets)
    report: agreement.AgreementReport = {
        "chosen": chosen,
        "made_by": {name: model_scores.version_of(context, name) for name in names},
        "reward_models": agreements,
        "run": relations(context, merged, rows, verdicts),
    }
    context.dir.write_json(report, "score", "agreement.json")
    correct = [v["correct"] for v in verdicts.values() if v["correct"] is not None]
    counts = {
        "responses": len(rows),
        "verified": len(correct),
        "correct": sum(correct),
        "rewarded": sum(chosen in dict(row["rewards"]) for row in merged),
    }
    if imported:
        counts["no score"] = sum(i not in scores for scores in imported.values() for i in ids)
    return Outcome(merge.scores_digest(merged, chosen), counts, tokens)


def relations(
    context: Run, merged: Sequence[ScoreRow], rows: Sequence[ResponseRow], verdicts: Mapping[str, VerdictRow]
) -> agreement.RewardRelations:
    """How the run's rewards relate to verdicts, to length and to one another, over everything that was scored.

    Also reports it.
    """
    scores: dict[str, dict[str, float]] = {}
    for row in merged:
        for name, value in row["rewards"]:
            scores.setdefault(name, {})[row["response_id"]] = value
    lengths = {name: agreement.with_length(rows, values) for name, values in scores.items()}
    ranks = agreement.between(scores)
    for name, figures in lengths.items():
        shown = f"rank correlation with length {_shown(figures['spearman'])} ({figures['num']})"
        context.progress.log(f"score: {name}: {shown}")
    for pair in ranks:
        shown = f"rank correlation {_shown(pair['spearman'])} on {pair['num']} common responses"
        context.progress.log(f"score: {pair['a']} and {pair['b']}: {shown}")
    return {
        "verdicts": {name: agreement.with_verdicts(rows, verdicts, values) for name, values in scores.items()},
        "lengths": lengths,
        "ranks": ranks,
    }


def _imported(context: Run) -> dict[str, dict[str, float]]:
    """Reward -> response id -> score, of the rewards that come with the responses."""
    names = [r.name for r in context.recipe.rewards if isinstance(r, ImportedReward)]
    scores = imported_scores.read(context) if names else {}
    return {name: scores.get(name, {}) for name in names}


def _no_choice(recipe: Recipe, verdicts: Mapping[str, VerdictRow]) -> StageError:
    correct = [v["correct"] for v in verdicts.values()]
    found = f"{correct.count(True)} responses are right and {correct.count(False)} wrong"
    cause = f"auto can't choose a reward model: {found}, and it needs both, with scores"
    return StageError("score", "score.reward", f"{cause}; set one of {_names(recipe)}, or a combination")


def _names(recipe: Recipe) -> str:
    return ", ".join(reward.name for reward in recipe.rewards)


def _scores(rows: Iterable[RewardRow]) -> dict[str, float]:
    return {row["response_id"]: row["score"] for row in rows if row["score"] is not None}


def _shown(number: float | None) -> str:
    return "none" if number is None else f"{number:.3f}"
