"""A run: a recipe, its run directory, and what the stages share. It does not walk the stages; stages/walk.py does."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from .cluster import connect, needs
from .cluster.placement import Need
from .cluster.preemption import catch_sigterm
from .cluster.services import Deployments, MakeDeployments, SourceService
from .errors import FusechatError, InputError, RecipeError, StageError, UserError
from .identities import digest
from .models.branches import ALL, Part, pinned
from .models.pinned_source import PinnedSource, template_identity
from .models.resolve import resolve
from .models.revision import revision
from .progress import Progress
from .recipe import (
    EndpointSource,
    Engine,
    EvaluatedModel,
    Model,
    Recipe,
    Serve,
    Source,
    Target,
    precision,
)
from .records import PROMPT
from .run_state import RunState
from .storage.parts import Parts
from .storage.run_dir import RunDir

AUTOSCALER_WAIT_S = 45
"""Seconds that an autoscaling cluster may take to grow until the recipe fits."""


class Run:
    """A recipe on a run directory.

    Args:
        recipe: as the user wrote it. `self.recipe` is the recipe with its precisions resolved for this machine.
        base: folder that the recipe's relative paths are relative to.
    """

    def __init__(self, recipe: Recipe, base: Path, progress: Progress) -> None:
        self.original_recipe, self.base, self.progress = recipe, base, progress
        self.recipe = precision.settled(recipe)
        self.dir = RunDir(recipe.run_dir)
        self._state = RunState(self.dir, recipe, precision.taken(self.recipe))
        self.make_deployments: MakeDeployments | None = None
        """Who deploys the services; stages/walk.py and the REST service set it."""
        self._deployments: Deployments | None = None
        self._ray: AbstractContextManager[None] | None = None

    # --- the run directory

    def claim(self) -> None:
        """Claims the run directory for this recipe. Reports every precision that changed since the run began.

        Raises:
            RunDirectoryError: the directory belongs to another recipe.
        """
        self._state.check_recipe()
        for line in self._state.precision_changes():
            self.progress.log(line)
        self._state.write()

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
                f"has not been run; `fusechat run` runs all stages, `fusechat {stage}` this one",
            )
        return manifest.fingerprint

    # --- identities

    def with_precision(self, revision: str, key: str, engine: Engine) -> str:
        """A model's revision as identities contain it, with its engine's precision.

        Args:
            key: recipe key of the precision.
        """
        return revision if key in self._state.unmarked else precision.mark(revision, engine.dtype)

    def model_revision(self, model: Model) -> str:
        """A string that names a model's exact weights."""
        return revision(model, base=self.base)

    def evaluated_revision(self, model: EvaluatedModel) -> str:
        """Revision of an entry of `evaluate.models` with weights of its own, with its engine's precision."""
        section = f"evaluate.models.{model.name}" if model.engine is not None else "evaluate"
        resolved = next(
            m for m in self.recipe.evaluate.models if isinstance(m, EvaluatedModel) and m.name == model.name
        )
        engine = resolved.engine or self.recipe.evaluate.engine
        return self.with_precision(self.model_revision(resolved.model), f"{section}.engine.dtype", engine)

    @cached_property
    def pinned_sources(self) -> list[PinnedSource]:
        """The sources that can be sampled, with everything that their responses' identities depend on."""
        found = []
        for source in self.recipe.sources:
            if isinstance(source, Source):
                key = f"sources.{source.name}.engine.dtype"
                weights = self.with_precision(self.model_revision(source.model), key, source.engine)
                template = template_identity(self.templates[source.name], source.system)
            elif isinstance(source, EndpointSource):
                weights = digest(source.url, source.model, source.revision)
                template = f"endpoint/{source.system}"
            else:
                continue
            found.append(PinnedSource(source=source, revision=weights, template=template, seed=self.recipe.seed))
        return found

    def pin_branches(self, resolve: Collection[Part] = ALL) -> None:
        """Replaces hub branches and tags by the commits that they name, and stores those in run.json.

        A run that has begun keeps its commits, and reports each branch that has moved since. A run directory of
        version 0.1.0 contains no commits. Its identities contain the branch's name and do not change.

        Args:
            resolve: the parts of the recipe whose branches the hub is asked for. Stored commits are used for all.

        Raises:
            FusechatError: the hub can't be reached, and its cache does not contain the branch.
        """
        stored = self._state.commits
        if stored is None:
            return
        self.recipe, commits = pinned(self.recipe, stored, self.progress.log, base=self.base, resolve=resolve)
        if commits != stored:
            self._state.store_commits(commits)

    # --- prompts and templates

    @cached_property
    def train_prompts(self) -> pa.Table:
        """Training prompts that passed the intake (PROMPT)."""
        return self.prompts("train").read()

    @cached_property
    def heldout_prompts(self) -> pa.Table:
        """Held-out prompts that passed the intake (PROMPT)."""
        return self.prompts("heldout").read()

    def prompts(self, which: str) -> Parts:
        """`train` or `heldout` prompts, in buckets. The training prompts of an imported data set are its rows' own."""
        own = which == "train" and self.recipe.dataset is not None
        return Parts(self.dir, "select/prompts" if own else f"prompts/{which}", PROMPT, "prompt_id")

    @cached_property
    def templates(self) -> dict[str, str | None]:
        """Source name -> text of its chat template, or None if the recipe gives none."""
        return {source.name: self.read_template(source.chat_template) for source in self.recipe.served}

    @cached_property
    def target_template(self) -> str | None:
        """Text of the target's chat template, or None if the recipe gives none."""
        return self.read_template(self.target.chat_template)

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

    # --- models

    @property
    def target(self) -> Target:
        """The recipe's target.

        Raises:
            RecipeError: the recipe has none.
        """
        if self.recipe.target is None:
            raise RecipeError("target", None, "is required: it is the model that is trained and evaluated")
        return self.recipe.target

    def model(self, model: Model, who: str) -> Path:
        """The model's folder; fetches the model if it is not in the cache."""
        try:
            return resolve(model, base=self.base, progress=self.progress.log)
        except UserError:
            raise
        except FusechatError as error:
            raise StageError("models", who, str(error)) from error

    def fetch(self, models: Mapping[str, Model]) -> dict[str, Path]:
        """Name -> folder of several models; fetches in parallel what is not in the cache."""
        with ThreadPoolExecutor(max_workers=max(len(models), 1)) as threads:
            return dict(zip(models, threads.map(self.model, models.values(), models), strict=True))

    def trained_model(self, stage: str) -> Path:
        """Folder of the model that a training stage made.

        Raises:
            StageError: the stage has not been run.
        """
        self.fingerprint(stage)
        result = self.dir.read_json(stage, "result.json")
        return self.dir.local_path(stage, result["folder"], "model")

    def source_service(self, source: Source, folder: Path) -> SourceService:
        """A source of the recipe as a service for batch work.

        Args:
            folder: of its weights.
        """
        template, concurrency = self.templates[source.name], self.recipe.sample.concurrency
        return SourceService(source, folder, template, f"sources.{source.name}", concurrency)

    # --- the cluster

    def check_capacity(self) -> None:
        """Checks, before anything is fetched, that the recipe fits on this machine. A remote cluster is checked later,
        when the run connects to it."""
        nodes = None if self.recipe.cluster.address else connect.local_nodes(self.recipe.cluster)
        if nodes is not None:
            needs.check_capacity(self.recipe, nodes)

    def ray(self, settings: Serve | None = None) -> None:
        """Starts Ray or connects to it, once, and checks that the recipe fits on the cluster.

        Args:
            settings: how HTTP reaches the deployments, if it does.
        """
        if self._ray is not None:
            return
        self.progress.log("ray: starting" if self.recipe.cluster.address is None else "ray: connecting")
        connection = connect.connected(self.recipe.cluster, settings)
        connection.__enter__()
        self._ray = connection
        catch_sigterm()  # Ray has set a handler of its own
        wait_s = AUTOSCALER_WAIT_S if self.recipe.cluster.address else 0
        needs.check_capacity(self.recipe, connect.nodes(), wait_s)

    @property
    def deployments(self) -> Deployments:
        """The deployments; starts Ray."""
        if self._deployments is None:
            self.ray()
            assert self.make_deployments is not None
            self._deployments = self.make_deployments(connect.nodes(), needs.reserved_needs(), self.progress.log)
        return self._deployments

    def release(self, names: Iterable[str]) -> None:
        """Stops deployments that are no longer needed; ignores those that are not running."""
        if self._deployments is not None:
            self._deployments.stop(names, "done")

    def make_room(self, need: Need) -> None:
        """Stops deployments until `need` fits."""
        if self._deployments is not None:
            self._deployments.make_room(need)

    def close_deployments(self) -> None:
        """Stops this run's deployments on a cluster that outlives it."""
        if self._deployments is not None and self.recipe.cluster.address is not None:
            self._deployments.close()

    def close(self) -> None:
        """Stops what this run started."""
        self.close_deployments()
        if self._ray is not None:
            self._ray.__exit__(None, None, None)
            self._ray = self._deployments = None

    @contextmanager
    def show_progress(self, what: str, total: int, done: int = 0) -> Iterator[Callable[[int, int], None]]:
        """Shows the progress of one task; yields a function that takes the rows and tokens that were done."""
        self.progress.begin(what, total, done)
        yield lambda rows, tokens: self.progress.advance(what, rows, tokens)
        self.progress.end(what)
