"""Stage `score`: verdicts, rewards of as many reward models as the recipe needs, and how all of them agree."""

from __future__ import annotations

from typing import Any

from fusechat.pipeline.models import fetch
from fusechat.pipeline.recipe import COMBINED, OwnReward, Source
from fusechat.pipeline.records import REWARD, SCORE, digest
from fusechat.pipeline.run import Outcome, Run
from fusechat.pipeline.scoring import agreement
from fusechat.pipeline.scoring import rewards as scoring
from fusechat.pipeline.storage.run_dir import Parts

Rows = list[dict[str, Any]]


def score(run: Run) -> Outcome:
    """Stage `score`: verdicts, the comparison of reward models, rewards, the report of how they agree."""
    recipe, rows = run.recipe, run.responses
    by_id = {p["prompt_id"]: p for p in run.train_prompts.to_pylist()}
    run.ray()
    to_verify = sum(r["domain"] in ("math", "code") for r in rows)
    with run.shown("verify", to_verify) as show:
        verdicts = scoring.verify(run.dir, "verify", rows, by_id, recipe, show)
    pilot = agreement.sample(rows, verdicts, recipe.score.agreement_sample)
    found, tokens = {}, 0
    for model in recipe.rewards:
        table, read = reward(run, model.name, pilot, by_id)
        tokens += read
        found[model.name] = agreement.with_verdicts(pilot, verdicts, _scores(table.values()))
    for name, f in found.items():
        run.progress.say(f"score: {name}: area under the curve {_shown(f['auc'])} on {f['num']} verified responses")
    rule = recipe.score.reward
    chosen = COMBINED if not isinstance(rule, str) else agreement.choose(found) if rule == "auto" else rule
    run.progress.say(f"score: selection uses {chosen}")
    reasons = scoring.not_scored(rows, verdicts, recipe.select)
    usable = [r for r in rows if r["response_id"] not in reasons]
    for name in [chosen] if isinstance(rule, str) else rule.names:
        mine = usable if isinstance(rule, str) else [r for r in usable if name in rule.terms(r["domain"])]
        _, read = reward(run, name, mine, by_id)
        tokens += read
    wanted = {r["response_id"] for r in rows}
    rewards = {
        r.name: {x["response_id"]: x for x in _parts(run, r.name).read().to_pylist() if x["response_id"] in wanted}
        for r in recipe.rewards
    }
    merged = scoring.merge(rows, verdicts, rewards, reasons, rule).to_pylist()
    run.dir.remove_tables("score")
    Parts(run.dir, "score", SCORE, "response_id").write_all(merged, recipe.sample.buckets)
    names = [chosen] if isinstance(rule, str) else rule.names
    made_by = {name: made(run, name) for name in names}
    report = {
        "chosen": chosen,
        "made_by": made_by,
        "reward_models": found,
        "run": relations(run, merged, rows, verdicts),
    }
    run.dir.write_json(report, "score", "agreement.json")
    correct = [v["correct"] for v in verdicts.values() if v["correct"] is not None]
    counts = {
        "responses": len(rows),
        "verified": len(correct),
        "correct": sum(correct),
        "rewarded": sum(chosen in dict(row["rewards"]) for row in merged),
    }
    return Outcome(digest(merged, chosen), counts, tokens)


def relations(run: Run, merged: Rows, rows: Rows, verdicts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How the run's rewards relate to verdicts, to length and to one another, on all that was scored; also said."""
    scores: dict[str, dict[str, float]] = {}
    for row in merged:
        for name, value in row["rewards"]:
            scores.setdefault(name, {})[row["response_id"]] = value
    lengths = {name: agreement.with_length(rows, values) for name, values in scores.items()}
    ranks = agreement.between(scores)
    for name, found in lengths.items():
        run.progress.say(f"score: {name}: rank correlation with length {_shown(found['spearman'])} ({found['num']})")
    for pair in ranks:
        shown = f"rank correlation {_shown(pair['spearman'])} on {pair['num']} common responses"
        run.progress.say(f"score: {pair['a']} and {pair['b']}: {shown}")
    return {
        "verdicts": {name: agreement.with_verdicts(rows, verdicts, values) for name, values in scores.items()},
        "lengths": lengths,
        "ranks": ranks,
    }


def reward(
    run: Run, name: str, rows: Rows, by_id: dict[str, Any], folder: str = "rewards"
) -> tuple[dict[str, dict[str, Any]], int]:
    """Rewards of these responses by one reward model, and the tokens read; what it needs is started where something is
    missing."""
    from fusechat.services import app

    model = next(r for r in run.recipe.rewards if r.name == name)
    parts = _parts(run, name, folder)
    missing = {r["response_id"] for r in rows} - parts.ids()
    if missing:
        keep: list[str] = []
        weights = None
        if isinstance(model, OwnReward):
            weights = run.model(model.model, name)
        else:
            source: Source = run.recipe.source(model.source)
            run.fleet.start(
                app.source_service(
                    source,
                    run.model(source.model, source.name),
                    run.templates[source.name],
                    f"sources.{source.name}",
                    run.recipe.sample.concurrency,
                )
            )
            run.fleet.wait(source.name)
            keep = [source.name]
        run.fleet.start(app.reward_service(model, weights, f"rewards.{name}"), keep=keep)
        run.fleet.wait(name)
    with run.shown(f"score {name}", len(rows), len(rows) - len(missing)) as show:
        return scoring.reward(run.dir, parts.folder, name, rows, by_id, run.recipe, show)


def made(run: Run, name: str) -> str:
    """What a reward model's scores hang on, as a name: its weights and settings."""
    return _parts(run, name).folder.split("/")[-1]


def _parts(run: Run, name: str, folder: str = "rewards") -> Parts:
    """A reward model's scores: they hold for these weights and settings only."""
    model = next(r for r in run.recipe.rewards if r.name == name)
    if isinstance(model, OwnReward):
        weights = [fetch.revision(model.model, base=run.base), "with objectives"]
    else:
        asked = next(a for a in run.asked if a.source.name == model.source)
        weights = [asked.revision, asked.template]
    settings = model.model_dump(mode="json", exclude={"placement", "max_batch_tokens"})
    return Parts(run.dir, f"{folder}/{name}-{digest(weights, settings)[:12]}", REWARD, "response_id")


def _scores(rows: Any) -> dict[str, float]:
    return {row["response_id"]: row["score"] for row in rows if row["score"] is not None}


def _shown(number: float | None) -> str:
    return "none" if number is None else f"{number:.3f}"
