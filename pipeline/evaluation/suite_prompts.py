"""The prompts of the suites, and the requests to each model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa

from ..errors import StageError
from ..identities import digest, prompt_id
from ..models.pinned_source import PinnedSource
from ..recipe import AnySuite, HarnessSuite, JudgedSuite, Sampling, VerifiedSuite
from ..records import PROMPT, REJECT, RESPONSE, Message, OverlapRow, PromptRow, ResponseRow
from ..run import Run
from ..sampling.generate import Want
from ..sampling.plan import wanted_domains, with_domains
from ..storage.parts import Parts
from . import harness, suite_contamination, suites
from .models_under_test import ModelUnderTest
from .suites import LoadedSuite

SAMPLES = "evaluate/samples"
"""Folder of the models' answers."""


def load(run: Run, suite: AnySuite) -> LoadedSuite:
    """Reads a suite's files, or gets the prompts of the harness's tasks."""
    if isinstance(suite, HarnessSuite):
        run.progress.log(f"evaluate {suite.name}: loading lm-evaluation-harness: {', '.join(suite.tasks)}")
        return harness.load(suite, run.base, run.recipe.evaluate.sampling)
    return suites.load(suite, run.base, run.recipe.prompts)


def find_contaminated(run: Run, loaded: Sequence[LoadedSuite]) -> dict[str, dict[str, OverlapRow]]:
    """Suite -> prompt id -> overlap with a training prompt. Writes and reports all of them.

    Raises:
        StageError: there are contaminated rows, and the recipe refuses them.
    """
    config = run.recipe.evaluate.contamination
    overlaps = suite_contamination.find(loaded, run.prompts("train"), run.recipe.sample.buckets, config)
    rows = [row for suite in overlaps.values() for row in suite.values()]
    run.dir.write_table(suite_contamination.table(rows), "evaluate", "contaminated.parquet")
    for name, by_prompt in overlaps.items():
        num = next(len(s.prompts) for s in loaded if s.config.name == name)
        first = next(iter(by_prompt.values()))
        message = (
            f"training prompts contain {len(by_prompt)} of {num} rows, e.g. {first['place']} by {first['training']} "
            "(evaluate/contaminated.parquet)"
        )
        if config.action == "refuse":
            raise StageError(
                "evaluate", f"suite {name}", f"{message}; remove them from the suite or from prompts.train"
            )
        run.progress.log(f"evaluate {name}: {message}")
    return overlaps


def write_prompts(run: Run, suite: LoadedSuite) -> None:
    """Writes a suite's prompts and its rejected rows."""
    for parts, sampling in groups(run, suite):
        add_prompts(run, parts, [p for p in suite.prompts if _sampling_of(run, suite, p["prompt_id"]) == sampling])
    rejects = [
        {"stage": "evaluate", "id": place, "reason": reason, "detail": detail[:500]}
        for place, reason, detail in suite.rejects
    ]
    if rejects:
        first = ": ".join(suite.rejects[0])
        run.progress.log(f"evaluate {suite.config.name}: {len(rejects)} rows can't be used, e.g. {first}")
    table = pa.Table.from_pylist(rejects, schema=REJECT)
    run.dir.write_table(table, "evaluate", "rejects", f"{suite.config.name}.parquet")


def add_prompts(run: Run, parts: Parts, prompts: Iterable[PromptRow]) -> None:
    """Writes the prompts that are not stored yet."""
    stored = parts.ids()
    parts.write_all([p for p in prompts if p["prompt_id"] not in stored], run.recipe.sample.buckets)


def groups(run: Run, suite: LoadedSuite) -> list[tuple[Parts, Sampling]]:
    """The suite's prompts, grouped by their sampling parameters.

    Only the harness's tasks, and judged suites with `temperatures`, may have more than one group.
    """
    folder, config = f"evaluate/prompts/{suite.config.name}-{suite.identity}", suite.config
    different = dict.fromkeys(_sampling_of(run, suite, p["prompt_id"]) for p in suite.prompts)
    if not isinstance(config, HarnessSuite) and not (isinstance(config, JudgedSuite) and config.temperatures):
        (sampling,) = different
        return [(Parts(run.dir, folder, PROMPT, "prompt_id"), sampling)]
    named = {f"{folder}-{digest(each.model_dump(mode='json'))[:8]}": each for each in different}
    return [(Parts(run.dir, name, PROMPT, "prompt_id"), each) for name, each in named.items()]


def _sampling_of(run: Run, suite: LoadedSuite, identity: str) -> Sampling:
    """The sampling parameters of the answers to a prompt."""
    config = suite.config
    if isinstance(config, HarnessSuite):
        return suite.samplings[identity]
    sampling = config.sampling or run.recipe.evaluate.sampling
    category, _ = suite.categories.get(identity, ("", ""))
    if isinstance(config, JudgedSuite) and category in config.temperatures:
        return sampling.model_copy(update={"temperature": config.temperatures[category]})
    return sampling


def _pinned(run: Run, model: ModelUnderTest, suite: LoadedSuite, sampling: Sampling) -> PinnedSource:
    """How one model is sampled for a group of the suite's prompts."""
    samples = suite.config.samples if isinstance(suite.config, VerifiedSuite) else 1
    return model.pinned(sampling, samples, run.recipe.seed)


def first_turns(run: Run, models: Sequence[ModelUnderTest], loaded: Sequence[LoadedSuite]) -> list[Want]:
    """All held-out and suite prompts, one model after the other, so that each model starts only once."""
    wants = []
    for model in models:
        if len(run.heldout_prompts):
            pinned = model.pinned(run.recipe.evaluate.sampling, 1, run.recipe.seed)
            wants.append(Want(pinned, run.prompts("heldout"), f"evaluate {model.name}"))
        for suite in loaded:
            label = f"evaluate {model.name} {suite.config.name}"
            wants += [Want(_pinned(run, model, suite, each), parts, label) for parts, each in groups(run, suite)]
    return wants


def second_turns(run: Run, models: Sequence[ModelUnderTest], loaded: Sequence[LoadedSuite]) -> list[Want]:
    """The second turns of conversations, each after the model's own first answer."""
    wants = []
    for model in models:
        for suite in loaded:
            if suite.follow_ups:
                for pinned, parts, turns in second_turns_of(run, model, suite):
                    add_prompts(run, parts, turns.values())
                    wants.append(Want(pinned, parts, f"evaluate {model.name} {suite.config.name}, turn 2"))
    return wants


def second_turns_of(
    run: Run, model: ModelUnderTest, suite: LoadedSuite
) -> list[tuple[PinnedSource, Parts, dict[str, PromptRow]]]:
    """How one model is sampled for its second turns, where their prompts are stored, and first prompt's id -> prompt;
    for each group of sampling parameters.

    Each prompt contains the model's own answer to the first question.
    """
    first = {r["prompt_id"]: r["text"] for r in suite_answers(run, [model], suite)[model.name]}
    turns: dict[Sampling, dict[str, PromptRow]] = {}
    for prompt in suite.prompts:
        if follow_up := suite.follow_ups.get(prompt["prompt_id"]):
            answer = Message(role="assistant", content=first[prompt["prompt_id"]])
            messages = [*prompt["messages"], answer, Message(role="user", content=follow_up)]
            group = turns.setdefault(_sampling_of(run, suite, prompt["prompt_id"]), {})
            group[prompt["prompt_id"]] = {**prompt, "prompt_id": prompt_id(messages), "messages": messages}
    found = []
    for sampling, group in turns.items():
        named = digest(sorted(p["prompt_id"] for p in group.values()))[:12]
        folder = f"evaluate/prompts/{suite.config.name}-{suite.identity}-turn-2-{named}"
        pinned = model.pinned(sampling, 1, run.recipe.seed)
        found.append((pinned, Parts(run.dir, folder, PROMPT, "prompt_id"), group))
    return found


def answers(run: Run, sources: Sequence[PinnedSource], prompts: pa.Table, folder: str = SAMPLES) -> list[ResponseRow]:
    """The stored responses of these sources to these prompts."""
    return _answers_in(_stored(run, folder), sources, prompts)


def _stored(run: Run, folder: str = SAMPLES) -> pa.Table:
    return Parts(run.dir, folder, RESPONSE, "response_id").read()


def _answers_in(stored: pa.Table, sources: Sequence[PinnedSource], prompts: pa.Table) -> list[ResponseRow]:
    """The responses of these sources to these prompts, in the table's order. Only they become Python objects."""
    import pyarrow.compute as pc

    domains = wanted_domains(sources, prompts)
    ids = pa.array(list(domains), type=stored.schema.field("response_id").type)
    rows: list[ResponseRow] = stored.filter(pc.is_in(stored.column("response_id"), value_set=ids)).to_pylist()
    return with_domains(rows, domains)


def suite_answers(run: Run, models: Sequence[ModelUnderTest], suite: LoadedSuite) -> dict[str, list[ResponseRow]]:
    """Model -> its stored responses to a suite's prompts."""
    by_model: dict[str, list[ResponseRow]] = {model.name: [] for model in models}
    stored = _stored(run)
    for parts, sampling in groups(run, suite):
        prompts = parts.read()
        for model in models:
            by_model[model.name] += _answers_in(stored, [_pinned(run, model, suite, sampling)], prompts)
    return by_model
