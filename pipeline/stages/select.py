"""Stage `select`: the SFT rows, the preference pairs, and the funnel."""

from __future__ import annotations

from ..errors import StageError
from ..identities import digest
from ..run import Run
from ..scoring import model_scores
from ..scoring.agreement import AgreementReport
from ..selection.apply_rule import run_select
from ..storage.manifest import Outcome

INPUTS: tuple[str, ...] = ("prompts", "sample", "score")
FILES = ("sft.parquet", "pairs.parquet", "outcomes.parquet", "candidates.parquet")


def settings(context: Run) -> list[object]:
    """The rules of selection."""
    return [context.recipe.select]


def run(context: Run) -> Outcome:
    """Applies the rules to every prompt.

    Raises:
        StageError: the scores are of another version of a reward model.
    """
    agreement: AgreementReport = context.dir.read_json("score", "agreement.json")
    known = [r.name for r in context.recipe.rewards]
    for name, was in agreement.get("made_by", {}).items():
        now = model_scores.version_of(context, name) if name in known else "not in the recipe"
        if was != now:
            cause = f"the scores of {name} are of another revision or other settings ({was}, now {now})"
            raise StageError("select", "score", f"{cause}; run `fusechat score`")
    counts = run_select(context.dir, context.recipe, agreement["chosen"])
    return Outcome(digest(*(context.dir.file_digest("select", f) for f in FILES)), counts)
