"""Code that the stages `sft` and `dpo` share: the folder of a training, and the progress of its steps."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from ..cluster.needs import training_need
from ..identities import digest
from ..models.pinned_source import template_identity
from ..progress import Progress
from ..recipe import Model
from ..records import MESSAGES, RejectRow
from ..report import model_card
from ..run import Run
from ..sampling.messages import with_system
from ..storage.manifest import Outcome

if TYPE_CHECKING:
    from fusechat.training.driver import StepEvent, TrainResult


def target_settings(context: Run) -> list[object]:
    """The target's weights, template and system-message policy; empty if the recipe has no target."""
    target = context.recipe.target
    if target is None:
        return []
    return [context.model_revision(target.model), template_identity(context.target_template, target.system)]


def training_folder(config: str, inputs: dict[str, str]) -> str:
    """Name of the folder for these settings and rows, so that no checkpoint is resumed into another training."""
    return digest(config, inputs)[:12]


def selected_rows(context: Run, file: str) -> pa.Table:
    """A table of selected rows, whose prompts are under the target's system-message policy."""
    rows, policy = context.dir.read_table("select", file), context.target.system
    if policy == "keep":
        return rows
    position = rows.schema.get_field_index("prompt")
    prompts = [with_system(prompt, policy) for prompt in rows.column(position).to_pylist()]
    return rows.set_column(position, rows.schema.field(position), pa.array(prompts, MESSAGES))


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
    if result.num_rejected:
        counts["rejected"] = result.num_rejected
        rejects: list[RejectRow] = pq.read_table(result.rejects).to_pylist()
        first, file = rejects[0], f"{stage}/{folder}/rejects.parquet"
        example = f"row {first['id']}: {first['reason']}: {first['detail']}"
        context.progress.log(f"{stage}: {result.num_rejected} rows rejected ({file}), e.g. {example}")
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
