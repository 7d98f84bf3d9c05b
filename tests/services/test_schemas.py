"""What no engine could take is refused with its request."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fusechat.services.openai_schemas import ChatBody
from fusechat.services.schemas import SampleBody

ASKED = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    "change",
    [
        {"stop": "\ud83d"},
        {"stop": ["fine", "\ud83d"]},
        {"logit_bias": {"\ud83d": 1.0}},
        {"messages": [{"role": "user", "content": "\ud83d"}]},
    ],
)
def test_a_lone_surrogate_never_reaches_an_engine(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="lone surrogate"):
        ChatBody.model_validate({"model": "m", "messages": ASKED} | change)


def test_nor_by_the_sampling_parameters_of_a_sample() -> None:
    with pytest.raises(ValidationError, match="lone surrogate"):
        SampleBody.model_validate({"messages": ASKED, "sampling": {"stop": ["\ud83d"]}})
    assert SampleBody.model_validate({"messages": ASKED, "sampling": {"stop": ["\U0001f600"]}}).sampling.stop


@pytest.mark.parametrize("body", [b'{"model": "m"}', [], "x", None])
def test_a_body_that_is_no_object_is_refused_as_one(body: Any) -> None:
    with pytest.raises(ValidationError, match="valid dictionary"):
        ChatBody.model_validate(body)


def test_values_nested_deeper_than_json_can_be_written() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValidationError, match="nested too deep"):
        ChatBody.model_validate({"model": "m", "messages": ASKED, "logit_bias": deep})
