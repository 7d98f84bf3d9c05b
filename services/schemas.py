"""Request and response bodies of fusechat's own routes: sample, score, verify, health and ready."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fusechat.pipeline.recipe import Domain, Name, Sampling

from .openai_schemas import MAX_CHOICES, EngineInput, RequestBody, Text

MAX_ITEMS = 256
"""Most items in one request to score or verify."""


class TextMessage(RequestBody):
    """A message of plain text."""

    role: Literal["system", "user", "assistant"]
    content: Text


# --- /v1/sample


class SamplingOverride(EngineInput):
    """Sampling parameters that replace the recipe's. Parameters that are not set keep the recipe's value."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: list[str] | None = Field(default=None, max_length=16)
    stop_token_ids: list[int] | None = None

    def apply_to(self, sampling: Sampling) -> Sampling:
        """Returns the recipe's parameters with these overrides applied."""
        return Sampling.model_validate(sampling.model_dump() | self.model_dump(exclude_none=True))


class VerificationSpec(RequestBody):
    """What an answer is verified against: a gold answer (math) or tests (code)."""

    gold: Text | None = None
    tests: Text | None = None
    """Assert lines, a `check(candidate)` function, or, for programs, JSON text: a list of {"input", "output"}."""
    entry_point: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")
    """The function that the tests call. Programs need none."""
    prompt: Text = ""
    """If it contains Python code that defines the entry point (HumanEval), the response may complete or follow it."""

    @model_validator(mode="after")
    def _check_one_of(self) -> Self:
        if (self.gold is None) == (self.tests is None):
            raise ValueError("give either gold (math) or tests (code)")
        return self

    @property
    def domain(self) -> Literal["math", "code"]:
        """The verifier that this needs."""
        return "math" if self.gold is not None else "code"


class SampleBody(RequestBody):
    """`POST /v1/sample`: samples several sources for one conversation."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "messages": [{"role": "user", "content": "What is 3 + 4? End with: The answer is <number>."}],
                    "domain": "math",
                    "n": 2,
                    "score": True,
                    "verify": {"gold": "7"},
                }
            ]
        }
    )

    messages: list[TextMessage] = Field(min_length=1, max_length=1000)
    domain: Domain = "instruction"
    """Selects the recipe's sampling parameters. The response ids depend on them."""
    sources: list[Name] | None = Field(default=None, min_length=1)
    """Default: all sources of the recipe that serve the domain."""
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    """Samples per source. Default: the recipe's number for the domain."""
    sampling: SamplingOverride = SamplingOverride()
    score: bool | Name = False
    """Whether to score the answers, or the name of the recipe's reward model that scores them."""
    verify: VerificationSpec | None = None
    stream: bool = False
    """Server-sent events: one `sample` event as each sample finishes, then `done`."""
    deltas: bool = False
    """With `stream`: also `delta` events with the text as it is generated."""


class SampleResult(BaseModel):
    """One answer of `/v1/sample`."""

    response_id: str
    source: str
    sample_index: int
    seed: int
    text: str
    finish_reason: str
    reject: str
    flags: list[str]
    prompt_tokens: int
    completion_tokens: int
    stored: bool
    """The sample was read from the run directory; nothing was generated."""
    reward: float | None = None
    reward_reject: str = ""
    correct: bool | None = None
    verdict: str = ""
    detail: str = ""


class SourceError(BaseModel):
    """A source that failed to answer."""

    source: str
    code: str
    message: str


class SampleReply(BaseModel):
    """Answer of `/v1/sample`."""

    prompt_id: str
    samples: list[SampleResult]
    """If scored or verified, best first: correct before wrong, then by reward. Otherwise by source and index."""
    errors: list[SourceError]


# --- /v1/score


class ScoreItemBody(RequestBody):
    """One response to score."""

    messages: list[TextMessage] = Field(min_length=1, max_length=1000)
    response: Text


class ScoreBody(RequestBody):
    """`POST /v1/score`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"items": [{"messages": [{"role": "user", "content": "What is 3 + 4?"}], "response": "7"}]}]
        }
    )

    items: list[ScoreItemBody] = Field(min_length=1, max_length=MAX_ITEMS)
    reward: Name | None = None
    """A reward model of the recipe, or `combined` if the recipe combines several. Default: the one selection uses."""
    domain: Domain = "instruction"
    """Selects the reward model if the recipe has one for each domain."""


class ScoreResult(BaseModel):
    """A reward; `reject` says why if there is none."""

    score: float | None
    reject: str
    tokens: int
    objectives: dict[str, float] | None = None
    """ArmoRM's 19 objectives before gating. Null for other reward models."""
    gate: dict[str, float] | None = None
    """ArmoRM's weights of the objectives."""


class ScoreReply(BaseModel):
    """Answer of `/v1/score`, in the order of the items."""

    reward: str
    scores: list[ScoreResult]


# --- /v1/verify


class VerifyItem(VerificationSpec):
    """One response to verify."""

    response: Text


class VerifyBody(RequestBody):
    """`POST /v1/verify`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [{"response": "3 + 4 = 7. The answer is 7", "gold": "7"}]}]}
    )

    items: list[VerifyItem] = Field(min_length=1, max_length=MAX_ITEMS)


class VerifyResult(BaseModel):
    """A verdict. `correct` is null if the verifier can't decide."""

    correct: bool | None
    verdict: str
    detail: str
    extracted: str = ""
    """The answer or the code that was extracted from the response."""
    seconds: float = 0.0
    memory_bytes: int = 0
    """Peak resident memory of the process that ran the code."""
    findings: list[str] = []
    """Findings of static analysis. They don't affect the verdict."""


class VerifyReply(BaseModel):
    """Answer of `/v1/verify`, in the order of the items."""

    verdicts: list[VerifyResult]


# --- /health and /ready


class ModelState(BaseModel):
    """State of one model."""

    kind: Literal["source", "reward"]
    state: Literal["ready", "starting", "scaled_to_zero", "failing"]
    replicas: int
    why: str = ""


class ReadyReply(BaseModel):
    """Answer of `/ready`."""

    ready: bool
    models: dict[str, ModelState]


class HealthReply(BaseModel):
    """Answer of `/health`."""

    status: Literal["ok"] = "ok"
