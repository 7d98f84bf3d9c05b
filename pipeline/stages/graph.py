"""What each stage does: reads what earlier stages wrote, calls the rules, writes its own folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fusechat.pipeline.errors import InputError, StageError
from fusechat.pipeline.evaluation import evaluate, evaluated_models
from fusechat.pipeline.models import fetch
from fusechat.pipeline.progress import Progress
from fusechat.pipeline.prompts.readers import PromptFile
from fusechat.pipeline.recipe import DOMAINS, ImportedSource, Model, OwnReward, Policy
from fusechat.pipeline.records import digest
from fusechat.pipeline.run import Outcome, Run, read_prompts
from fusechat.pipeline.sampling import generate
from fusechat.pipeline.sampling.plan import Asked, template_identity
from fusechat.pipeline.scoring import score
from fusechat.pipeline.storage.run_dir import STAGES

INPUTS: dict[str, tuple[str, ...]] = {
    "prompts": (),
    "sample": ("prompts",),
    "score": ("prompts", "sample"),
    "select": ("prompts", "sample", "score"),
    "sft": ("select",),
    "dpo": ("select", "sft"),
    "evaluate": ("prompts", "sft", "dpo"),
    "report": STAGES[:-1],
}


def settings(run: Run, stage: str) -> str:
    """Hash of the settings that a stage's output hangs on; placement and batch sizes are none of them."""
    r = run.recipe
    asked = (
        [
            [
                a.revision,
                a.template,
                a.source.model_dump(mode="json", include=set(Policy.model_fields)),
            ]
            for a in run.asked
        ]
        if stage in ("sample", "report")
        else []
    )
    target = [_revision(run, r.target.model), template_identity(run.target_template, "keep")]
    judge = next((x for x in r.rewards if x.name == r.evaluate.judge), None)
    parts: dict[str, Callable[[], list[Any]]] = {
        "prompts": lambda: [
            r.prompts,
            r.sample.buckets,
            sorted(s.name for s in r.sources if isinstance(s, ImportedSource)),
            [PromptFile(entry, run.base).fingerprint() for entry in r.prompts.entries],
        ],
        "sample": lambda: [asked, r.seed, r.sample.buckets],
        # Of the selection only what decides which responses are scored: another window finds its scores there.
        "score": lambda: [
            [score.made(run, x.name) for x in r.rewards],
            [r.score.reward, r.score.agreement_sample, r.score.verify.timeout_s],
            {d: r.select.rule(d).keep_truncated for d in DOMAINS},
        ],
        "select": lambda: [r.select],
        "sft": lambda: [r.sft, target, r.seed],
        "dpo": lambda: [r.dpo, target, r.seed],
        "evaluate": lambda: [
            *(r.evaluate.sampling, judge, target, r.seed, r.score.verify.timeout_s),
            *evaluate.settings(run),
        ],
        "report": lambda: [r.name],
    }
    return digest(stage, [_plain(p) for p in parts[stage]()])


def inputs(run: Run, stage: str) -> dict[str, str]:
    """Fingerprints of the outputs that a stage reads.

    Raises:
        StageError: one of them is missing.
    """
    names = INPUTS[stage]
    if stage == "evaluate":  # a model that is not evaluated need not have been trained
        names = tuple(name for name in names if name == "prompts" or name in run.recipe.evaluate.names)
    return {name: run.fingerprint(name) for name in names}


def sample(run: Run) -> Outcome:
    """Stage `sample`: every source in turn, as many at once as fit."""
    generate.bring_carried(run)
    tokens = sample_missing(run)
    return generate.finish(run, tokens)


def sample_missing(run: Run, pilot: int | None = None) -> int:
    """Asks the sources for what is missing, or for a pilot's share of it; returns the tokens generated."""
    from fusechat.services import app

    def services(asked: list[Asked]) -> dict[str, Any]:
        sources = [run.recipe.source(a.source.name) for a in asked]
        folders = run.fetch({s.name: s.model for s in sources})
        templates, concurrency = run.templates, run.recipe.sample.concurrency
        return {
            s.name: app.source_service(s, folders[s.name], templates[s.name], f"sources.{s.name}", concurrency)
            for s in sources
        }

    wants = [generate.Want(one, run.prompts("train"), f"sample {one.source.name}") for one in run.asked]
    asked_again = {r.source for r in run.recipe.rewards if not isinstance(r, OwnReward)}
    return generate.draw(run, "sample", "sample", wants, services, pilot, keep=asked_again)


def select(run: Run) -> Outcome:
    """Stage `select`: the SFT rows, the pairs, and the funnel."""
    from fusechat.pipeline.selection import select as selection

    agreement = run.dir.read_json("score", "agreement.json")
    there = [r.name for r in run.recipe.rewards]
    for name, was in agreement.get("made_by", {}).items():
        now = score.made(run, name) if name in there else "not in the recipe"
        if was != now:
            cause = f"the scores of {name} are of another revision or other settings ({was}, now {now})"
            raise StageError("select", "score", f"{cause}; run `fusechat score`")
    counts = selection.run_select(run.dir, run.recipe, agreement["chosen"])
    files = ("sft.parquet", "pairs.parquet", "outcomes.parquet", "candidates.parquet")
    return Outcome(digest(*(run.dir.file_digest("select", f) for f in files)), counts)


def sft(run: Run) -> Outcome:
    """Stage `sft`."""
    from fusechat.training import sft as training

    return _train(
        run,
        "sft",
        training.train,
        run.dir.read_table("select", "sft.parquet"),
        run.recipe.sft,
        run.model(run.recipe.target.model, "target"),
    )


def dpo(run: Run) -> Outcome:
    """Stage `dpo`: starts from the SFT model."""
    from fusechat.training import dpo as training

    return _train(
        run,
        "dpo",
        training.train,
        run.dir.read_table("select", "pairs.parquet"),
        run.recipe.dpo,
        evaluated_models.trained_model(run, "sft"),
        reference=run.dir.local_path("dpo", "reference"),
    )


def report(run: Run) -> Outcome:
    """Stage `report`: reads files only."""
    from fusechat.pipeline.report import model_card
    from fusechat.pipeline.report import page as writer

    path = writer.write(run.dir, run.recipe)
    model_card.write_all(run.dir, run.recipe)
    return Outcome(_file_hash(path))


WORK: dict[str, Callable[[Run], Outcome]] = {
    "prompts": read_prompts,
    "sample": sample,
    "score": score.score,
    "select": select,
    "sft": sft,
    "dpo": dpo,
    "evaluate": evaluate.evaluate,
    "report": report,
}


def _train(
    run: Run, stage: str, train: Callable[..., Any], rows: Any, config: Any, model: Path, **places: Path
) -> Outcome:
    from fusechat.pipeline.cluster import connect
    from fusechat.pipeline.report import model_card

    run.ray()
    if run._fleet is not None:
        run._fleet.make_room(connect.training_need(run.recipe))
    # A folder for each set of settings and rows: a checkpoint is never resumed into another training.
    folder = digest(settings(run, stage), inputs(run, stage))[:12]
    output = run.dir.local_path(stage, folder)
    steps = _Steps(run.progress, stage)
    result = train(
        rows,
        model=model,
        output=output,
        config=config,
        cluster=run.recipe.training,
        chat_template=run.target_template,
        seed=run.recipe.seed,
        on_step=steps,
        **places,
    )
    steps.end()
    run.dir.write_bytes(Path(result.metrics).read_bytes(), stage, "metrics.jsonl")
    run.dir.write_json({"folder": folder}, stage, "result.json")
    model_card.write(run.dir, run.recipe, stage, evaluated=False)
    counts = {"rows": result.num_rows, "steps": result.num_steps, "truncated": result.num_truncated}
    return Outcome(
        digest(folder, fetch.revision(Model(path=str(result.model)), base=run.base)),
        counts,
        result.num_tokens,
    )


class _Steps:
    """A training's steps as progress."""

    def __init__(self, progress: Progress, stage: str) -> None:
        self._progress, self._stage = progress, stage
        self._step = 0
        self._shown = False

    def __call__(self, event: Any) -> None:
        if not self._shown:
            self._progress.begin(self._stage, event.num_steps, unit="steps")
            self._shown = True
        self._progress.advance(self._stage, event.step - self._step, event.tokens)
        self._step = event.step

    def end(self) -> None:
        """The last step is done."""
        if self._shown:
            self._progress.end(self._stage)


def _revision(run: Run, model: Model) -> str:
    return fetch.revision(model, base=run.base)


def _file_hash(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(str(path), 0, f"can't be read: {error.strerror}") from error


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value
