"""The walk: brings stages up to date in their order, and skips each one whose manifest is still valid."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from ..cluster import connect
from ..cluster.placement import Need, Resources
from ..cluster.preemption import preemption, sigterm_received
from ..cluster.ray_data import FLUSH_S
from ..cluster.services import Deployments
from ..models.branches import MODELS, PROMPTS, SUITES
from ..recipe import precision, sections, sizes
from ..run import Run
from ..storage.manifest import STAGES, Manifest, versions
from . import graph, score
from .sample import sample_missing


def walk(run: Run, stages: Sequence[str] | None = None, pilot: int = 0) -> dict[str, bool]:
    """Brings the stages up to date; returns stage -> whether it had work to do.

    Args:
        stages: default: all that the recipe calls for.
        pilot: afterwards, sample this many prompts from each source that misses some.

    Raises:
        RecipeError: the recipe lacks the section that a stage needs.
        FusechatError: see errors.py. Finished work is kept.
    """
    stages = sections.called(run.recipe) if stages is None else stages
    for stage in stages:
        sections.check(run.recipe, stage)
    if pilot:
        sections.check(run.recipe, "sample")
    connect.set_quiet_env()
    run.make_deployments = run.make_deployments or deployments
    only_reads = set(stages) <= set(sections.read_stages(run.recipe)) and not pilot
    with preemption(), run.dir.lock():
        sizes.check(run.recipe)
        if "score" in stages and run.dir.manifest("score") is None:
            score.check(run.recipe)
        run.claim()
        _announce(run, stages)
        if not only_reads:
            run.check_capacity()
        run.pin_branches([*(() if only_reads else MODELS), *PROMPTS, *(SUITES if "evaluate" in stages else ())])
        worked = {}
        try:
            for stage in STAGES:
                if stage in stages:
                    worked[stage] = _bring_up_to_date(run, stage)
            if pilot:
                sample_missing(run, pilot)
        except BaseException:
            if not sigterm_received():
                run.close()
                raise
            run.progress.log("SIGTERM: saving the finished work")
            time.sleep(2 * FLUSH_S)
            run.close_deployments()
            raise  # a Ray that was started here ends with this process
        run.close()
        return worked


def deployments(nodes: Sequence[Resources], reserved: Sequence[Need], say: Callable[[str], None]) -> Deployments:
    """The deployments of Ray Serve."""
    from fusechat.services.deployments import ServeDeployments  # imports Ray Serve

    return ServeDeployments(nodes, reserved, say)


def _announce(run: Run, stages: Sequence[str]) -> None:
    """Reports the precisions and the size that the run takes, and plans how long each stage will take."""
    if any(precision.of_stage(run.recipe, stage) for stage in stages):
        for line in precision.decisions(run.original_recipe):
            run.progress.log(line)
    for line in sizes.summary(run.recipe):
        run.progress.log(line)
    expected, in_seconds = sizes.expected(run.recipe)
    run.progress.plan_stages({stage: expected[stage] for stage in STAGES if stage in stages}, in_seconds)


def _bring_up_to_date(run: Run, stage: str) -> bool:
    config, inputs = graph.settings(run, stage), graph.inputs(run, stage)
    if (manifest := run.dir.valid_manifest(stage, config, inputs)) is not None:
        run.progress.skip_stage(stage)
        run.progress.log(f"{stage}: up to date ({_counts(manifest.counts)})")
        return False
    run.progress.start_stage(stage)
    run.progress.log(f"{stage}: starting")
    began = time.monotonic()
    outcome = graph.STAGES[stage].run(run)
    manifest = Manifest(
        stage=stage,
        config=config,
        inputs=inputs,
        data=outcome.data,
        counts=outcome.counts,
        tokens=outcome.tokens,
        seconds=round(time.monotonic() - began, 1),
        versions=versions(),
        precision=precision.of_stage(run.recipe, stage),
    )
    run.dir.write_manifest(manifest)
    run.progress.finish_stage(stage)
    run.progress.log(f"{stage}: done in {manifest.seconds:.0f} s ({_counts(outcome.counts)})")
    return True


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{value} {key}" for key, value in counts.items()) or "nothing to count"
