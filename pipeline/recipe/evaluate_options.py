"""The evaluation: models, suites and judges."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import (
    Discriminator,
    Field,
    Tag,
    model_validator,
)

from .fields import Name, Section
from .model_options import Engine, Model, Placement, Sampling
from .prompt_options import PromptFile
from .source_options import Endpoint

TRAINED = ("target", "sft", "dpo")
"""Names under which a run's own models are evaluated."""


REFERENCE = "reference"
"""Baseline of a judged suite whose rows bring the answers to be held against."""


class EvaluatedModel(Section):
    """A model that is evaluated beside the run's own and its sources."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,49}$")]
    model: Model
    chat_template: str | None = None
    """A Jinja file in place of the model's own template; relative to the recipe's folder."""
    engine: Engine | None = None
    """None takes `evaluate.engine`."""
    placement: Placement | None = None
    """None takes `evaluate.placement`."""


class Judge(Endpoint):
    """A judge behind an endpoint; a source of the recipe can judge too, by its name."""

    name: Name


SuiteForm = Literal[
    "rows", "gsm8k", "math", "humaneval", "mbpp", "alpaca_eval", "arena_hard", "mt_bench", "align_bench"
]  # fmt: skip


JUDGED_FORMS = ("alpaca_eval", "arena_hard", "mt_bench", "align_bench")


class Suite(Section):
    """What suites of files share."""

    name: Name
    group: str = ""
    """Suites of a group get a mean; `math`, `code`, ... as the paper has them."""
    files: tuple[PromptFile, ...] = Field(min_length=1)
    """As `prompts.heldout`; rows of a judged suite may hold `reference`, an answer to be held against."""
    form: SuiteForm = "rows"
    """`rows` are prompt rows; the others are the public sets' own JSONL files."""
    ask: str | None = None
    """The prompt as it is asked, with `{prompt}`; none takes the form's own."""
    sampling: Sampling | None = None
    """None takes `evaluate.sampling`."""

    @model_validator(mode="after")
    def _form(self) -> Self:
        if self.ask is not None and "{prompt}" not in self.ask:
            raise ValueError("ask must contain {prompt}")
        if self.form != "rows" and not all(isinstance(file, str) for file in self.files):
            raise ValueError(f"form {self.form} takes the names of files: it knows their columns")
        return self


class VerifiedSuite(Suite):
    """Prompts whose answers our own verifiers check: math with gold, code with tests."""

    kind: Literal["verified"]
    samples: int = Field(default=1, ge=1)
    """Answers a prompt; its score is the share of them that is right."""

    @model_validator(mode="after")
    def _verifiable(self) -> Self:
        if self.form in JUDGED_FORMS:
            raise ValueError(f"form {self.form} has nothing to verify; make the suite's kind judged")
        return self


class JudgedSuite(Suite):
    """Prompts whose answers a judge holds against those of a baseline, each pair in both orders."""

    kind: Literal["judged"]
    judge: Name
    """One of `evaluate.judges`, or a source of the recipe."""
    baseline: Name
    """One of `evaluate.models`, or `reference`: the rows' own."""
    instruction: str | None = None
    """What the judge is asked, with `{prompt}`, `{first}` and `{second}`; its answer ends with [[A]], [[B]] or [[C]],
    or as Arena-Hard has it. None takes the product's own."""
    judge_sampling: Sampling = Sampling(temperature=0, max_tokens=1024)
    control: Literal["none", "length", "style"] = "length"
    """What is taken out of the win rate: the length as AlpacaEval 2 does, or style as Arena-Hard does."""

    @model_validator(mode="after")
    def _instruction(self) -> Self:
        for field in ("{prompt}", "{first}", "{second}"):
            if self.instruction is not None and field not in self.instruction:
                raise ValueError(f"instruction must contain {field}")
        if self.form not in ("rows", *JUDGED_FORMS):
            raise ValueError(f"form {self.form} is verified, not judged")
        return self


class HarnessSuite(Section):
    """Tasks of lm-evaluation-harness, installed beside fusechat: it asks and scores, the run's deployments answer."""

    name: Name
    kind: Literal["harness"]
    group: str = ""
    tasks: tuple[str, ...] = Field(min_length=1)
    """Its names of tasks, or of groups of tasks, that generate text."""
    include_path: str | None = None
    """A folder of further tasks; relative to the recipe's folder."""
    metric: str | None = None
    """In its notation, e.g. `exact_match,flexible-extract`; none takes each task's first."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Examples in front of each question; none takes the task's own number."""
    limit: int | None = Field(default=None, ge=1)
    """The first so many questions of each task."""


AnySuite = Annotated[VerifiedSuite | JudgedSuite | HarnessSuite, Field(discriminator="kind")]


class SuiteContamination(Section):
    """Rows of a suite that the run's training prompts hold; overlap of n-grams of words, as in `prompts`."""

    n: int = Field(default=8, ge=2, le=50)
    """Words an n-gram; a Chinese, Japanese or Korean character is a word."""
    threshold: float = Field(default=0.5, gt=0, le=1)
    """Share of a row's n-grams in one training prompt, from which the row is contaminated."""
    action: Literal["flag", "refuse"] = "flag"
    """Whether such rows are marked and counted, and the score without them given, or the evaluation ends."""


class Evaluate(Section):
    """Evaluation: held-out prompts, and suites of prompts for any list of models."""

    engine: Engine = Engine()
    placement: Placement = Placement()
    sampling: Sampling = Sampling(temperature=0, max_tokens=1024)
    judge: str | None = None
    """Name of a judge reward that rates the answers; none leaves them unrated."""
    models: tuple[
        Annotated[
            Annotated[Name, Tag("model_name")] | Annotated[EvaluatedModel, Tag("model_entry")],
            Discriminator(lambda value: "model_name" if isinstance(value, str) else "model_entry"),
        ],
        ...,
    ] = Field(default=TRAINED, min_length=1)
    """`target`, `sft`, `dpo`, names of sources, and models of their own; the first is what others are compared with."""
    suites: tuple[AnySuite, ...] = ()
    judges: tuple[Judge, ...] = ()
    """Judges behind endpoints."""
    contamination: SuiteContamination = SuiteContamination()

    @property
    def names(self) -> tuple[str, ...]:
        """The models' names, in their order."""
        return tuple(m if isinstance(m, str) else m.name for m in self.models)
