"""Stage `select`: the SFT rows, the preference pairs, and the funnel; selected, or imported if the recipe has them."""

from __future__ import annotations

from ..errors import StageError
from ..prompts import ready_rows, text
from ..prompts.ready_dataset import ReadyImport, ReadyTable
from ..recipe import Domain, ReadyDataset
from ..records import Message
from ..run import Run
from ..scoring import model_scores
from ..scoring.agreement import AgreementReport
from ..selection.apply_rule import run_select, selected_digest
from ..storage.manifest import Outcome

INPUTS: tuple[str, ...] = ("prompts", "sample", "score")


def settings(context: Run) -> list[object]:
    """The rules of selection; or the tables of an imported data set with their fingerprints, and what is compared."""
    recipe = context.recipe
    if recipe.dataset is None:
        return [recipe.select]
    prints = [ready_rows.reader(table, context.base).fingerprint() for _, table in recipe.dataset.tables]
    return [recipe.dataset, prints, recipe.prompts.normalise, recipe.sample.buckets]


def run(context: Run) -> Outcome:
    """Applies the rules to every prompt, or imports rows that are ready.

    Raises:
        StageError: the scores are of another version of a reward model.
        InputError: a table of the data set can't be used.
    """
    if context.recipe.dataset is not None:
        return _import(context, context.recipe.dataset)
    agreement: AgreementReport = context.dir.read_json("score", "agreement.json")
    known = [r.name for r in context.recipe.rewards]
    for name, was in agreement.get("made_by", {}).items():
        now = model_scores.version_of(context, name) if name in known else "not in the recipe"
        if was != now:
            cause = f"the scores of {name} are of another revision or other settings ({was}, now {now})"
            raise StageError("select", "score", f"{cause}; run `fusechat score`")
    counts = run_select(context.dir, context.recipe, agreement["chosen"])
    return _outcome(context, counts)


def _outcome(context: Run, counts: dict[str, int]) -> Outcome:
    return Outcome(selected_digest(context.dir), counts)


def _import(context: Run, dataset: ReadyDataset) -> Outcome:
    config = context.recipe.prompts.normalise

    def normalise(content: str) -> str | None:
        return content if config is None else text.normalise(content, config)

    def domain_of(messages: list[Message]) -> Domain:
        return "chinese" if text.domain(messages, None, None) == "chinese" else "instruction"

    heldout = context.prompts("heldout").ids()
    ready = ReadyImport(context.recipe.name, heldout, normalise, domain_of)
    for kind, table in dataset.tables:
        ready.read(ReadyTable(kind, table, ready_rows.reader(table, context.base).lines()))
    return _outcome(context, ready.write(context.dir, context.recipe.sample.buckets))
