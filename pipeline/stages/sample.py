"""Stage `sample`: samples the missing responses from every source."""

from __future__ import annotations

from collections.abc import Sequence

from ..cluster.services import SourceService
from ..models.pinned_source import PinnedSource
from ..recipe import OwnReward, Policy
from ..run import Run
from ..sampling import generate, token_count
from ..storage.manifest import Outcome

INPUTS: tuple[str, ...] = ("prompts",)


def settings(context: Run) -> list[object]:
    """The sources, their sampling settings, the seed, and the number of buckets.

    If the tokens of imported responses are counted, also the target, whose tokenizer counts them.
    """
    recipe = context.recipe
    tokenizer = [context.model_revision(context.target.model)] if token_count.is_needed(context) else []
    return [source_settings(context), recipe.seed, recipe.sample.buckets, *tokenizer]


def source_settings(context: Run) -> list[object]:
    """The settings of each source that its responses depend on."""
    policy = set(Policy.model_fields)
    return [[s.revision, s.template, s.source.model_dump(mode="json", include=policy)] for s in context.pinned_sources]


def run(context: Run) -> Outcome:
    """Samples from every source; as many sources run at once as fit on the cluster."""
    generate.import_carried(context)
    tokens = sample_missing(context)
    return generate.finish(context, tokens)


def sample_missing(context: Run, pilot: int | None = None) -> int:
    """Samples the missing responses; returns the number of tokens generated.

    Args:
        pilot: approximate number of prompts per source; None samples all.
    """

    def services(missing: Sequence[PinnedSource]) -> dict[str, SourceService]:
        sources = [context.recipe.source(s.source.name) for s in missing]
        folders = context.fetch({s.name: s.model for s in sources})
        return {s.name: context.source_service(s, folders[s.name]) for s in sources}

    train = context.prompts("train")
    wants = [generate.Want(s, train, f"sample {s.source.name}") for s in context.pinned_sources]
    used_by_rewards = {r.source for r in context.recipe.scored_models if not isinstance(r, OwnReward)}
    return generate.draw(context, "sample", "sample", wants, services, pilot, keep=used_by_rewards)
