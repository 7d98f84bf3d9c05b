"""Stage `dpo`: preference training, starting from the SFT model, or from the target if the recipe has no SFT."""

from __future__ import annotations

from ..run import Run
from ..storage.manifest import Outcome
from . import training
from .stage import config_hash, fingerprints

INPUTS: tuple[str, ...] = ("select", "sft")


def settings(context: Run) -> list[object]:
    """The training's settings, the target, and the seed."""
    return [context.recipe.dpo, training.target_settings(context), context.recipe.seed]


def run(context: Run) -> Outcome:
    """Trains the SFT model, or the target, on the selected pairs."""
    from fusechat.training.dpo import train  # imports torch and TRL

    config, after_sft = context.recipe.dpo, context.recipe.sft is not None
    assert config is not None  # the recipe calls for this stage
    training.prepare(context)
    folder = training.training_folder(config_hash("dpo", settings(context)), fingerprints(context, INPUTS))
    steps = training.StepProgress(context.progress, "dpo")
    result = train(
        training.selected_rows(context, "pairs.parquet"),
        model=context.trained_model("sft") if after_sft else context.model(context.target.model, "target"),
        output=context.dir.local_path("dpo", folder),
        config=config,
        cluster=context.recipe.training,
        chat_template=context.target_template,
        seed=context.recipe.seed,
        on_step=steps,
        reference=context.dir.local_path("dpo", "reference"),
    )
    steps.end()
    return training.finish(context, "dpo", folder, result)
