"""The recipe: one frozen tree of pydantic models, unknown keys refused, each field documented under it."""

from __future__ import annotations

from typing import Any, Self

from pydantic import (
    Field,
    model_validator,
)

from .cluster_options import Cluster, Serve
from .evaluate_options import (
    REFERENCE,
    TRAINED,
    Evaluate,
    HarnessSuite,
    JudgedSuite,
    VerifiedSuite,
)
from .fields import Name, Section
from .prompt_options import Prompts
from .reward_options import JudgeReward, OwnReward, RewardModel
from .score_options import COMBINED, Score
from .select_options import Select
from .size_options import Size
from .source_options import AnySource, ImportedSource, Sample, Source
from .training_options import Dpo, Sft, Target, Training


def _without_shares(node: Any) -> Any:
    """A section as it is on a cluster, where no model shares a machine with the run: a share counts as one CPU."""
    if isinstance(node, list):
        return [_without_shares(value) for value in node]
    if not isinstance(node, dict):
        return node
    shares = {key for key in ("num_cpus", "num_threads") if str(node.get(key)).endswith("%")}
    return {key: 1 if key in shares else _without_shares(value) for key, value in node.items()}


class Recipe(Section):
    """All of it."""

    name: Name
    size: Name | None = None
    """Which of `sizes`; `auto` takes the largest that this machine ends in `size_minutes`."""
    sizes: dict[Name, Size] = Field(default={})
    """Sizes that the recipe comes in; the one with the most work is the largest."""
    size_minutes: float = Field(default=15, gt=0)
    """How long `size: auto` may take on a machine without GPUs."""
    seed: int = Field(default=0, ge=0)
    run_dir: str
    """Where the run is kept, e.g. `runs/demo`; relative paths start at the working directory."""
    prompts: Prompts
    sources: tuple[AnySource, ...] = Field(min_length=1)
    rewards: tuple[RewardModel, ...] = Field(min_length=1)
    target: Target
    sft: Sft
    dpo: Dpo
    sample: Sample = Sample()
    score: Score = Score()
    select: Select = Select()
    training: Training = Training()
    evaluate: Evaluate = Evaluate()
    cluster: Cluster = Cluster()
    serve: Serve = Serve()

    @model_validator(mode="before")
    @classmethod
    def _on_a_cluster(cls, tree: Any) -> Any:
        cluster = tree.get("cluster") if isinstance(tree, dict) else None
        return _without_shares(tree) if isinstance(cluster, dict) and cluster.get("address") is not None else tree

    @model_validator(mode="after")
    def _size(self) -> Self:
        if self.size is not None and self.size not in self.sizes:
            there = ", ".join(("auto", *self.sizes)) if self.sizes else "no sizes in this recipe"
            raise ValueError(f"size: {self.size!r} is none of {there}")
        return self

    @model_validator(mode="after")
    def _whole_copies(self) -> Self:
        for stage, config in (("sft", self.sft), ("dpo", self.dpo)):
            if config.lora and self.training.shard:
                raise ValueError(f"training.shard: {stage}.lora is trained on whole copies; leave one of them out")
        return self

    @model_validator(mode="after")
    def _names_resolve(self) -> Self:
        sources = [s.name for s in self.sources]
        rewards = [r.name for r in self.rewards]
        for what, names in (("sources", sources), ("rewards", rewards)):
            if len(set(names)) < len(names):
                raise ValueError(f"{what}: names must differ, got {names}")
        served = [s.name for s in self.served]
        for reward in self.rewards:
            if not isinstance(reward, OwnReward) and reward.source not in served:
                raise ValueError(f"rewards: {reward.name} asks source {reward.source!r}; there are {served}")
            if reward.name in ("auto", COMBINED):
                raise ValueError(f"rewards: {reward.name!r} is no name for a reward model, it means something else")
        self._check_rule(rewards)
        judges = [r.name for r in self.rewards if isinstance(r, JudgeReward)]
        if self.evaluate.judge is not None and self.evaluate.judge not in judges:
            raise ValueError(f"evaluate.judge: {self.evaluate.judge!r} is none of the judges {judges}")
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
                f"evaluate.models: {clash[0]!r} is no name for a model of its own, it means something else"
            )
        for name in evaluate.names:
            if name not in (*TRAINED, *sources, *own):
                there = ", ".join((*TRAINED, *sources))
                raise ValueError(f"evaluate.models: {name!r} is none of {there}; a model of its own has name and model")
        judges = [j.name for j in evaluate.judges]
        if clash := [name for i, name in enumerate(judges) if name in (*sources, *judges[:i])]:
            raise ValueError(f"evaluate.judges: {clash[0]!r} is the name of another judge or source")
        for i, suite in enumerate(evaluate.suites):
            greedy = not isinstance(suite, HarnessSuite) and (suite.sampling or evaluate.sampling).temperature == 0
            if isinstance(suite, VerifiedSuite) and suite.samples > 1 and greedy:
                raise ValueError(f"evaluate.suites.{i}.samples: above 1 all are the same at sampling.temperature 0")
            if not isinstance(suite, JudgedSuite):
                continue
            if suite.judge not in (*judges, *sources):
                there = ", ".join((*judges, *sources))
                raise ValueError(f"evaluate.suites.{i}.judge: {suite.judge!r} is none of {there}")
            if suite.baseline not in (*evaluate.names, REFERENCE):
                there = ", ".join((*evaluate.names, REFERENCE))
                raise ValueError(f"evaluate.suites.{i}.baseline: {suite.baseline!r} is none of {there}")

    def _check_rule(self, rewards: list[str]) -> None:
        rule = self.score.reward
        if isinstance(rule, str):
            if rule != "auto" and rule not in rewards:
                raise ValueError(f"score.reward: {rule!r} is none of auto, {', '.join(rewards)}")
            return
        if unknown := [name for name in rule.names if name not in rewards]:
            raise ValueError(f"score.reward: {unknown[0]!r} is none of {', '.join(rewards)}")
        asked = {d for s in self.sources if not isinstance(s, ImportedSource) for d in s.samples}
        if rule.domains and (left_out := sorted(asked - set(rule.domains))):
            raise ValueError(f"score.reward: domains names no reward model for {left_out[0]}, which is sampled")

    @property
    def served(self) -> tuple[Source, ...]:
        """The sources that Ray Serve hosts."""
        return tuple(s for s in self.sources if isinstance(s, Source))

    def source(self, name: str) -> Source:
        """The served source of that name."""
        return next(s for s in self.served if s.name == name)
