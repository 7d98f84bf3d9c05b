"""The models under evaluation and their judges: what their answers depend on, and how they are served."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cluster.services import SourceService
from ..errors import StageError
from ..identities import digest
from ..models.folder_check import problem
from ..models.pinned_source import PinnedSource, template_identity
from ..recipe import DOMAINS, EndpointSource, EvaluatedModel, JudgedSuite, Model, Sampling, Source
from ..run import Run


@dataclass(frozen=True, slots=True)
class ModelUnderTest:
    """A model under evaluation, or a judge."""

    name: str
    source: Source | EndpointSource
    """How requests reach it. For the run's own models this only names their deployment."""
    revision: str
    template: str
    model: Model | Path | None = None
    """Its weights, if it is served here."""
    chat_template: str | None = None
    setting: str = "evaluate"
    """The recipe key of its placement."""

    def pinned(self, sampling: Sampling, samples: int, seed: int) -> PinnedSource:
        """The model with these sampling parameters, for prompts of every domain."""
        changes = {"sampling": sampling, "samples": dict.fromkeys(DOMAINS, samples), "max_tokens": {}}
        return PinnedSource(self.source.model_copy(update=changes), self.revision, self.template, seed)


def models_under_test(run: Run) -> list[ModelUnderTest]:
    """The models that the recipe evaluates, in its order.

    Raises:
        StageError: one of them has not been trained.
    """
    sources = {s.source.name: s for s in run.pinned_sources}
    models = []
    for entry in run.recipe.evaluate.models:
        if isinstance(entry, EvaluatedModel):
            models.append(_own_entry(run, entry))
        elif entry in sources:
            models.append(_source(run, sources[entry]))
        else:
            models.append(_trained(run, entry))
    return models


def _own_entry(run: Run, entry: EvaluatedModel) -> ModelUnderTest:
    template = run.read_template(entry.chat_template)
    placed = entry.engine is not None or entry.placement is not None
    return ModelUnderTest(
        name=entry.name,
        source=_deployment(run, entry.name, entry),
        revision=run.evaluated_revision(entry),
        template=template_identity(template, "keep"),
        model=entry.model,
        chat_template=template,
        setting=f"evaluate.models.{entry.name}" if placed else "evaluate",
    )


def _source(run: Run, pinned: PinnedSource) -> ModelUnderTest:
    """A source of the recipe, as it is sampled."""
    source, name = pinned.source, pinned.source.name
    if isinstance(source, Source):
        model, template = run.recipe.source(name).model, run.templates[name]
        return ModelUnderTest(name, source, pinned.revision, pinned.template, model, template, f"sources.{name}")
    assert isinstance(source, EndpointSource)
    return ModelUnderTest(name, source, pinned.revision, pinned.template, setting=f"sources.{name}")


def _trained(run: Run, name: str) -> ModelUnderTest:
    """The target, or the model that a training stage made from it."""
    target, system = run.target.model, run.target.system
    revision = run.model_revision(target) if name == "target" else run.fingerprint(name)
    return ModelUnderTest(
        name=name,
        source=_deployment(run, name).model_copy(update={"system": system}),
        revision=run.with_precision(revision, "evaluate.engine.dtype", run.recipe.evaluate.engine),
        template=template_identity(run.target_template, system),
        model=target if name == "target" else run.trained_model(name),
        chat_template=run.target_template,
    )


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


def services(run: Run, models: Sequence[ModelUnderTest], missing: Sequence[PinnedSource]) -> dict[str, SourceService]:
    """The services of those models that are served here and still miss answers, by name.

    Raises:
        StageError: a model's folder is invalid. This is checked before any engine starts.
    """
    names = {s.source.name for s in missing}
    served = [(m, m.source) for m in models if m.source.name in names and isinstance(m.source, Source)]
    folders: dict[str, Path] = {m.name: m.model for m, _ in served if isinstance(m.model, Path)}
    folders |= run.fetch({m.name: m.model for m, _ in served if isinstance(m.model, Model)})
    for name, folder in folders.items():
        if (why := problem(folder)) is not None:
            raise StageError("evaluate", name, f"{folder} is not a model: {why}")
    concurrency = run.recipe.sample.concurrency
    return {
        source.name: SourceService(source, folders[m.name], m.chat_template, m.setting, concurrency)
        for m, source in served
    }


def judge_of(run: Run, config: JudgedSuite) -> ModelUnderTest:
    """A judged suite's judge: one of `evaluate.judges`, or a source of the recipe."""
    for own in run.recipe.evaluate.judges:
        if own.name == config.judge:
            source = EndpointSource(kind="endpoint", samples={"instruction": 1}, **own.model_dump())
            return ModelUnderTest(own.name, source, digest(own.url, own.model, own.revision), "endpoint/keep")
    return _source(run, next(s for s in run.pinned_sources if s.source.name == config.judge))
