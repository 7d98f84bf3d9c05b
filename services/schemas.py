"""Bodies of the REST routes: closed pydantic models, under OpenAI's names where OpenAI has the route."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fusechat.pipeline.recipe import Domain, Name, Sampling

MAX_CHOICES = 16
MAX_ITEMS = 256
"""Conversations or responses in one request to be scored or verified."""

Text = Annotated[str, Field(max_length=1_000_000)]


class Body(BaseModel):
    """A request: unknown keys are refused by name."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Message(Body):
    """A message of plain text."""

    role: Literal["system", "user", "assistant"]
    content: Text


class TextPart(Body):
    """Text as OpenAI's clients may split it."""

    type: Literal["text"]
    text: Text


class FunctionCall(Body):
    """What a model asked a function."""

    name: str
    arguments: Text


class ToolCall(Body):
    """One call of a tool."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(Body):
    """A message of OpenAI's chat API; text alone, since the sources read text."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _content(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing")
        return self


class Function(Body):
    """A function that the model may call."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool that the model may call."""

    type: Literal["function"]
    function: Function


class NamedFunction(Body):
    """A function by name."""

    name: str


class NamedTool(Body):
    """The tool that the model must call."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(Body):
    """A JSON schema that the answer must follow."""

    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(Body):
    """Form of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema goes with type json_schema")
        return self


class StreamOptions(Body):
    """Extras of a streamed answer."""

    include_usage: bool = False


class ForEngine(Body):
    """What goes to an engine: its messages are UTF-8, and no lone surrogate is."""

    @model_validator(mode="before")
    @classmethod
    def _unicode(cls, value: Any) -> Any:
        if not isinstance(value, dict):  # bytes, where the media type is not JSON's: pydantic says so
            return value
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("a text holds a lone surrogate") from error
        except RecursionError as error:
            raise ValueError("its values are nested too deep") from error
        return value


class Generation(ForEngine):
    """What chat and completions share: OpenAI's parameters, and vLLM's own sampling parameters."""

    model: str
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    seed: int | None = Field(default=None, ge=0, le=2**63 - 1)
    stop: str | Annotated[list[str], Field(max_length=16)] | None = None
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[str, float] | None = None
    user: str | None = None
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    stop_token_ids: list[int] | None = None
    min_tokens: int | None = Field(default=None, ge=0)
    ignore_eos: bool | None = None
    skip_special_tokens: bool | None = None


class ChatBody(Generation):
    """`POST /v1/chat/completions`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "smollm2",
                    "messages": [{"role": "user", "content": "What is 3 + 4?"}],
                    "max_tokens": 32,
                    "seed": 7,
                }
            ]
        }
    )

    messages: list[ChatMessage] = Field(min_length=1, max_length=1000)
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    response_format: ResponseFormat | None = None
    tools: list[Tool] | None = Field(default=None, max_length=128)
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    store: Literal[False] | None = None
    metadata: dict[str, str] | None = None


class CompletionBody(Generation):
    """`POST /v1/completions`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "smollm2", "prompt": "3 + 4 =", "max_tokens": 4}]}
    )

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=64)]
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool = False


class SamplingOverride(ForEngine):
    """Sampling parameters in place of the recipe's; what is left out stays."""

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    max_tokens: int | None = Field(default=None, ge=1)
    stop: list[str] | None = Field(default=None, max_length=16)
    stop_token_ids: list[int] | None = None

    def over(self, sampling: Sampling) -> Sampling:
        """The recipe's parameters with these in their place."""
        return Sampling.model_validate(sampling.model_dump() | self.model_dump(exclude_none=True))


class Check(Body):
    """How an answer is verified: against a gold answer (math), or by tests (code)."""

    gold: Text | None = None
    tests: Text | None = None
    """Assert lines, a `check(candidate)` function, or, for programs, JSON text: a list of {"input", "output"}."""
    entry_point: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")
    """The function that the tests call; programs need none."""
    prompt: Text = ""
    """Where it holds Python that defines the entry point (HumanEval), the response may complete or follow it."""

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.gold is None) == (self.tests is None):
            raise ValueError("give gold (math) or tests (code), one of them")
        return self

    @property
    def domain(self) -> Literal["math", "code"]:
        """The verifier that it asks for."""
        return "math" if self.gold is not None else "code"


class SampleBody(Body):
    """`POST /v1/sample`: one conversation, asked of several sources."""

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

    messages: list[Message] = Field(min_length=1, max_length=1000)
    domain: Domain = "instruction"
    """Decides the recipe's sampling parameters, and so the identities."""
    sources: list[Name] | None = Field(default=None, min_length=1)
    """All of the recipe's that serve the domain, where it is left out."""
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    """Samples a source; the recipe's number for the domain, where it is left out."""
    sampling: SamplingOverride = SamplingOverride()
    score: bool | Name = False
    """Whether the answers are scored, or by which of the recipe's reward models."""
    verify: Check | None = None
    stream: bool = False
    """Server-sent events: `sample` as each one finishes, then `done`."""
    deltas: bool = False
    """With `stream`: `delta` events with the text as it grows."""


class Sampled(BaseModel):
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
    """It comes from the run's store; nothing was generated."""
    reward: float | None = None
    reward_reject: str = ""
    correct: bool | None = None
    verdict: str = ""
    detail: str = ""


class SourceError(BaseModel):
    """A source that could not answer."""

    source: str
    code: str
    message: str


class SampleReply(BaseModel):
    """Answer of `/v1/sample`."""

    prompt_id: str
    samples: list[Sampled]
    """Best first where they are scored or verified: right before wrong, then by reward; else by source and index."""
    errors: list[SourceError]


class ScoreItemBody(Body):
    """One response to be scored."""

    messages: list[Message] = Field(min_length=1, max_length=1000)
    response: Text


class ScoreBody(Body):
    """`POST /v1/score`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"items": [{"messages": [{"role": "user", "content": "What is 3 + 4?"}], "response": "7"}]}]
        }
    )

    items: list[ScoreItemBody] = Field(min_length=1, max_length=MAX_ITEMS)
    reward: Name | None = None
    """The recipe's reward model, or `combined` where it combines several; what selection uses, where left out."""
    domain: Domain = "instruction"
    """Decides which reward model scores where the recipe names one for each domain."""


class Scored(BaseModel):
    """A reward, or why there is none."""

    score: float | None
    reject: str
    tokens: int
    objectives: dict[str, float] | None = None
    """ArmoRM's 19, unmixed; none where the model has none."""
    gate: dict[str, float] | None = None
    """ArmoRM's weights of them."""


class ScoreReply(BaseModel):
    """Answer of `/v1/score`, in the order of the items."""

    reward: str
    scores: list[Scored]


class VerifyItem(Check):
    """One response to be verified."""

    response: Text


class VerifyBody(Body):
    """`POST /v1/verify`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [{"response": "3 + 4 = 7. The answer is 7", "gold": "7"}]}]}
    )

    items: list[VerifyItem] = Field(min_length=1, max_length=MAX_ITEMS)


class Verdict(BaseModel):
    """A verdict; `correct` is none where the verifier can't tell."""

    correct: bool | None
    verdict: str
    detail: str
    extracted: str = ""
    """The answer or the code that was found in the response."""
    seconds: float = 0.0
    memory_bytes: int = 0
    """Peak resident memory of the code's process."""
    findings: list[str] = []
    """Of static analysis; they decide nothing."""


class VerifyReply(BaseModel):
    """Answer of `/v1/verify`, in the order of the items."""

    verdicts: list[Verdict]


class Problem(BaseModel):
    """What went wrong, as OpenAI says it."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ProblemReply(BaseModel):
    """OpenAI's error object."""

    error: Problem


class ModelState(BaseModel):
    """How a model is."""

    kind: Literal["source", "reward"]
    state: Literal["ready", "starting", "scaled_to_zero", "failing"]
    replicas: int
    why: str = ""


class Ready(BaseModel):
    """Answer of `/ready`."""

    ready: bool
    models: dict[str, ModelState]


class Health(BaseModel):
    """Answer of `/health`."""

    status: Literal["ok"] = "ok"
