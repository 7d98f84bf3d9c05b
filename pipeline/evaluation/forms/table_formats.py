"""Whether an answer is a certain table in a certain format (LiveBench's task tablereformat).

Formats are read as the benchmark's authors read them, by pandas, from texts alone: a path or an address in an answer is
never opened.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from html.parser import HTMLParser
from io import StringIO
from math import isnan
from numbers import Real
from typing import TYPE_CHECKING

from ...verify.code.blocks import fenced_blocks
from .marked import tagged

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("json", "jsonl", "csv", "tsv", "markdown", "html")
MAX_CELLS = 200_000
"""Cells, by a bound from above, of a table that is read."""
MAX_TRIES = 50
"""Last lines that are taken off a text until the rest is a table."""
TOLERANCE = 1e-6
SEPARATOR = re.compile(r"[\s|:-]+")
"""The line below the head of a table in Markdown."""
PHRASE = re.compile(r"\A\s*(?:Here|Input)\b[^\n]{0,500}?\b(?:format|table)\s*[:)]\s*", re.IGNORECASE)


def target_format(question: str) -> str:
    """The format that a question asks for.

    Raises:
        ValueError: the question names none of `FORMATS`.
    """
    match = re.search(r"Please convert the Input Table from \w+ format to (\w+) format", question)
    if match is None or match[1].lower() not in FORMATS:
        raise ValueError(f"the question asks for none of the formats {', '.join(FORMATS)}")
    return match[1].lower()


def read_table(kind: str, text: str) -> pd.DataFrame:
    """A text as a table.

    Raises:
        ValueError: it is none.
    """
    try:
        table = READERS[kind](text)
    except Exception as error:  # noqa: BLE001  # pandas raises many kinds
        raise ValueError(f"no table in the format {kind}: {type(error).__name__}") from None
    table.columns = [str(name).strip() for name in table.columns]
    return table.drop(columns="index", errors="ignore")


def is_table(kind: str, gold: str, answer: str) -> float:
    """1 if the answer's last solution tag or fenced block, or all of it, is the gold's table, else 0.

    Columns may be in another order, rows may not. Numbers may differ by `TOLERANCE`, texts by white space around them.
    """
    wanted = read_table(kind, gold)
    return float(any(_equal(found, wanted) for found in _candidates(kind, answer, wanted)))


def _candidates(kind: str, answer: str, wanted: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """The tables that an answer may mean: its text as a whole, and the part that other text may be around."""
    answer = tagged(answer, "solution") or answer
    fenced = fenced_blocks(answer) if "```" in answer or "~~~" in answer else []
    text = PHRASE.sub("", fenced[-1][1] if fenced else answer, count=1).replace("&amp;", "&").strip()
    for parts in ([text], _parts(kind, text, list(wanted.columns))):
        for part in parts:
            try:
                yield read_table(kind, part)
            except ValueError:
                continue
            break


def _parts(kind: str, text: str, names: list[str]) -> Iterator[str]:
    """The parts of a text of which the first that can be read is the table."""
    lines = text.split("\n")
    if kind == "jsonl":
        yield "\n".join(line for line in lines if line.startswith("{") and line.endswith("}"))
    elif kind in ("csv", "tsv"):
        head = ("," if kind == "csv" else "\t").join(names)
        start = next((i for i, line in enumerate(lines) if line.strip() == head.strip()), None)
        if start is not None:
            ends = range(len(lines), max(start + 1, len(lines) - MAX_TRIES), -1)
            yield from ("\n".join(lines[start:end]) for end in ends)


def _equal(found: pd.DataFrame, wanted: pd.DataFrame) -> bool:
    if len(found) != len(wanted) or sorted(found.columns) != sorted(wanted.columns) or not wanted.columns.is_unique:
        return False
    return all(_same(a, b) for name in wanted for a, b in zip(found[name], wanted[name], strict=True))


def _same(a: object, b: object) -> bool:
    if isinstance(a, Real) and isinstance(b, Real):
        try:
            x, y = float(a), float(b)
        except OverflowError:  # a whole number of more than 308 digits
            return a == b
        return (isnan(x) and isnan(y)) or x == y or abs(x - y) < TOLERANCE
    if isinstance(a, str) and isinstance(b, str):
        return a.strip() == b.strip()
    return type(a) is type(b) and a == b


# --- the formats


def _separated(text: str, separator: str) -> pd.DataFrame:
    import pandas as pd

    lines = text.split("\n")
    if len(lines) * (max(line.count(separator) for line in lines) + 1) > MAX_CELLS:
        raise ValueError("too many cells")
    return pd.read_csv(StringIO(text), sep=separator)


def _json(text: str) -> pd.DataFrame:
    """Rows by their names, a list of rows, or a row a line."""
    try:
        found = json.loads(text)
    except ValueError:
        return _json_lines(text)
    return _rows(list(found.values()) if isinstance(found, dict) else found)


def _json_lines(text: str) -> pd.DataFrame:
    return _rows([json.loads(line) for line in text.splitlines() if line.strip()])


def _rows(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Rows as a table. A column of texts that are all numbers is one of numbers, as pandas reads JSON."""
    import pandas as pd

    names = {name for row in rows for name in row.keys()}  # noqa: SIM118  # what is no object fails here
    if len(rows) * len(names) > MAX_CELLS:
        raise ValueError("too many cells")
    table = pd.DataFrame(rows)
    for name in table:
        if not pd.api.types.is_numeric_dtype(table[name]):
            with suppress(ValueError, TypeError, OverflowError):
                table[name] = table[name].astype("float64")
    return table


def _markdown(text: str) -> pd.DataFrame:
    """All columns but the first, which holds the rows' names. Cells are texts."""
    import pandas as pd

    lines = [line.strip() for line in text.strip().split("\n")]
    if len(lines) < 2 or not SEPARATOR.fullmatch(lines[1]):
        raise ValueError("no line below the head")
    head, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in (lines[0], *lines[2:]))
    if not all(len(row) == len(head) for row in rows):
        raise ValueError("rows of different lengths")
    return pd.DataFrame([row[1:] for row in rows], columns=head[1:], dtype=object)


class _Tables(HTMLParser):
    """The rows of each table of a text in HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self._is_open = self._in_cell = False
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "table":
            if self._is_open:
                raise ValueError("a table in a table")
            self._is_open = True
            self.tables.append([])
        elif tag in ("script", "style"):
            self._hidden += 1
        elif self._is_open and tag == "tr":
            self.tables[-1].append([])
            self._in_cell = False
        elif self._is_open and tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self._in_cell = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("td", "th", "tr", "table"):
            self._in_cell = False
            self._is_open = self._is_open and tag != "table"
        elif tag in ("script", "style"):
            self._hidden = max(0, self._hidden - 1)

    def handle_data(self, data: str) -> None:
        if self._in_cell and not self._hidden:
            self.tables[-1][-1][-1] += data


def _html(text: str) -> pd.DataFrame:
    """All tables of a text, one below the other."""
    import pandas as pd

    parser = _Tables()
    parser.feed(text)
    parser.close()
    tables = []
    for rows in parser.tables:
        lines = StringIO()
        csv.writer(lines).writerows([" ".join(cell.split()) for cell in row] for row in rows if row)
        tables.append(_separated(lines.getvalue(), ","))
    return pd.concat(tables)


READERS: dict[str, Callable[[str], pd.DataFrame]] = {
    "json": _json,
    "jsonl": _json_lines,
    "csv": lambda text: _separated(text, ","),
    "tsv": lambda text: _separated(text, "\t"),
    "markdown": _markdown,
    "html": _html,
}
