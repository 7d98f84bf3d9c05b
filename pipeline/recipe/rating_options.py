"""Recipe section for the requests of a judge that rates answers one by one."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from .fields import Section

RATING_FIELDS = (("{prompt}", "{question}", "{question_1}"), ("{answer}", "{answer_1}", "{answer_2}"))
"""Every request for a rating contains one field of each group."""


class RatingInstructions(Section):
    """Requests to the judge of a suite with `method: rating`, by what is rated. They may contain `{prompt}` (or
    `{question}`), `{answer}`, `{reference}`, `{category}` and `{dimensions}`; and for two turns `{question_1}`,
    `{answer_1}`, `{reference_1}` (or `{ref_answer_1}`), `{question_2}`, `{answer_2}` and `{reference_2}` (or
    `{ref_answer_2}`). These are the names in the requests of MT-Bench's and AlignBench's authors."""

    first_turn: str | None = None
    """A first turn without a reference answer."""
    first_turn_reference: str | None = None
    """A first turn with a reference answer."""
    second_turn: str | None = None
    """A second turn without a reference answer; both turns are shown."""
    second_turn_reference: str | None = None
    """A second turn with reference answers."""

    @model_validator(mode="after")
    def _fields(self) -> Self:
        for name in type(self).model_fields:
            check_rating_request(getattr(self, name), f"instruction.{name}")
        return self


def check_rating_request(text: str | None, key: str) -> None:
    """Checks that a request for a rating shows the question and the answer.

    Raises:
        ValueError: a field is missing.
    """
    for group in RATING_FIELDS:
        if text is not None and not any(field in text for field in group):
            raise ValueError(f"{key} must contain {' or '.join(group)}")
