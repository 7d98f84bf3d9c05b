"""Stage `evaluate`: a list of models answers held-out prompts and suites; verifiers and judges say how well."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.evaluation import harness, pairwise, suite_contamination, suites
from fusechat.pipeline.evaluation.evaluated_models import Candidate, candidates, services
from fusechat.pipeline.evaluation.evaluated_models import judge as judge_of
from fusechat.pipeline.recipe import (
    REFERENCE,
    AnySuite,
    EvaluatedModel,
    HarnessSuite,
    JudgedSuite,
    Sampling,
    VerifiedSuite,
)
from fusechat.pipeline.records import PROMPT, REJECT, RESPONSE, digest, prompt_id
from fusechat.pipeline.run import Outcome, Run
from fusechat.pipeline.sampling import generate, plan
from fusechat.pipeline.sampling.plan import Asked
from fusechat.pipeline.scoring import rewards, score
from fusechat.pipeline.storage.run_dir import Parts

Rows = list[dict[str, Any]]
SAMPLES, JUDGEMENTS = "evaluate/samples", "evaluate/judgements"


def settings(run: Run) -> list[Any]:
    """What the stage's output hangs on beyond the held-out evaluation of the run's own models."""
    config = run.recipe.evaluate
    mark = run.marked("", "evaluate.engine.dtype", config.engine)
    marks = [mark] if mark else []  # what was evaluated before precisions were kept still holds
    if not config.suites and config.models == type(config)().models:
        return marks
    own = [
        [m, run.evaluated_revision(m), run.read_template(m.chat_template)]
        for m in run.written.evaluate.models
        if isinstance(m, EvaluatedModel)
    ]
    asked = [[a.source.name, a.revision, a.template] for a in run.asked if a.source.name in config.names]
    files = [suites.fingerprints(suite, run.base) for suite in config.suites]
    judges = [[j.name, j.url, j.model, j.revision] for j in config.judges]
    return [config.names, own, asked, config.suites, files, judges, config.contamination, *marks]


def evaluate(run: Run) -> Outcome:
    """The stage.

    Raises:
        StageError: there is nothing to evaluate on, a model can't be served, or rows of a suite are contaminated and
            the recipe refuses that.
        InputError: a suite can't be used.
    """
    from fusechat.pipeline.evaluation import heldout as metrics
    from fusechat.pipeline.evaluation import suite_scores, tables

    recipe, heldout = run.recipe, run.heldout_prompts
    loaded = [_load(run, suite) for suite in recipe.evaluate.suites]
    if not len(heldout) and not loaded:
        raise StageError("evaluate", "prompts.heldout", "there is no held-out prompt and no suite")
    overlapping = _overlaps(run, loaded)
    for suite in loaded:
        _write_prompts(run, suite)
    there = candidates(run)
    tokens = 0
    for wants in (_wants, _follow_ups):  # the second turns follow from the answers to the first
        tokens += generate.draw(run, "evaluate", SAMPLES, wants(run, there, loaded), lambda a: services(run, there, a))
    sources = [s.name for s in recipe.served]  # they may be asked to judge
    run.release(c.source.name for c in there if c.source.name not in sources)
    run.ray()
    names = {c.source.name: c.name for c in there}
    counts, data = {}, []
    if len(heldout):
        wanted = [c.asked(recipe.evaluate.sampling, 1, recipe.seed) for c in there]
        rows, by_id = _answers(run, wanted, heldout), {p["prompt_id"]: p for p in heldout.to_pylist()}
        with run.shown("evaluate verify", sum(r["domain"] in ("math", "code") for r in rows)) as show:
            verdicts = rewards.verify(run.dir, "evaluate/verify", rows, by_id, recipe, show)
        ratings: dict[str, dict[str, Any]] = {}
        to_rate = tables.rated(recipe, rows)
        if to_rate and recipe.evaluate.judge is not None:
            ratings, read = score.reward(run, recipe.evaluate.judge, to_rate, by_id, folder="evaluate/ratings")
            tokens += read
        answers = tables.answers(rows, by_id, verdicts, ratings, names)
        run.dir.write_table(answers, "evaluate", "answers.parquet")
        run.dir.write_json(metrics.summarise(answers), "evaluate", "metrics.json")
        counts["answers"] = len(answers)
        data.append(answers.to_pylist())
    else:
        run.dir.remove_if_there("evaluate", "answers.parquet")
        run.dir.remove_if_there("evaluate", "metrics.json")
    if loaded:
        items, judged = [], {}
        for suite in loaded:
            if isinstance(suite.config, JudgedSuite):
                more, judged[suite.config.name] = _judged(run, there, suite)
                tokens += judged[suite.config.name]["tokens"]
            else:
                more = (_harnessed if isinstance(suite.config, HarnessSuite) else _verified)(run, there, suite)
            items += more
        held = {name: {*rows, *map(suites.second_turn, rows)} for name, rows in overlapping.items()}
        table = tables.items_table(items, held)
        run.dir.write_table(table, "evaluate", "items.parquet")
        told = [_told(run, suite, overlapping, judged) for suite in loaded]
        asked_as = {c.name: {"revision": c.revision, "template": c.template} for c in there}
        references = {s.config.name: tables.styles(s.references) for s in loaded}
        run.dir.write_json(suite_scores.standings(table, told, asked_as, references), "evaluate", "suites.json")
        counts |= {"suites": len(loaded), "items": len(table)}
        data.append(table.to_pylist())
    else:
        run.dir.remove_if_there("evaluate", "suites.json")
        run.dir.remove_if_there("evaluate", "items.parquet")
    return Outcome(digest(*data), counts, tokens)


def _load(run: Run, suite: AnySuite) -> suites.Loaded:
    if isinstance(suite, HarnessSuite):
        run.progress.say(f"evaluate {suite.name}: asking lm-evaluation-harness for {', '.join(suite.tasks)}")
        return harness.load(suite, run.base, run.recipe.evaluate.sampling)
    return suites.load(suite, run.base, run.recipe.prompts)


def _overlaps(run: Run, loaded: Sequence[suites.Loaded]) -> dict[str, dict[str, Any]]:
    """Suite -> prompt id -> OVERLAP row, written and said.

    Raises:
        StageError: there are some, and the recipe refuses that.
    """
    config = run.recipe.evaluate.contamination
    found = suite_contamination.find(loaded, run.prompts("train"), run.recipe.sample.buckets, config)
    rows = [row for suite in found.values() for row in suite.values()]
    run.dir.write_table(suite_contamination.table(rows), "evaluate", "contaminated.parquet")
    for name, mine in found.items():
        num = next(len(s.prompts) for s in loaded if s.config.name == name)
        first = next(iter(mine.values()))
        told = (
            f"{len(mine)} of {num} rows are held by training prompts, e.g. {first['place']} by {first['training']} "
            "(evaluate/contaminated.parquet)"
        )
        if config.action == "refuse":
            raise StageError("evaluate", f"suite {name}", f"{told}; take them out of the suite or of prompts.train")
        run.progress.say(f"evaluate {name}: {told}")
    return found


def _write_prompts(run: Run, suite: suites.Loaded) -> None:
    for parts, sampling_ in _groups(run, suite):
        _keep(run, parts, [p for p in suite.prompts if suite.samplings.get(p["prompt_id"], sampling_) == sampling_])
    rejects = [
        {"stage": "evaluate", "id": place, "reason": reason, "detail": detail[:500]}
        for place, reason, detail in suite.rejects
    ]
    if rejects:
        run.progress.say(
            f"evaluate {suite.config.name}: {len(rejects)} rows can't be used, e.g. {': '.join(suite.rejects[0])}"
        )
    run.dir.write_table(
        pa.Table.from_pylist(rejects, schema=REJECT), "evaluate", "rejects", f"{suite.config.name}.parquet"
    )


def _keep(run: Run, parts: Parts, prompts: Iterable[Mapping[str, Any]]) -> None:
    """Writes those PROMPT rows that are not there yet."""
    there = parts.ids()
    parts.write_all([p for p in prompts if p["prompt_id"] not in there], run.recipe.sample.buckets)


def _groups(run: Run, suite: suites.Loaded) -> list[tuple[Parts, Sampling]]:
    """The suite's prompts by how they are to be answered; only the harness's tasks differ in that."""
    folder, config = f"evaluate/prompts/{suite.config.name}-{suite.identity}", suite.config
    if not isinstance(config, HarnessSuite):
        return [(Parts(run.dir, folder, PROMPT, "prompt_id"), config.sampling or run.recipe.evaluate.sampling)]
    different = dict.fromkeys(suite.samplings.values())
    named = {f"{folder}-{digest(each.model_dump(mode='json'))[:8]}": each for each in different}
    return [(Parts(run.dir, name, PROMPT, "prompt_id"), each) for name, each in named.items()]


def _asked(run: Run, candidate: Candidate, suite: suites.Loaded) -> list[tuple[Asked, Parts]]:
    samples = suite.config.samples if isinstance(suite.config, VerifiedSuite) else 1
    return [(candidate.asked(each, samples, run.recipe.seed), parts) for parts, each in _groups(run, suite)]


def _wants(run: Run, there: Sequence[Candidate], loaded: Sequence[suites.Loaded]) -> list[generate.Want]:
    """All that is asked, a model's together, so that each is started once."""
    wants = []
    for candidate in there:
        if len(run.heldout_prompts):
            asked = candidate.asked(run.recipe.evaluate.sampling, 1, run.recipe.seed)
            wants.append(generate.Want(asked, run.prompts("heldout"), f"evaluate {candidate.name}"))
        for suite in loaded:
            label = f"evaluate {candidate.name} {suite.config.name}"
            wants += [generate.Want(asked, parts, label) for asked, parts in _asked(run, candidate, suite)]
    return wants


def _follow_ups(run: Run, there: Sequence[Candidate], loaded: Sequence[suites.Loaded]) -> list[generate.Want]:
    """The second turns, each after the model's own first answer."""
    wants = []
    for candidate in there:
        for suite in loaded:
            if suite.follow_ups:
                asked, parts, turns = _second_turns(run, candidate, suite)
                _keep(run, parts, turns.values())
                wants.append(generate.Want(asked, parts, f"evaluate {candidate.name} {suite.config.name}, turn 2"))
    return wants


def _second_turns(run: Run, candidate: Candidate, suite: suites.Loaded) -> tuple[Asked, Parts, dict[str, Any]]:
    """How they are asked, where they are kept, and first prompt's id -> PROMPT row with what was answered to it."""
    first = {r["prompt_id"]: r["text"] for r in _suite_answers(run, [candidate], suite)[candidate.name]}
    turns = {}
    for prompt in suite.prompts:
        if follow_up := suite.follow_ups.get(prompt["prompt_id"]):
            said = {"role": "assistant", "content": first[prompt["prompt_id"]]}
            messages = [*prompt["messages"], said, {"role": "user", "content": follow_up}]
            turns[prompt["prompt_id"]] = {**prompt, "prompt_id": prompt_id(messages), "messages": messages}
    ((asked, _),) = _asked(run, candidate, suite)
    named = digest(sorted(p["prompt_id"] for p in turns.values()))[:12]
    folder = f"evaluate/prompts/{suite.config.name}-{suite.identity}-turn-2-{named}"
    return asked, Parts(run.dir, folder, PROMPT, "prompt_id"), turns


def _answers(run: Run, asked: Sequence[Asked], prompts: Any, folder: str = SAMPLES) -> Rows:
    """The RESPONSE rows that are wanted."""
    wanted = plan.wanted_ids(asked, prompts)
    return [r for r in Parts(run.dir, folder, RESPONSE, "response_id").read().to_pylist() if r["response_id"] in wanted]


def _suite_answers(run: Run, there: Sequence[Candidate], suite: suites.Loaded) -> dict[str, Rows]:
    """Model -> its RESPONSE rows."""
    found: dict[str, Rows] = {}
    for candidate in there:
        for asked, parts in _asked(run, candidate, suite):
            found.setdefault(candidate.name, []).extend(_answers(run, [asked], parts.read()))
    return found


def _harnessed(run: Run, there: Sequence[Candidate], suite: suites.Loaded) -> Rows:
    """ITEM rows of the harness's tasks."""
    from fusechat.pipeline.evaluation import tables

    config, by_id = suite.config, {p["prompt_id"]: p for p in suite.prompts}
    assert isinstance(config, HarnessSuite)
    items: Rows = []
    for name, rows in _suite_answers(run, there, suite).items():
        answers = {r["prompt_id"]: r for r in rows}
        scored = harness.score(config, run.base, {i: r["text"] for i, r in answers.items()})
        items += tables.harness_items(config.name, name, answers, by_id, scored)
    return items


def _verified(run: Run, there: Sequence[Candidate], suite: suites.Loaded) -> Rows:
    """ITEM rows of a verified suite."""
    from fusechat.pipeline.evaluation import tables

    name, by_id = suite.config.name, {p["prompt_id"]: p for p in suite.prompts}
    answers = _suite_answers(run, there, suite)
    rows = [r for mine in answers.values() for r in mine]
    with run.shown(f"evaluate verify {name}", len(rows)) as show:
        verdicts = rewards.verify(run.dir, f"evaluate/verdicts/{name}-{suite.identity}", rows, by_id, run.recipe, show)
    items: Rows = []
    for model, mine in answers.items():
        items += tables.verified_items(name, model, mine, by_id, verdicts)
    return items


def _judged(run: Run, there: Sequence[Candidate], suite: suites.Loaded) -> tuple[Rows, dict[str, Any]]:
    """ITEM rows of a judged suite, and what the judge took."""
    from fusechat.pipeline.evaluation import tables

    config, by_id = suite.config, {p["prompt_id"]: p for p in suite.prompts}
    assert isinstance(config, JudgedSuite)
    answers = {n: {r["prompt_id"]: r for r in rows} for n, rows in _suite_answers(run, there, suite).items()}
    second = suite.second_turns()
    by_id |= {p["prompt_id"]: p for p in second.values()}
    first_of = {p["prompt_id"]: first for first, p in second.items()}
    if second:
        for c in there:
            asked_then, kept, turns = _second_turns(run, c, suite)
            found = {r["prompt_id"]: r for r in _answers(run, [asked_then], kept.read())}
            answers[c.name] |= {suites.second_turn(i): found[p["prompt_id"]] for i, p in turns.items()}
    held_against = (
        suite.references
        if config.baseline == REFERENCE
        else {i: r["text"] for i, r in answers[config.baseline].items()}
    )

    def before(model: str, i: str) -> tuple[str, str] | None:
        return (answers[model][first_of[i]]["text"], held_against[first_of[i]]) if i in first_of else None

    pairs = [
        pairwise.Pair(c.name, i, tables.conversation(p), answers[c.name][i]["text"], held_against[i], before(c.name, i))
        for c in there
        if c.name != config.baseline
        for i, p in by_id.items()
    ]
    judge = judge_of(run, config)
    questions, places = pairwise.questions(pairs, config.instruction, config.name)
    folder = f"evaluate/questions/{config.name}-{digest(sorted(q['prompt_id'] for q in questions))[:12]}"
    parts = Parts(run.dir, folder, PROMPT, "prompt_id")
    _keep(run, parts, questions)
    want = generate.Want(judge.asked(config.judge_sampling, 1, run.recipe.seed), parts, f"evaluate judge {config.name}")
    generate.draw(run, "evaluate", JUDGEMENTS, [want], lambda a: services(run, [judge], a))
    said = {r["prompt_id"]: r for r in _answers(run, [want.asked], parts.read(), JUDGEMENTS)}
    outcomes: dict[str, dict[str, tuple[float | None, str]]] = {c.name: {} for c in there}
    for pair, asked in zip(pairs, places, strict=True):
        outcomes[pair.model][pair.prompt_id] = pairwise.outcome(pair, [said.get(i) for i in asked])
    if config.baseline != REFERENCE:
        outcomes[config.baseline] = dict.fromkeys(by_id, (0.5, "baseline"))
    items: Rows = []
    for c in there:
        items += tables.judged_items(config.name, c.name, answers[c.name], by_id, outcomes[c.name])
    read, written = (sum(r[k] for r in said.values()) for k in ("prompt_tokens", "completion_tokens"))
    spent = {
        "judge": config.judge,
        "revision": judge.revision,
        "sampling": config.judge_sampling.model_dump(mode="json"),
        "instruction": digest(config.instruction or pairwise.INSTRUCTION)[:12],
        "judgements": len(said),
        "rejected": sum(bool(r["reject"]) for r in said.values()),
        "prompt_tokens": read,
        "completion_tokens": written,
        "tokens": read + written,
    }
    run.progress.say(f"evaluate {config.name}: {len(said)} judgements, {read} tokens read and {written} written")
    return items, spent


def _told(run: Run, suite: suites.Loaded, overlapping: Mapping[str, Any], judged: Mapping[str, Any]) -> dict[str, Any]:
    """What stands beside a suite's figures."""
    config, samplings = suite.config, [each.model_dump(mode="json") for _, each in _groups(run, suite)]
    return {
        "name": config.name,
        "kind": config.kind,
        "group": config.group,
        "form": "harness" if isinstance(config, HarnessSuite) else config.form,
        "num_items": len(suite.prompts) + len(suite.follow_ups),
        "files": suites.fingerprints(config, run.base),
        "identity": suite.identity,
        "unusable": len(suite.rejects),
        "contaminated": len(overlapping.get(config.name, ())),
        "sampling": samplings[0],
        "more_samplings": samplings[1:],
        "samples": getattr(config, "samples", 1),
        "seed": run.recipe.seed,
        "ask": None if isinstance(config, HarnessSuite) else suites.ask_of(config),
        "tasks": list(config.tasks) if isinstance(config, HarnessSuite) else None,
        "baseline": getattr(config, "baseline", None),
        "control": getattr(config, "control", None),
        "judging": judged.get(config.name),
    }
