"""Recipe sections for the evaluation: models, suites and judges."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from . import suite_collections
from .fields import Name, Section
from .model_options import Engine, Model, Placement, Sampling
from .prompt_options import PromptFile, check_no_prompt_filters, check_takes_all
from .rating_options import RatingInstructions, check_rating_request
from .source_options import Endpoint

TRAINED = ("target", "sft", "dpo")
"""Names of the run's own models in the evaluation."""
REFERENCE = "reference"
"""Baseline of a judged suite whose rows contain the answers to compare with."""


class EvaluatedModel(Section):
    """A model to evaluate in addition to the run's own models and its sources."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,49}$")]
    """Name of the model in the results."""
    model: Model
    """The model's weights."""
    chat_template: str | None = None
    """Jinja file that replaces the model's own chat template. Relative paths start at the recipe's folder."""
    engine: Engine | None = None
    """Settings of the vLLM engine. Default: `evaluate.engine`."""
    placement: Placement | None = None
    """Cluster resources of each engine worker. Default: `evaluate.placement`."""


class Judge(Endpoint):
    """A judge behind an endpoint. A source of the recipe can also be a judge, by its name."""

    name: Name
    """Name of the judge."""


SuiteForm = Literal[
    "rows", "gsm8k", "math", "amc23", "aime25", "humaneval", "mbpp", "livecodebench", "mmlu_pro", "mmlu_redux", "gpqa",
    "livebench", "ifbench", "alpaca_eval", "arena_hard", "mt_bench", "align_bench",
]  # fmt: skip
JUDGED_FORMS = ("alpaca_eval", "arena_hard", "mt_bench", "align_bench")
DATED_FORMS = ("livecodebench", "livebench")
"""Forms whose rows have a date."""
SUITE_LIMIT = "; a suite has limit"
"""What takes the place of `sample` in a suite, for messages."""


class Suite(Section):
    """Settings that suites of files share."""

    name: Name
    """Name of the suite."""
    group: str = ""
    """Group of the suite, e.g. `math` or `code` as in the paper. The table of results has a mean for each group."""
    files: tuple[PromptFile, ...] = Field(min_length=1)
    """Files or tables, as in `prompts.heldout`. Tables of a form need no `columns`: the form defines them. Rows of a
    judged suite may have `reference`, an answer to compare with.
    Rows that cannot be used follow `prompts.invalid`; they include gold without a readable answer, and tests that are
    not Python. With `stop` they end the evaluation and the line is named; with `reject` they are counted
    (`evaluate/rejects`)."""
    form: SuiteForm = "rows"
    """Format of the files. `rows`: prompt rows as on this page. The others are the published formats of public sets, as
    JSONL, Parquet or CSV files or on the hub. For verified suites: `gsm8k`, `math`, `amc23`, `aime25`, `humaneval`,
    `mbpp`, `livecodebench`, `mmlu_pro`, `mmlu_redux`, `gpqa`, `livebench` and `ifbench`; for judged ones:
    `alpaca_eval`, `arena_hard`, `mt_bench` and `align_bench`. HumanEval+ and MBPP+ are read as `humaneval` and
    `mbpp`."""
    ask: str | None = None
    """Template of the request; it must contain `{prompt}`. Default: the template of the form."""
    sampling: Sampling | None = None
    """Sampling parameters of the answers. Default: `evaluate.sampling`."""
    limit: int | None = Field(default=None, ge=1, exclude_if=lambda value: value is None)
    """Number of usable rows to take from the start of each file. Default: all."""
    since: date | None = Field(default=None, exclude_if=lambda value: value is None)
    """Date of the earliest rows to take, e.g. `2024-08-01`; for `livecodebench` by date of the contest, and for
    `livebench` by date of release. Default: all."""
    until: date | None = Field(default=None, exclude_if=lambda value: value is None)
    """Date of the latest rows to take; for `livecodebench`, and for `livebench`, where it means the questions of that
    release. Default: all."""

    @model_validator(mode="after")
    def _form(self) -> Self:
        if self.ask is not None and "{prompt}" not in self.ask:
            raise ValueError("ask must contain {prompt}")
        if self.form != "rows" and not all(isinstance(file, str) or not file.columns for file in self.files):
            raise ValueError(f"form {self.form} needs files and tables without columns: the form defines the columns")
        if self.form != "rows":
            check_no_prompt_filters("files", self.files)
        if self.form not in DATED_FORMS and (self.since or self.until):
            raise ValueError(f"since and until are for the forms {', '.join(DATED_FORMS)}, not for {self.form}")
        check_takes_all("files", self.files, SUITE_LIMIT)
        return self


class VerifiedSuite(Suite):
    """Prompts whose answers fusechat's own verifiers check: math with gold, and code with tests."""

    kind: Literal["verified"]
    """A suite whose answers are verified."""
    samples: int = Field(default=1, ge=1)
    """Number of answers per prompt. A prompt's score is the share of right answers; a missing answer is wrong. More
    than one requires a temperature above 0."""
    timeout_s: float | None = Field(default=None, gt=0, exclude_if=lambda value: value is None)
    """Time limit of one check, in processor seconds. Default: `score.verify.timeout_s`."""

    @model_validator(mode="after")
    def _verifiable(self) -> Self:
        if self.form in JUDGED_FORMS:
            raise ValueError(f"form {self.form} cannot be verified; set the suite's kind to judged")
        return self


class JudgedSuite(Suite):
    """Prompts whose answers a judge compares with a baseline's, each pair in both orders, or rates one by one."""

    kind: Literal["judged"]
    """A suite whose answers are judged."""
    method: Literal["pairs", "rating"] = Field(default="pairs", exclude_if=lambda value: value == "pairs")
    """`pairs`: answers are compared with the baseline's. `rating`: each answer is rated from 1 to 10, as the authors of
    MT-Bench and AlignBench do."""
    judge: Name
    """Name of the judge: one of `evaluate.judges`, or a source of the recipe."""
    baseline: Name | None = None
    """Model whose answers the others are compared with: one of `evaluate.models`, or `reference` for the answers in the
    rows (key `reference`) or in `answers`. Required with `pairs`; `rating` has none."""
    answers: PromptFile | None = Field(default=None, exclude_if=lambda value: value is None)
    """File or table with reference answers, joined by the rows' ids: answers of a model as Arena-Hard and MT-Bench
    publish them, or rows with `id` and `reference`. They replace the rows' own."""
    categories: tuple[str, ...] = Field(default=(), exclude_if=lambda value: not value)
    """Categories of rows to use (Arena-Hard, MT-Bench and AlignBench have them). Default: all rows."""
    temperatures: dict[str, Annotated[float, Field(ge=0)]] = Field(default={}, exclude_if=lambda value: not value)
    """Category -> temperature of the answers to its rows, in place of that of `sampling`. MT-Bench and AlignBench are
    sampled so by their authors."""
    instruction: (
        Annotated[
            Annotated[str, Tag("one_text")] | Annotated[RatingInstructions, Tag("by_case")],
            Discriminator(lambda value: "one_text" if isinstance(value, str) else "by_case"),
        ]
        | None
    ) = None
    """Request to the judge. With `pairs`, it contains `{prompt}`, `{first}` and `{second}`, and the judge's answer must
    contain one of [[A]], [[B]] and [[C]], or Arena-Hard's [[A>>B]], [[A>B]], [[A=B]], [[B>A]] and [[B>>A]]. With
    `rating`, it contains `{prompt}` and `{answer}`, or is given by case, and the judge's answer must contain a rating
    like [[5]], or AlignBench's {'综合得分': 5}. Default: fusechat's own requests."""
    judge_sampling: Sampling = Sampling(temperature=0, max_tokens=1024)
    """Sampling parameters of the judgements."""
    control: Literal["none", "length", "style"] = "length"
    """What the win rate is corrected for: `length` as in AlpacaEval 2, or `style` (length, headers, bold, lists) as in
    Arena-Hard. Only with `pairs`."""

    @model_validator(mode="after")
    def _judged(self) -> Self:
        if self.form not in ("rows", *JUDGED_FORMS):
            raise ValueError(f"form {self.form} is verified, not judged")
        check_takes_all("answers", (self.answers,), SUITE_LIMIT)
        if self.method == "rating":
            for key in ("baseline", "control"):
                if key in self.model_fields_set and getattr(self, key) not in (None, "none"):
                    raise ValueError(f"{key} goes with method: pairs; a rating compares with no other answer")
            if isinstance(self.instruction, str):
                check_rating_request(self.instruction, "instruction")
            return self
        if self.baseline is None:
            raise ValueError("method: pairs needs a baseline: one of evaluate.models, or reference")
        if isinstance(self.instruction, RatingInstructions):
            raise ValueError("instruction is one text with method: pairs; texts by case go with method: rating")
        for field in ("{prompt}", "{first}", "{second}"):
            if self.instruction is not None and field not in self.instruction:
                raise ValueError(f"instruction must contain {field}")
        return self


class HarnessSuite(Section):
    """Tasks of lm-evaluation-harness (MMLU-Pro, GPQA, IFEval, ...), which must be installed in addition to fusechat.
    The harness makes the prompts and scores the answers; the run's deployments answer."""

    name: Name
    """Name of the suite."""
    kind: Literal["harness"]
    """A suite of lm-evaluation-harness."""
    group: str = ""
    """Group of the suite, e.g. `math` or `code`. The table of results has a mean for each group."""
    tasks: tuple[str, ...] = Field(min_length=1)
    """The harness's names of tasks, or of groups of tasks, that generate text."""
    include_path: str | None = None
    """Folder with further tasks (the harness's YAML files), so that local files need no hub. Relative paths start at
    the recipe's folder."""
    metric: str | None = None
    """Metric in the harness's notation `metric,filter`, e.g. `exact_match,flexible-extract`. Its values must lie from 0
    to 1. Default: the first metric of each task."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Number of examples before each question. Default: the task's own number."""
    limit: int | None = Field(default=None, ge=1)
    """Number of questions per task, from the start. Default: all questions."""


AnySuite = Annotated[VerifiedSuite | JudgedSuite | HarnessSuite, Field(discriminator="kind")]


class SuiteContamination(Section):
    """Rows of a suite that the run's training prompts contain, by the overlap of word n-grams as in `prompts`."""

    n: int = Field(default=8, ge=2, le=50)
    """Words per n-gram. A Chinese, Japanese or Korean character counts as a word."""
    threshold: float = Field(default=0.5, gt=0, le=1)
    """Share of a row's n-grams in one training prompt from which the row is contaminated."""
    action: Literal["flag", "refuse"] = "flag"
    """What happens to contaminated rows. `flag`: they are counted and listed in `evaluate/contaminated.parquet`, and
    the score without them is reported next to the score. `refuse`: the evaluation ends."""


class Evaluate(Section):
    """The evaluation: held-out prompts and benchmark suites for a list of models. The models take turns in the engine.
    Sources keep their own engine and placement."""

    engine: Engine = Engine()
    """Settings of the vLLM engine."""
    placement: Placement = Placement()
    """Cluster resources of each engine worker."""
    sampling: Sampling = Sampling(temperature=0, max_tokens=1024)
    """Sampling parameters of the answers."""
    judge: str | None = None
    """Name of a reward of kind `judge` that rates the answers to held-out prompts. Default: no rating."""
    models: tuple[
        Annotated[
            Annotated[Name, Tag("model_name")] | Annotated[EvaluatedModel, Tag("model_entry")],
            Discriminator(lambda value: "model_name" if isinstance(value, str) else "model_entry"),
        ],
        ...,
    ] = Field(default=TRAINED, min_length=1)
    """Models to evaluate: `target`, `sft`, `dpo`, names of sources, and further models. Every model is compared with
    the first, and `dpo` also with `sft`. `fusechat evaluate RECIPE --models` replaces the list for one call."""
    suite_judge: Name | None = Field(default=None, exclude_if=lambda value: value is None)
    """Judge of the judged suites that name none: one of `evaluate.judges`, or a source of the recipe."""
    suite_limit: int | None = Field(default=None, ge=1, exclude_if=lambda value: value is None)
    """`limit` of the suites that have none: a few rows per file or task, for a cheap try."""
    suite_files: str | None = Field(default=None, exclude_if=lambda value: value is None)
    """Folder with local copies of the hub data sets that suites read, so that no network is needed: `gsm8k.jsonl`,
    `.parquet` or `.csv` for the suite `gsm8k`, or a folder `gsm8k` with such files. Relative paths start at the
    recipe's folder."""
    suites: tuple[AnySuite, ...] = Field(default=(), json_schema_extra=suite_collections.with_names)
    """Benchmark suites: the name of a collection that ships with fusechat (`fusechat3`, `modern`), or a list of suites
    and names. A name stands for a collection or for one of its suites (`gsm8k`, `fusechat3/gsm8k`)."""
    judges: tuple[Judge, ...] = ()
    """Judges behind endpoints."""
    contamination: SuiteContamination = SuiteContamination()
    """Detection of suite rows in the training prompts."""

    @field_validator("suites", mode="before")
    @classmethod
    def _named_suites(cls, value: Any, info: ValidationInfo) -> Any:
        defaults = {key: info.data.get(f"suite_{key}") for key in ("judge", "limit", "files")}
        return suite_collections.completed(suite_collections.expanded(value), **defaults)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the models, in order."""
        return tuple(m if isinstance(m, str) else m.name for m in self.models)
