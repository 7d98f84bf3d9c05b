"""Code that the stages `sft` and `dpo` share: the folder of a training, and the progress of its steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..cluster.needs import training_need
from ..identities import digest
from ..models.pinned_source import template_identity
from ..progress import Progress
from ..recipe import Model
from ..report import model_card
from ..run import Run
from ..storage.manifest import Outcome

if TYPE_CHECKING:
    from fusechat.training.driver import StepEvent, TrainResult


def target_settings(context: Run) -> list[object]:
    """The target's weights and template; empty if the recipe has no target."""
    target = context.recipe.target
    if target is None:
        return []
    return [context.model_revision(target.model), template_identity(context.target_template, "keep")]


def training_folder(config: str, inputs: dict[str, str]) -> str:
    """Name of the folder for these settings and rows, so that no checkpoint is resumed into another training."""
    return digest(config, inputs)[:12]


def prepare(context: Run) -> None:
    """Starts Ray, and stops deployments until the training workers fit."""
    context.ray()
    context.make_room(training_need(context.recipe))


def finish(context: Run, stage: str, folder: str, result: TrainResult) -> Outcome:
    """Keeps a training's metrics, and writes the card of its model."""
    context.dir.write_bytes(Path(result.metrics).read_bytes(), stage, "metrics.jsonl")
    context.dir.write_json({"folder": folder}, stage, "result.json")
    model_card.write(context.dir, context.recipe, stage, evaluated=False)
    counts = {"rows": result.num_rows, "steps": result.num_steps, "truncated": result.num_truncated}
    revision = context.model_revision(Model(path=str(result.model)))
    return Outcome(digest(folder, revision), counts, result.num_tokens)


class StepProgress:
    """Shows a training's steps as progress."""

    def __init__(self, progress: Progress, stage: str) -> None:
        self._progress, self._stage = progress, stage
        self._step = 0
        self._shown = False

    def __call__(self, event: StepEvent) -> None:
        """One step was logged."""
        if not self._shown:
            self._progress.begin(self._stage, event.num_steps, unit="steps")
            self._shown = True
        self._progress.advance(self._stage, event.step - self._step, event.tokens)
        self._step = event.step

    def end(self) -> None:
        """The last step is done."""
        if self._shown:
            self._progress.end(self._stage)
