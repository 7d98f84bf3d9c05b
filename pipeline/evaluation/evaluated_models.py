"""Models under evaluation and their judges: how they are asked, what their answers hang on, how they are served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.models import fetch
from fusechat.pipeline.models.check import problem
from fusechat.pipeline.recipe import DOMAINS, EndpointSource, EvaluatedModel, JudgedSuite, Model, Sampling, Source
from fusechat.pipeline.records import digest
from fusechat.pipeline.run import Run
from fusechat.pipeline.sampling.plan import Asked, template_identity


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model under evaluation."""

    name: str
    source: Source | EndpointSource
    """As it is asked; of the run's own models only a name for their deployment."""
    revision: str
    template: str
    model: Model | Path | None = None
    """Its weights, where it is hosted here."""
    chat_template: str | None = None
    setting: str = "evaluate"
    """The recipe key of its place."""

    def asked(self, sampling: Sampling, samples: int, seed: int) -> Asked:
        """The model, asked in this way for prompts of every domain."""
        changes = {"sampling": sampling, "samples": dict.fromkeys(DOMAINS, samples), "max_tokens": {}}
        return Asked(self.source.model_copy(update=changes), self.revision, self.template, seed)


def candidates(run: Run) -> list[Candidate]:
    """The models that the recipe has evaluated, in its order.

    Raises:
        StageError: one of them has not been trained.
    """
    recipe, config = run.recipe, run.recipe.evaluate
    asked = {a.source.name: a for a in run.asked}
    found = []
    for entry in config.models:
        if isinstance(entry, EvaluatedModel):
            template = run.read_template(entry.chat_template)
            source = _deployment(run, entry.name, entry)
            own = f"evaluate.models.{entry.name}"
            revision = run.evaluated_revision(entry)
            identity = template_identity(template, "keep")
            setting = own if entry.engine is not None or entry.placement is not None else "evaluate"
            found.append(Candidate(entry.name, source, revision, identity, entry.model, template, setting))
        elif entry in asked:
            one = asked[entry]
            served = isinstance(one.source, Source)
            weights = recipe.source(entry).model if served else None
            text = run.templates[entry] if served else None
            source = one.source  # type: ignore[assignment]
            found.append(Candidate(entry, source, one.revision, one.template, weights, text, f"sources.{entry}"))
        else:
            weights_of: Model | Path = recipe.target.model if entry == "target" else trained_model(run, entry)
            target = fetch.revision(recipe.target.model, base=run.base)
            revision = target if entry == "target" else run.fingerprint(entry)
            revision = run.marked(revision, "evaluate.engine.dtype", config.engine)
            identity = template_identity(run.target_template, "keep")
            source = _deployment(run, entry)
            found.append(Candidate(entry, source, revision, identity, weights_of, run.target_template))
    return found


def _deployment(run: Run, name: str, entry: EvaluatedModel | None = None) -> Source:
    config = run.recipe.evaluate
    return Source(
        name=f"model-{name}"[:63],
        model=Model(path=name),
        engine=(entry.engine if entry is not None else None) or config.engine,
        placement=(entry.placement if entry is not None else None) or config.placement,
        sampling=config.sampling,
        samples=dict.fromkeys(DOMAINS, 1),
    )


def trained_model(run: Run, stage: str) -> Path:
    """Folder of the model that a training stage made.

    Raises:
        StageError: the stage has not been run.
    """
    run.fingerprint(stage)
    result = run.dir.read_json(stage, "result.json")
    return run.dir.local_path(stage, result["folder"], "model")


def services(run: Run, there: Sequence[Candidate], missing: Sequence[Asked]) -> dict[str, Any]:
    """The services by name of those of them that are hosted here and still miss something.

    Raises:
        StageError: a model's folder can be seen to be broken, before any engine is started.
    """
    from fusechat.services import app

    names = {a.source.name for a in missing}
    mine = [c for c in there if c.source.name in names and isinstance(c.source, Source)]
    folders: dict[str, Path] = {c.name: c.model for c in mine if isinstance(c.model, Path)}
    folders |= run.fetch({c.name: c.model for c in mine if isinstance(c.model, Model)})
    for name, folder in folders.items():
        if (why := problem(folder)) is not None:
            raise StageError("evaluate", name, f"{folder} is no model: {why}")
    return {
        c.source.name: app.source_service(
            c.source,  # type: ignore[arg-type]
            folders[c.name],
            c.chat_template,
            c.setting,
            run.recipe.sample.concurrency,
        )
        for c in mine
    }


def judge(run: Run, config: JudgedSuite) -> Candidate:
    """A judged suite's judge: a source of the recipe, or one of `evaluate.judges`."""
    for own in run.recipe.evaluate.judges:
        if own.name == config.judge:
            source = EndpointSource(kind="endpoint", samples={"instruction": 1}, **own.model_dump())
            return Candidate(own.name, source, digest(own.url, own.model, own.revision), "endpoint/keep")
    one = next(a for a in run.asked if a.source.name == config.judge)
    if isinstance(one.source, Source):
        model, text = run.recipe.source(config.judge).model, run.templates[config.judge]
        setting = f"sources.{config.judge}"
        return Candidate(config.judge, one.source, one.revision, one.template, model, text, setting)
    assert isinstance(one.source, EndpointSource)
    return Candidate(config.judge, one.source, one.revision, one.template)
