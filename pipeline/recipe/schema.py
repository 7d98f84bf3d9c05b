"""The recipe: a tree of immutable pydantic models that refuse unknown keys. Each field is documented below it."""

from __future__ import annotations

from typing import Any, Self

from pydantic import (
    Field,
    model_validator,
)

from .cluster_options import Cluster, Serve
from .dataset_options import ReadyDataset
from .evaluate_options import (
    REFERENCE,
    TRAINED,
    Evaluate,
    HarnessSuite,
    JudgedSuite,
    VerifiedSuite,
)
from .fields import DOMAINS, Name, Section, StageName
from .prompt_options import Prompts
from .reward_options import ImportedReward, JudgeReward, OwnReward, RewardModel, ScoredModel
from .score_options import COMBINED, Score
from .select_options import Select
from .size_options import Size
from .source_options import AnySource, ImportedSource, Sample, Source
from .training_options import Dpo, Optimization, Sft, Target, Training


def _without_shares(node: Any) -> Any:
    """Replaces shares of CPUs by 1, for runs on a cluster, where models do not share a machine with the run."""
    if isinstance(node, list):
        return [_without_shares(value) for value in node]
    if not isinstance(node, dict):
        return node
    shares = {key for key in ("num_cpus", "num_threads") if str(node.get(key)).endswith("%")}
    return {key: 1 if key in shares else _without_shares(value) for key, value in node.items()}


class Recipe(Section):
    """A recipe. Its sections decide what a run does: a section that no stage needs may be left out (`stages`)."""

    name: Name
    """Name of the recipe."""
    size: Name | None = None
    """Name of one of `sizes`, or `auto` for the largest size that this machine finishes within `size_minutes`."""
    sizes: dict[Name, Size] = Field(default={})
    """Name -> size. A recipe may come in several sizes; the one with the most work is the largest."""
    size_minutes: float = Field(default=15, gt=0)
    """Time limit in minutes for `size: auto` on a machine without GPUs."""
    seed: int = Field(default=0, ge=0)
    """Random seed of sampling and training."""
    run_dir: str
    """Where the run is stored: a folder, e.g. `runs/demo`, or `s3://bucket/prefix`. Relative paths start at the working
    directory."""
    prompts: Prompts = Prompts()
    """Prompt sets."""
    sources: tuple[AnySource, ...] = ()
    """Source LLMs. Without sources nothing is sampled."""
    rewards: tuple[RewardModel, ...] = ()
    """Reward models. Selection needs at least one: in every domain it takes the responses with the highest rewards."""
    dataset: ReadyDataset | None = Field(default=None, exclude_if=lambda value: value is None)
    """SFT rows and pairs that are ready, in place of `prompts.train` and of what is sampled, scored and selected."""
    target: Target | None = None
    """Model to improve. Without it, the run ends with the data set."""
    sft: Sft | None = None
    """Supervised fine-tuning. Without it, DPO starts from the target."""
    dpo: Dpo | None = None
    """Direct preference optimization. Without it, the run ends after SFT."""
    sample: Sample = Sample()
    """The sampling stage."""
    score: Score = Score()
    """The scoring stage."""
    select: Select = Select()
    """The selection stage. A rule that is left out is that of FuseChat-3.0. A rule that is given replaces it
    completely."""
    training: Training = Training()
    """Workers that train."""
    evaluate: Evaluate = Evaluate()
    """The evaluation stage."""
    cluster: Cluster = Cluster()
    """Ray cluster."""
    serve: Serve = Serve()
    """REST service."""

    @model_validator(mode="before")
    @classmethod
    def _on_a_cluster(cls, tree: Any) -> Any:
        cluster = tree.get("cluster") if isinstance(tree, dict) else None
        return _without_shares(tree) if isinstance(cluster, dict) and cluster.get("address") is not None else tree

    @model_validator(mode="before")
    @classmethod
    def _models_that_there_are(cls, tree: Any) -> Any:
        """Leaves models that the recipe does not train out of the default of `evaluate.models`."""
        if not isinstance(tree, dict) or not tree.get("target"):
            return tree
        there, evaluate = [name for name in TRAINED if tree.get(name) is not None], tree.get("evaluate")
        if len(there) == len(TRAINED) or not isinstance(evaluate, dict | None) or "models" in (evaluate or {}):
            return tree
        return {**tree, "evaluate": {**(evaluate or {}), "models": there}}

    @model_validator(mode="after")
    def _size(self) -> Self:
        if self.size is not None and self.size not in self.sizes:
            if not self.sizes:
                raise ValueError(f"size: {self.size!r} is not allowed: this recipe has no sizes")
            raise ValueError(f"size: {self.size!r} is not one of {', '.join(('auto', *self.sizes))}")
        return self

    @model_validator(mode="after")
    def _whole_copies(self) -> Self:
        for stage, config in self.trainings.items():
            if config.lora and self.training.shard:
                raise ValueError(f"training.shard: cannot be combined with {stage}.lora; leave one of them out")
        return self

    @model_validator(mode="after")
    def _sections(self) -> Self:
        """Checks that what the recipe asks for has the sections that it needs."""
        trained = next(iter(self.trainings), None)
        if trained is not None and self.target is None:
            raise ValueError(f"target: is required: {trained} trains it")
        if self.dataset is not None:
            self._check_dataset(self.dataset)
        elif trained is not None:
            for key, given, why in (
                ("prompts.train", self.prompts.train, f"the rows of {trained} answer these prompts"),
                ("sources", self.sources, f"the rows of {trained} are selected from their responses"),
                ("rewards", self.rewards, f"the rows of {trained} are selected by their rewards"),
            ):
                if not given:
                    raise ValueError(f"{key}: is required: {why}; or give rows that are ready, in dataset")
        elif self.stages == ("report",) and not (self.sources or self.rewards):
            raise ValueError("prompts.train: is required: a run begins with prompts, or with dataset")
        limited = [domain for domain in DOMAINS if self.select.rule(domain).max_tokens is not None]
        if self.target is None and limited and any(isinstance(source, ImportedSource) for source in self.sources):
            raise ValueError(
                f"target: is required: select.{limited[0]}.max_tokens counts imported responses with its tokenizer"
            )
        if self.target is not None or self.evaluate.names != TRAINED:
            for name in self.evaluate.names:
                if name in TRAINED and getattr(self, name) is None:
                    raise ValueError(f"evaluate.models: {name!r} needs the section {name}, which the recipe lacks")
        return self

    def _check_dataset(self, dataset: ReadyDataset) -> None:
        if self.prompts.train:
            raise ValueError(
                "prompts.train: cannot be combined with dataset, whose rows are ready; leave one of them out"
            )
        if self.select != Select():
            raise ValueError("select: cannot be combined with dataset, whose rows are all used; leave one of them out")
        for stage, key, tables in (("sft", "sft", dataset.sft), ("dpo", "pairs", dataset.pairs)):
            if stage in self.trainings and not tables:
                raise ValueError(f"dataset.{key}: is required: {stage} trains on it")

    @model_validator(mode="after")
    def _names_resolve(self) -> Self:
        sources = [s.name for s in self.sources]
        rewards = [r.name for r in self.rewards]
        for what, names in (("sources", sources), ("rewards", rewards)):
            if len(set(names)) < len(names):
                raise ValueError(f"{what}: names must differ, got {names}")
        served = [s.name for s in self.served]
        imports = any(isinstance(source, ImportedSource) for source in self.sources)
        for reward in self.rewards:
            if isinstance(reward, ImportedReward):
                if not imports:
                    raise ValueError(
                        f"rewards: {reward.name} comes with imported responses; give a source of kind imported"
                    )
            elif not isinstance(reward, OwnReward) and reward.source not in served:
                raise ValueError(f"rewards: {reward.name} uses source {reward.source!r}, which is not one of {served}")
            if reward.name in ("auto", COMBINED):
                raise ValueError(
                    f"rewards: {reward.name!r} is a reserved name; choose another name for the reward model"
                )
        self._check_rule(rewards)
        judges = [r.name for r in self.rewards if isinstance(r, JudgeReward)]
        if self.evaluate.judge is not None and self.evaluate.judge not in judges:
            raise ValueError(f"evaluate.judge: {self.evaluate.judge!r} is not one of the judges {judges}")
        self._check_suites()
        return self

    def _check_suites(self) -> None:
        evaluate, sources = self.evaluate, [s.name for s in self.sources if not isinstance(s, ImportedSource)]
        for what, names in (("models", evaluate.names), ("suites", [s.name for s in evaluate.suites])):
            if len(set(names)) < len(names):
                raise ValueError(f"evaluate.{what}: names must differ, got {list(names)}")
        own = [m.name for m in evaluate.models if not isinstance(m, str)]
        if clash := [name for name in own if name in (*TRAINED, *sources, REFERENCE)]:
            raise ValueError(
                f"evaluate.models: {clash[0]!r} is a reserved name or a source; choose another name for the model"
            )
        for name in evaluate.names:
            if name not in (*TRAINED, *sources, *own):
                allowed = ", ".join((*TRAINED, *sources))
                raise ValueError(f"evaluate.models: {name!r} is not one of {allowed}; other models need name and model")
        judges = [j.name for j in evaluate.judges]
        if clash := [name for i, name in enumerate(judges) if name in (*sources, *judges[:i])]:
            raise ValueError(f"evaluate.judges: {clash[0]!r} is the name of another judge or source")
        if evaluate.suite_judge not in (None, *judges, *sources):
            allowed = ", ".join((*judges, *sources))
            raise ValueError(f"evaluate.suite_judge: {evaluate.suite_judge!r} is not one of {allowed}")
        for i, suite in enumerate(evaluate.suites):
            greedy = not isinstance(suite, HarnessSuite) and (suite.sampling or evaluate.sampling).temperature == 0
            if isinstance(suite, VerifiedSuite) and suite.samples > 1 and greedy:
                raise ValueError(
                    f"evaluate.suites.{i}.samples: must be 1 at sampling.temperature 0: all answers are the same"
                )
            if not isinstance(suite, JudgedSuite):
                continue
            if suite.judge not in (*judges, *sources):
                allowed = ", ".join((*judges, *sources))
                raise ValueError(f"evaluate.suites.{i}.judge: {suite.judge!r} is not one of {allowed}")
            if suite.baseline not in (*evaluate.names, REFERENCE, None):
                allowed = ", ".join((*evaluate.names, REFERENCE))
                raise ValueError(f"evaluate.suites.{i}.baseline: {suite.baseline!r} is not one of {allowed}")

    def _check_rule(self, rewards: list[str]) -> None:
        rule = self.score.reward
        if isinstance(rule, str):
            if rule != "auto" and rule not in rewards:
                raise ValueError(f"score.reward: {rule!r} is not one of auto, {', '.join(rewards)}")
            return
        if unknown := [name for name in rule.names if name not in rewards]:
            raise ValueError(f"score.reward: {unknown[0]!r} is not one of {', '.join(rewards)}")
        sampled = {d for s in self.sources if not isinstance(s, ImportedSource) for d in s.samples}
        if rule.domains and (missing := sorted(sampled - set(rule.domains))):
            raise ValueError(f"score.reward: domains has no reward model for {missing[0]}, which is sampled")

    @property
    def stages(self) -> tuple[StageName, ...]:
        """The stages that the recipe's sections call for, in their order."""
        samples = bool(self.prompts.train and self.sources)
        scores = samples and bool(self.rewards)
        answers = self.target is not None or any(name not in TRAINED for name in self.evaluate.names)
        called: dict[StageName, bool] = {
            "prompts": bool(self.prompts.train or self.prompts.heldout),
            "sample": samples,
            "score": scores,
            "select": scores or self.dataset is not None,
            "sft": self.sft is not None,
            "dpo": self.dpo is not None,
            "evaluate": answers and bool(self.prompts.heldout or self.evaluate.suites),
            "report": True,
        }
        return tuple(stage for stage, is_called in called.items() if is_called)

    @property
    def trainings(self) -> dict[StageName, Optimization]:
        """Stage -> settings of each training, in their order."""
        found: dict[StageName, Optimization] = {}
        if self.sft is not None:
            found["sft"] = self.sft
        if self.dpo is not None:
            found["dpo"] = self.dpo
        return found

    @property
    def scored_models(self) -> tuple[ScoredModel, ...]:
        """The reward models that compute scores."""
        return tuple(r for r in self.rewards if not isinstance(r, ImportedReward))

    @property
    def served(self) -> tuple[Source, ...]:
        """Sources that Ray Serve hosts."""
        return tuple(s for s in self.sources if isinstance(s, Source))

    def source(self, name: str) -> Source:
        """Returns the served source with that name."""
        return next(s for s in self.served if s.name == name)
