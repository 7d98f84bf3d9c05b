"""Stage `prompts`: reads the prompt files."""

from __future__ import annotations

from ..prompts.intake import Intake
from ..prompts.readers import PromptReader
from ..recipe import ImportedSource
from ..run import Run
from ..storage.manifest import Outcome

INPUTS: tuple[str, ...] = ()


def settings(context: Run) -> list[object]:
    """The prompt files with their fingerprints, how they are read, and the sources whose responses they may contain."""
    recipe = context.recipe
    return [
        recipe.prompts,
        recipe.sample.buckets,
        sorted(s.name for s in recipe.sources if isinstance(s, ImportedSource)),
        [PromptReader(entry, context.base).fingerprint() for entry in recipe.prompts.entries],
    ]


def run(context: Run) -> Outcome:
    """Reads the files into the run directory."""
    recipe = context.recipe
    imported = [s.name for s in recipe.sources if isinstance(s, ImportedSource)]
    where = (recipe.prompts, context.base, context.dir, recipe.sample.buckets, imported)
    if context.dir.manifest("prompts") is not None:  # if the new files can't be used, the old prompts stay
        Intake(*where, trial=True).read()
        context.dir.remove(["prompts/manifest.json"])
    intake = Intake(*where)
    intake.read()
    for table in intake.tables:
        context.progress.log(f"prompts {table.line()}")
    counts = {"train": intake.train.num, "heldout": intake.heldout.num, "rejected": intake.num_rejects}
    for reason in ("duplicate", "near_duplicate", "contaminated"):
        if intake.rejected[reason]:
            counts[reason.replace("_", " ")] = intake.rejected[reason]
    if intake.carried.num:
        counts["carried responses"] = intake.carried.num
    if merged := sum(table.merged for table in intake.tables):
        counts["merged"] = merged
    return Outcome(intake.digest(), counts)
