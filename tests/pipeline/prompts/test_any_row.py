"""Any JSON object as a row, and any keys of a table: a prompt, a counted reject, or one line."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prompt_tables import jsonl, take
from pydantic import ValidationError

from fusechat.pipeline.errors import InputError
from fusechat.pipeline.prompts.columns import NoPathError, lookup
from fusechat.pipeline.prompts.turns import split

KEYS = ["a", "b", "role", "content", "from", "value", "text", "type"]
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["user", "gpt", "A?"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), VALUES, max_size=4), min_size=1, max_size=3)
COLUMNS = st.sampled_from(
    [
        "a",
        "b",
        "c[]",
        "a.a",
        "a[0]",
        "b[].content",
        "c[].text",
        "{a}",
        "{a}\n\n{b.a}",
        "d[-1].value",
        "{{{c[]}}}",
        "{d} {{}}",
    ]
)
SCALARS = st.booleans() | st.integers(-3, 3) | st.text(max_size=2)
CONDITIONS = st.fixed_dictionaries(
    {}, optional={"none_of": st.lists(SCALARS, max_size=2), "min": st.integers(-2, 2), "max_chars": st.integers(0, 9)}
)
EXTRACTS = st.fixed_dictionaries({"column": COLUMNS, "kind": st.sampled_from(["code", "entry_point", "assertions"])})
TABLES = st.fixed_dictionaries(
    {
        "columns": st.dictionaries(
            st.sampled_from(["id", "domain", "prompt", "messages", "gold", "tests", "entry_point", "template"]),
            COLUMNS,
            min_size=1,
            max_size=4,
        )
    },
    optional={
        "responses": st.fixed_dictionaries(
            {
                "old": COLUMNS
                | st.fixed_dictionaries({"response": COLUMNS, "scores": st.fixed_dictionaries({"r": COLUMNS})})
            }
        ),
        "response_rows": st.fixed_dictionaries(
            {"source": COLUMNS, "response": COLUMNS, "scores": st.fixed_dictionaries({"r": COLUMNS})}
        ),
        "where": st.dictionaries(COLUMNS, SCALARS | st.lists(SCALARS, min_size=1, max_size=2) | CONDITIONS, max_size=1),
        "extract": st.fixed_dictionaries({"e": EXTRACTS}),
        "turns": st.just({"user": "A", "assistant": "B:"}),
        "domain": st.sampled_from(["auto", "instruction", "math", "code"]),
        "id": st.just("generated"),
        "last_answer": st.just("drop"),
        "sample": st.integers(1, 2),
        "exclude_topics": st.just(["code", "math"]),
        "languages": st.just(["en", "zh"]),
    },
)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(ROWS, TABLES, st.sampled_from(["stop", "reject"]))
def test_a_row_is_a_prompt_or_a_reject_or_ends_with_one_line(
    tmp_path_factory: Any, rows: list[dict[str, Any]], table: dict[str, Any], invalid: str
) -> None:
    folder: Path = tmp_path_factory.mktemp("t")
    (folder / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    good = jsonl(folder, [{"id": "good", "domain": "instruction", "prompt": "Name a colour."}], "good.jsonl")
    try:
        taken = take(folder, good, {"path": "p.jsonl", **table}, imported=["old"], invalid=invalid)
    except InputError as error:
        assert len(str(error).splitlines()) == 1
        return
    except ValidationError:  # the recipe's own check
        return
    counts = taken.tables[1]
    left_out = sum(num for key, num in counts.left_out.items() if not key.startswith("response_rows"))
    assert counts.prompts + counts.merged + counts.rejected.total() + left_out == counts.rows == len(rows)


@given(st.dictionaries(st.text(max_size=3), VALUES, max_size=3), st.text(alphabet="ab.[]{}-01 ", max_size=8))
def test_any_text_as_a_column_finds_something_or_is_no_path(row: dict[str, Any], column: str) -> None:
    try:
        found = lookup(row, column)
    except NoPathError:
        return
    assert found.is_there or not found.values


@given(st.lists(st.sampled_from(["A", "U:", "\n", " ", "x", "U:x", "\nU:", "\nB:"]), max_size=12).map("".join))
def test_no_text_of_a_conversation_is_lost_when_it_is_split(text: str) -> None:
    messages = split(text, {"user": "U:", "assistant": "B:"})
    kept = "".join("".join(message["content"].split()) for message in messages)
    assert kept.count("x") == text.count("x")
    assert all(message["content"].strip() for message in messages)
    assert all(one["role"] != other["role"] for one, other in itertools.pairwise(messages))
