"""The form of LiveCodeBench: programs and functions with inputs and outputs."""

from __future__ import annotations

import base64
import binascii
import json
import pickletools
import zlib

from .set_form import Dates, Form, SetRow, day

MAX_TESTS_BYTES = 256 << 20
"""Private tests that unpack to more are refused."""
TESTS = ("public_test_cases", "private_test_cases")
"""Keys of a row's test cases."""
PROGRAM = "Write a Python program. It reads the input from stdin and prints the answer to stdout."
FUNCTION = "Complete this code in Python:"
TEXTS = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
AROUND_TEXT = frozenset({"PROTO", "FRAME", "MEMOIZE", "BINPUT", "LONG_BINPUT", "STOP"})
"""What a pickle of a text consists of otherwise."""


def _packed_text(packed: str) -> str:
    """The JSON text in base64 of a zlib-compressed pickle of a text, as the set publishes its private tests.

    The pickle is only read, never loaded, so that a hostile file can't run anything.

    Raises:
        ValueError: it is something else, or too large.
    """
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(base64.b64decode(packed, validate=True), MAX_TESTS_BYTES)
        if unpacker.unconsumed_tail:
            raise ValueError(f"more than {MAX_TESTS_BYTES >> 20} MiB")
        steps = [(step.name, value) for step, value, _ in pickletools.genops(data)]
    except (binascii.Error, zlib.error, ValueError) as error:
        raise ValueError(f"private_test_cases can't be unpacked: {error}") from None
    texts = [value for name, value in steps if name in TEXTS]
    if other := sorted({name for name, _ in steps} - TEXTS - AROUND_TEXT):
        raise ValueError(f"private_test_cases must hold a text alone; the pickle has {other[0]}")
    if len(texts) != 1:
        raise ValueError(f"private_test_cases must hold one text, not {len(texts)}")
    return str(texts[0])


def test_cases(raw: SetRow) -> list[dict[str, str]]:
    """The test cases of a row, the public ones first.

    Raises:
        ValueError: there are texts that are no test cases.
    """
    return [case for key in TESTS for case in _cases(key, raw[key])]


def _cases(key: str, text: str) -> list[dict[str, str]]:
    """The test cases of a text: JSON, or packed."""
    if not text.lstrip().startswith("["):
        text = _packed_text(text)
    cases = json.loads(text)
    if not isinstance(cases, list) or not all(isinstance(c, dict) and {"input", "output"} <= c.keys() for c in cases):
        raise ValueError(f"{key} must be a list of input and output")
    return cases


def _livecodebench(raw: SetRow) -> SetRow:
    starter, metadata = raw.get("starter_code") or "", json.loads(raw.get("metadata") or "{}")
    cases = test_cases(raw)
    function = metadata.get("func_name")
    kinds = {c.get("testtype") for c in cases}
    if "functional" in kinds and not function:
        raise ValueError("functional tests need func_name in metadata")
    task = f"{FUNCTION}\n\n```python\n{starter.strip()}\n```" if starter.strip() else PROGRAM
    return {
        "domain": "code",
        "id": str(raw["question_id"]),
        "prompt": f"{raw['question_content'].strip()}\n\n{task}",
        "tests": json.dumps(cases),
        "entry_point": function,
    }


def _outside(raw: SetRow, dates: Dates) -> str | None:
    contest = day(raw["contest_date"])
    if (dates.since and contest < dates.since) or (dates.until and contest > dates.until):
        return f"contest_date {contest} is not from {dates.since or 'the start'} to {dates.until or 'the end'}"
    return None


KEYS = ("question_content", "question_id", "contest_date", *TESTS)
LIVECODEBENCH = Form(
    KEYS,
    _livecodebench,
    "{prompt}\n\nThink first. Then answer with the whole code in one block: ```python ... ```",
    _outside,
)
"""The format of livecodebench/code_generation_lite."""
