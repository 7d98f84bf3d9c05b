"""Tables as answers: what is around them, what differs, and what is hostile."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from published_suites import TABLES

from fusechat.pipeline.evaluation.forms import rules
from fusechat.pipeline.evaluation.partial_solutions import whole

CSV = TABLES["CSV"].format(3)
LINES = TABLES["JSONL"].format(3)
HTML = TABLES["HTML"].format(3)
MARKDOWN = TABLES["Markdown"].format(3)


def ranked(digits: str) -> str:
    """A table in JSON with a whole number, which no float may be able to hold."""
    return TABLES["JSON"].format(3).replace('"Rank":1', f'"Rank":{digits}')


@pytest.mark.parametrize(
    ("kind", "gold", "answer", "score"),
    [
        ("csv", CSV, f"Here is the table in CSV format:\n{CSV}", 1),
        ("csv", CSV, f"Sure.\n\n```csv\n{CSV}```\nI hope, this, helps, you.", 1),
        ("csv", CSV, f"<solution>{CSV}</solution>", 1),
        ("csv", CSV, f"So:\n{CSV}And that, in the end, is, it.", 1),
        ("csv", CSV, "Rank,Price,Name\n1,3.5,\" a, b\"\n2,,c", 1),
        ("csv", CSV, CSV.replace("3.50", "3.5000001"), 1),
        ("csv", CSV, CSV.replace("3.50", "3.51"), 0),
        ("csv", CSV, CSV.replace("\nc", "\nC"), 0),
        ("csv", CSV, CSV.replace("Rank", "rank"), 0),
        ("csv", CSV, "Name,Price,Rank\nc,,2\n\"a, b\",3.50,1", 0),
        ("csv", CSV, f"{CSV}{CSV}", 0),
        ("csv", CSV, LINES, 0),
        ("csv", CSV, "", 0),
        ("jsonl", LINES, f"Sure:\n{LINES}\nDone.", 1),
        ("jsonl", LINES, "[" * 9000, 0),
        ("json", TABLES["JSON"].format(3), f"[{LINES.strip().replace(chr(10), ',')}]", 1),
        ("json", TABLES["JSON"].format(3), '{"a": 1}', 0),
        ("json", TABLES["JSON"].format(3), "null", 0),
        ("json", TABLES["JSON"].format(3), ranked("9" * 400), 0),
        ("json", ranked("9" * 400), ranked("9" * 400), 1),
        ("json", ranked("9" * 400), ranked("9" * 399 + "8"), 0),
        ("tsv", TABLES["TSV"].format(3), CSV, 0),
        ("markdown", MARKDOWN, MARKDOWN.replace("a, b   ", "a, b"), 1),
        ("markdown", MARKDOWN, MARKDOWN.replace("a, b", "a | b"), 0),
        ("html", HTML, HTML.replace("<td>c", "<td><script>alert(1)</script> c "), 1),
        ("html", HTML, HTML + HTML, 0),
        ("html", HTML, HTML.replace("<td>c", "<td><table><tr><td>c"), 0),
        ("html", HTML, HTML.replace("</thead>", "<td>"), 0),
    ],
)  # fmt: skip
def test_a_table_is_found_and_compared(kind: str, gold: str, answer: str, score: float) -> None:
    assert rules.score(f"table_{kind}", gold, answer) == score


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "tsv", "markdown", "html"])
def test_a_path_or_an_address_is_no_table(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    gold = next(text for name, text in TABLES.items() if name.lower() == kind).format(3)
    path = tmp_path / f"table.{kind}"
    path.write_text(gold, "utf-8")
    monkeypatch.setattr("urllib.request.urlopen", lambda *_a, **_k: pytest.fail("the address was fetched"))
    for answer in (str(path), path.as_uri(), "http://127.0.0.1:9/table.csv"):
        assert rules.score(f"table_{kind}", gold, answer) == 0


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("csv", "Name,Price,Rank\n" + '"\n' * 9000),
        ("csv", "," * 9000 + "\n" * 9000),
        ("jsonl", "\n".join(f'{{"{i}":1}}' for i in range(2000))),
        ("html", "<table><tr>" * 1800),
        ("html", "<" * 20_000),
        ("markdown", "|" * 9000 + "\n" + "|-" * 5000),
        ("csv", "Here is " * 2000),
    ],
)
def test_hostile_tables_are_wrong_and_cost_little_time(kind: str, answer: str) -> None:
    gold = next(text for name, text in TABLES.items() if name.lower() == kind).format(3)
    start = time.process_time()
    assert rules.score(f"table_{kind}", gold, answer) == 0
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    ("response", "program"),
    [
        ("    return 1", "```python\ndef f():\n    return 1\n```"),
        ("<think>```\nx\n```</think>So:\n```python\n    return 1\n```", "```python\ndef f():\n    return 1\n\n```"),
        ("```python\ndef f():\n    return 1\n```", None),
        ("", None),
    ],
)
def test_a_program_is_joined_unless_the_answer_repeats_its_beginning(response: str, program: str | None) -> None:
    assert whole("def f():", response) == (response if program is None else program)
