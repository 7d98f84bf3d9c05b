"""Request bodies of OpenAI's routes, under OpenAI's names, and OpenAI's error object."""

from __future__ import annotations

import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_CHOICES = 16
"""Largest `n` of a request."""

Text = Annotated[str, Field(max_length=1_000_000)]


class RequestBody(BaseModel):
    """Base of all request bodies: an unknown key is an error that names the key."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class EngineInput(RequestBody):
    """Base of bodies that are sent to an engine. Engine messages are UTF-8, which can't encode a lone surrogate."""

    @model_validator(mode="before")
    @classmethod
    def _check_unicode(cls, value: object) -> object:
        if not isinstance(value, dict):  # bytes if the media type is not JSON; pydantic reports that
            return value
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise ValueError("a text holds a lone surrogate") from error
        except RecursionError as error:
            raise ValueError("its values are nested too deep") from error
        return value


# --- parts of a chat request


class TextPart(RequestBody):
    """A text part of a message; OpenAI's clients may split a message into parts."""

    type: Literal["text"]
    text: Text


class FunctionCall(RequestBody):
    """The name and arguments of a function call that a model made."""

    name: str
    arguments: Text


class ToolCall(RequestBody):
    """One tool call."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class ChatMessage(RequestBody):
    """A message of OpenAI's chat API. Only text is accepted, because the sources are text models."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[TextPart] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    @model_validator(mode="after")
    def _check_content(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing")
        return self


class FunctionDefinition(RequestBody):
    """A function that the model may call."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")
    description: str | None = None
    parameters: dict[str, object] | None = None
    strict: bool | None = None


class Tool(RequestBody):
    """A tool that the model may call."""

    type: Literal["function"]
    function: FunctionDefinition


class NamedFunction(RequestBody):
    """A function by name."""

    name: str


class NamedTool(RequestBody):
    """The tool that the model must call."""

    type: Literal["function"]
    function: NamedFunction


class JsonSchema(RequestBody):
    """A JSON schema that the answer must follow."""

    name: str
    description: str | None = None
    schema_: dict[str, object] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(RequestBody):
    """Format of the answer."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _check_schema(self) -> Self:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("json_schema must be given with type json_schema, and only then")
        return self


class StreamOptions(RequestBody):
    """Options of a streamed answer."""

    include_usage: bool = False


# --- the requests


class GenerationBody(EngineInput):
    """Parameters shared by chat and text completions: OpenAI's own, and vLLM's additional sampling parameters."""

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


class ChatBody(GenerationBody):
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


class CompletionBody(GenerationBody):
    """`POST /v1/completions`."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"model": "smollm2", "prompt": "3 + 4 =", "max_tokens": 4}]}
    )

    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=64)]
    logprobs: int | None = Field(default=None, ge=0, le=20)
    echo: bool = False


# --- errors


class ErrorDetail(BaseModel):
    """Content of OpenAI's error object."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorReply(BaseModel):
    """OpenAI's error object."""

    error: ErrorDetail
