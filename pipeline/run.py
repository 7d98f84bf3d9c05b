"""One run: the stages in order, each skipped while its manifest still holds. The only place that composes siblings."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from fusechat.pipeline.cluster.placement import Need
from fusechat.pipeline.cluster.ray_data import FLUSH_S
from fusechat.pipeline.errors import FusechatError, InputError, Preempted, RunDirectoryError, StageError, UserError
from fusechat.pipeline.models import fetch as models
from fusechat.pipeline.progress import Progress
from fusechat.pipeline.prompts import intake as prompts
from fusechat.pipeline.recipe import (
    EndpointSource,
    Engine,
    EvaluatedModel,
    ImportedSource,
    Model,
    Recipe,
    Serve,
    Source,
    precision,
    sizes,
)
from fusechat.pipeline.records import PROMPT, digest
from fusechat.pipeline.sampling.plan import Asked, template_identity
from fusechat.pipeline.storage.run_dir import STAGES, Manifest, Parts, RunDir, versions


@dataclass(slots=True)
class Outcome:
    """What a stage did, for its manifest."""

    data: str
    counts: dict[str, int] = field(default_factory=dict)
    tokens: int = 0


class Run:
    """A recipe on a run directory."""

    def __init__(self, recipe: Recipe, base: Path, progress: Progress) -> None:
        """Opens a run.

        Args:
            recipe: as it is written; `self.recipe` has its precisions decided for this machine.
        """
        self.written, self.base, self.progress = recipe, base, progress
        self.recipe = precision.settled(recipe)
        self.dir = RunDir(recipe.run_dir)
        self._fleet: Any = None
        self._ray: Any = None

    def walk(self, stages: Sequence[str] = STAGES, pilot: int = 0) -> dict[str, bool]:
        """Brings the stages up to date; returns which of them had work to do.

        Args:
            pilot: prompts that each source is then asked, of those that miss something.

        Raises:
            FusechatError: see errors.py; whatever was done before is kept.
        """
        from fusechat.pipeline.cluster import connect

        connect.quieten()
        with preemption(), self.dir.lock():
            sizes.check(self.recipe)
            self._claim()
            self._announce(stages)
            if pilot or set(stages) != {"prompts"}:  # reading prompts takes no cluster
                self._check_capacity()
            worked = {}
            try:
                for stage in STAGES:
                    if stage in stages:
                        worked[stage] = self._bring_up_to_date(stage)
                if pilot:
                    self._sample_pilot(pilot)
            except BaseException:
                if not _told.is_set():
                    self.close()
                    raise
                self.progress.say("SIGTERM: what is finished is made durable")
                time.sleep(2 * FLUSH_S)
                if self.recipe.cluster.address is not None and self._fleet is not None:
                    self._fleet.close()
                raise  # a Ray that was started here ends with this process
            self.close()
            return worked

    def _announce(self, stages: Sequence[str]) -> None:
        """Says what is computed in, which size a recipe of several takes and how long; foresees the stages' times."""
        if any(precision.of_stage(self.recipe, stage) for stage in stages):
            for line in precision.decisions(self.written):
                self.progress.say(line)
        for line in sizes.summary(self.recipe):
            self.progress.say(line)
        expected, in_seconds = sizes.expected(self.recipe)
        self.progress.plan({stage: expected[stage] for stage in STAGES if stage in stages}, in_seconds)

    def _claim(self) -> None:
        """Refuses a run directory that another recipe made; says in which precisions the run goes on."""
        mine = {"recipe": self.recipe.name, "target": self.recipe.target.model_dump(mode="json")}
        if self.dir.exists("run.json"):
            there = self.dir.read_json("run.json")
            for key, value in mine.items():
                if there.get(key) != value:
                    raise RunDirectoryError(
                        f"{self.dir.url}: belongs to another recipe ({key} was {there.get(key)}, now {value}); "
                        "give another run_dir"
                    )
            was, _ = precision.begun_in(there)
            for line in precision.changes(was, precision.taken(self.recipe)):
                self.progress.say(line)
        kept = {"precision": precision.taken(self.recipe), "unmarked": self._unmarked}
        self.dir.write_json({**mine, "settings": self.written.model_dump(mode="json"), **kept}, "run.json")

    @cached_property
    def _unmarked(self) -> list[str]:
        """Keys of engines whose precision no identity names, since an earlier version began the run in it."""
        if not self.dir.exists("run.json"):
            return []
        was, unmarked = precision.begun_in(self.dir.read_json("run.json"))
        return [key for key in unmarked if was[key] == precision.taken(self.recipe).get(key)]

    def marked(self, revision: str, key: str, engine: Engine) -> str:
        """A model's revision as identities have it, with its engine's precision.

        Args:
            key: of the precision in the recipe.
        """
        return revision if key in self._unmarked else precision.mark(revision, engine.dtype)

    def evaluated_revision(self, model: EvaluatedModel) -> str:
        """Revision of a model of its own under evaluation, with its engine's precision."""
        place = f"evaluate.models.{model.name}" if model.engine is not None else "evaluate"
        here = next(m for m in self.recipe.evaluate.models if isinstance(m, EvaluatedModel) and m.name == model.name)
        engine = here.engine or self.recipe.evaluate.engine
        return self.marked(models.revision(model.model, base=self.base), f"{place}.engine.dtype", engine)

    def _bring_up_to_date(self, stage: str) -> bool:
        from fusechat.pipeline.stages import graph as stages

        config, inputs = stages.settings(self, stage), stages.inputs(self, stage)
        if (manifest := self.dir.holds(stage, config, inputs)) is not None:
            self.progress.leave_out(stage)
            self.progress.say(f"{stage}: up to date ({_counts(manifest.counts)})")
            return False
        self.progress.start(stage)
        self.progress.say(f"{stage}: starting")
        began = time.monotonic()
        outcome = stages.WORK[stage](self)
        manifest = Manifest(
            stage=stage,
            config=config,
            inputs=inputs,
            data=outcome.data,
            counts=outcome.counts,
            tokens=outcome.tokens,
            seconds=round(time.monotonic() - began, 1),
            versions=versions(),
            precision=precision.of_stage(self.recipe, stage),
        )
        self.dir.write_manifest(manifest)
        self.progress.finish(stage)
        self.progress.say(f"{stage}: done in {manifest.seconds:.0f} s ({_counts(outcome.counts)})")
        return True

    def _sample_pilot(self, num: int) -> None:
        from fusechat.pipeline.stages import graph as stages

        stages.sample_missing(self, num)

    def fingerprint(self, stage: str) -> str:
        """Fingerprint of an earlier stage's output.

        Raises:
            StageError: the stage has not been run.
        """
        manifest = self.dir.manifest(stage)
        if manifest is None:
            raise StageError(
                stage,
                self.dir.url,
                f"has not been run; `fusechat run` walks all stages, `fusechat {stage}` this one",
            )
        return manifest.fingerprint

    @cached_property
    def train_prompts(self) -> pa.Table:
        """Training prompts that passed the intake (PROMPT)."""
        return self.prompts("train").read()

    @cached_property
    def heldout_prompts(self) -> pa.Table:
        """Held-out prompts that passed the intake (PROMPT)."""
        return self.prompts("heldout").read()

    def prompts(self, which: str) -> Parts:
        """`train` or `heldout` prompts, in buckets."""
        return Parts(self.dir, f"prompts/{which}", PROMPT, "prompt_id")

    @cached_property
    def templates(self) -> dict[str, str | None]:
        """Source name -> text of its chat template where the recipe gives one."""
        found: dict[str, str | None] = {}
        for source in self.recipe.served:
            found[source.name] = self.read_template(source.chat_template)
        return found

    @cached_property
    def target_template(self) -> str | None:
        """Text of the target's chat template where the recipe gives one."""
        return self.read_template(self.recipe.target.chat_template)

    def read_template(self, name: str | None) -> str | None:
        """Text of a chat template's file.

        Raises:
            InputError: it can't be read.
        """
        if name is None:
            return None
        try:
            return (self.base / name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(str(self.base / name), 0, f"chat template can't be read: {error}") from error

    @cached_property
    def asked(self) -> list[Asked]:
        """The sources with what their responses' identities hang on."""
        found = []
        for source in self.recipe.sources:
            if isinstance(source, Source):
                key, revision = f"sources.{source.name}.engine.dtype", models.revision(source.model, base=self.base)
                revision = self.marked(revision, key, source.engine)
                template = template_identity(self.templates[source.name], source.system)
            elif isinstance(source, EndpointSource):
                revision = digest(source.url, source.model, source.revision)
                template = f"endpoint/{source.system}"
            else:
                continue
            found.append(Asked(source=source, revision=revision, template=template, seed=self.recipe.seed))
        return found

    @cached_property
    def responses(self) -> list[dict[str, Any]]:
        """Durable responses that the recipe asks for (RESPONSE rows); rows of earlier settings are left out."""
        from fusechat.pipeline.sampling import generate

        return [row for _, rows in generate.buckets(self) for row in rows]

    def model(self, model: Model, who: str) -> Path:
        """The model's folder, fetched where it is not there yet."""
        try:
            return models.resolve(model, base=self.base, progress=self.progress.say)
        except UserError:
            raise
        except FusechatError as error:
            raise StageError("models", who, str(error)) from error

    def fetch(self, wanted: Mapping[str, Model]) -> dict[str, Path]:
        """The folders of several models by name; what is not there yet is fetched side by side."""
        with ThreadPoolExecutor(max_workers=max(len(wanted), 1)) as threads:
            return dict(zip(wanted, threads.map(self.model, wanted.values(), wanted), strict=True))

    def needs(self) -> list[Need]:
        """What the recipe will ever have served."""
        from fusechat.services import app

        return app.needs(self.recipe)

    def _check_capacity(self) -> None:
        """Holds the plan against this machine before anything is fetched; a remote cluster is asked once connected."""
        from fusechat.pipeline.cluster import connect

        there = None if self.recipe.cluster.address else connect.local_nodes(self.recipe.cluster)
        if there is not None:
            connect.check_capacity(self.recipe, self.needs(), there)

    def ray(self, settings: Serve | None = None) -> None:
        """Starts or joins Ray, once, and holds the whole plan against it.

        Args:
            settings: how HTTP reaches the deployments, where it does.
        """
        from fusechat.pipeline.cluster import connect

        if self._ray is not None:
            return
        self.progress.say("ray: starting" if self.recipe.cluster.address is None else "ray: connecting")
        connection = connect.connected(self.recipe.cluster, settings)
        connection.__enter__()
        self._ray = connection
        _catch_sigterm()  # Ray has set a handler of its own
        wait_s = 45 if self.recipe.cluster.address else 0
        connect.check_capacity(self.recipe, self.needs(), connect.nodes(), wait_s)

    @property
    def fleet(self) -> Any:
        """The deployments; starts Ray."""
        if self._fleet is None:
            self.ray()
            from fusechat.pipeline.cluster import connect
            from fusechat.services.deployments import Fleet

            self._fleet = Fleet(connect.nodes(), connect.reserved(), self.progress.say)
        return self._fleet

    def release(self, names: Iterable[str]) -> None:
        """Stops deployments that nobody asks any more; nothing of what is not up."""
        if self._fleet is not None:
            self._fleet.stop(names, "done")

    @contextmanager
    def shown(self, what: str, total: int, done: int = 0) -> Iterator[Callable[[int, int], None]]:
        """Progress of one thing; yields what to call with rows and tokens that were done."""
        self.progress.begin(what, total, done)
        yield lambda rows, tokens: self.progress.advance(what, rows, tokens)
        self.progress.end(what)

    def close(self) -> None:
        """Stops what this run started."""
        if self._fleet is not None and self.recipe.cluster.address is not None:
            self._fleet.close()
        if self._ray is not None:
            self._ray.__exit__(None, None, None)
            self._ray = self._fleet = None


_told = threading.Event()
"""SIGTERM has come."""


def _catch_sigterm() -> None:
    """SIGTERM interrupts as Ctrl-C does, once; Ray's compiled code, while it waits, looks for nothing else."""

    def preempted(number: int, frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _told.set()
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, preempted)


@contextmanager
def preemption() -> Iterator[None]:
    """SIGTERM meanwhile ends the run in good order: raises Preempted in place of whatever it led to."""
    _told.clear()
    _catch_sigterm()
    try:
        yield
    except BaseException as error:
        if _told.is_set():
            raise Preempted from error
        raise


def read_prompts(run: Run) -> Outcome:
    """Stage `prompts`."""
    recipe = run.recipe
    imported = [s.name for s in recipe.sources if isinstance(s, ImportedSource)]
    where = (recipe.prompts, run.base, run.dir, recipe.sample.buckets, imported)
    if run.dir.manifest("prompts") is not None:  # what is there stays where the new files can't be used
        prompts.Intake(*where, trial=True).read()
        run.dir.remove(["prompts/manifest.json"])
    intake = prompts.Intake(*where)
    intake.read()
    counts = {"train": intake.train.num, "heldout": intake.heldout.num, "rejected": intake.num_rejects}
    for reason in ("duplicate", "near_duplicate", "contaminated"):
        if intake.rejected[reason]:
            counts[reason.replace("_", " ")] = intake.rejected[reason]
    if intake.carried.num:
        counts["carried responses"] = intake.carried.num
    return Outcome(intake.digest(), counts)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{value} {key}" for key, value in counts.items()) or "nothing to count"
