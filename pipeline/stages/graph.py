"""The stages in their order, and what the output of each depends on."""

from __future__ import annotations

from ..run import Run
from . import dpo, evaluate, prompts, report, sample, score, select, sft
from .stage import Stage, config_hash, fingerprints

STAGES: dict[str, Stage] = {
    "prompts": prompts,
    "sample": sample,
    "score": score,
    "select": select,
    "sft": sft,
    "dpo": dpo,
    "evaluate": evaluate,
    "report": report,
}


def settings(context: Run, stage: str) -> str:
    """Hash of the settings that a stage's output depends on."""
    return config_hash(stage, STAGES[stage].settings(context))


def inputs(context: Run, stage: str) -> dict[str, str]:
    """Fingerprints of the outputs that a stage reads.

    Raises:
        StageError: one of them is missing.
    """
    names = evaluate.needed_inputs(context) if stage == "evaluate" else STAGES[stage].INPUTS
    return fingerprints(context, names)
