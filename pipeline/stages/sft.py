"""Stage `sft`: supervised fine-tuning of the target."""

from __future__ import annotations

from ..run import Run
from ..storage.manifest import Outcome
from . import training
from .stage import config_hash, fingerprints

INPUTS: tuple[str, ...] = ("select",)


def settings(context: Run) -> list[object]:
    """The training's settings, the target, and the seed."""
    return [context.recipe.sft, training.target_settings(context), context.recipe.seed]


def run(context: Run) -> Outcome:
    """Trains the target on the selected SFT rows."""
    from fusechat.training.sft import train  # imports torch and TRL

    config = context.recipe.sft
    assert config is not None  # the recipe calls for this stage
    training.prepare(context)
    folder = training.training_folder(config_hash("sft", settings(context)), fingerprints(context, INPUTS))
    steps = training.StepProgress(context.progress, "sft")
    result = train(
        training.selected_rows(context, "sft.parquet"),
        model=context.model(context.target.model, "target"),
        output=context.dir.local_path("sft", folder),
        config=config,
        cluster=context.recipe.training,
        chat_template=context.target_template,
        seed=context.recipe.seed,
        on_step=steps,
    )
    steps.end()
    return training.finish(context, "sft", folder, result)
