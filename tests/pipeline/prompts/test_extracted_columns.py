"""What is found in columns of text and code."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from prompt_tables import jsonl, refused, take
from pydantic import ValidationError

from fusechat.pipeline.prompts.columns import Values, lookup
from fusechat.pipeline.prompts.extracted_columns import assertions, examples, extracted
from fusechat.pipeline.recipe import Extract, PromptTable


def of_row(row: dict[str, object], rule: Extract) -> str | None:
    """The new column of a row."""
    functions = [] if rule.function is None else lookup(row, rule.function).values
    return extracted(rule, lookup(row, rule.column).values, functions)


MARKDOWN = r"""Given an array of integers `nums` and an integer `target`, return _indices of the two numbers_.

**Example 1:**

**Input:** nums = \[2,7,11,15\], target = 9
**Output:** \[0,1\]
**Explanation:** Because nums\[0\] + nums\[1\] == 9, we return \[0, 1\].

**Example 2:**

**Input:** nums = \[3,3\], target = 6
**Output:** \[0,1\]

**Constraints:**

*   `2 <= nums.length <= 104`
"""
HTML = """<p>Given a string <code>s</code>, return <em>its tags</em>.</p>

<p><strong class="example">Example 1:</strong></p>

<pre>
<strong>Input:</strong> s = &quot;&lt;b&gt;a\\nb&quot;, isBig = true
<strong>Output:</strong> [&quot;&lt;b&gt;&quot;, null]
<strong>Explanation:</strong> One tag.
</pre>
"""
TASK = "Do it.\n\n**Input:** {given}\n**Output:** {result}\n"

EXAMPLES: dict[str, tuple[str, str | None]] = {
    "Markdown with escapes": (MARKDOWN, "assert f([2, 7, 11, 15], 9) == [0, 1]\nassert f([3, 3], 6) == [0, 1]"),
    "HTML": (HTML, "assert f('<b>a\\nb', True) == ['<b>', None]"),
    "escaped stars in a text": (
        TASK.format(given=r's = "a\*", p = "\_x"', result="true"),
        "assert f('a*', '_x') == True",
    ),
    "text with commas and equal signs": (TASK.format(given='s = "a,b"', result='"x=1"'), "assert f('a,b') == 'x=1'"),
    "several lines of input": (
        TASK.format(given="a = \\[1\\],\nb = \\[\\[2\\],\n\\[3\\]\\]", result="3"),
        "assert f([1], [[2], [3]]) == 3",
    ),
    "a number with a fraction": (
        TASK.format(given="x = 2.10000, n = 3", result="9.26100"),
        "assert abs(f(2.1, 3) - 9.261) < 1e-05",
    ),
    "the word input before the example": (
        "The Input is a list, the Output a number.\n" + TASK.format(given="a = 1", result="2"),
        "assert f(1) == 2",
    ),
    "the same example twice": (TASK.format(given="a = 1", result="2") * 2, "assert f(1) == 2"),
    "any order": (MARKDOWN.replace("return", "in **any order** return"), None),
    "any of them": ("If there are several, return _any of them_. " + MARKDOWN, None),
    "return any": ("Return **any** such list. " + MARKDOWN, None),
    "a tree": (
        "Given the `root` of a **binary tree**, return its depth. "
        + TASK.format(given="root = \\[3,null\\]", result="2"),
        None,
    ),
    "a linked list": (
        "Given the head of a linked list, " + TASK.format(given="head = \\[1,2\\]", result="\\[2,1\\]"),
        None,
    ),
    "TreeNode in the code": ("class TreeNode: " + TASK.format(given="root = \\[3\\]", result="1"), None),
    "a task in place": (
        "Rotate the array **in-place**. " + TASK.format(given="nums = \\[1,2\\]", result="\\[2,1\\]"),
        None,
    ),
    "an output with the changed list": (TASK.format(given="nums = \\[3,2\\]", result=r"2, nums = \[2,2,\_,\_\]"), None),
    "a design task": (
        '**Input**\n\\["MinStack", "push"\\]\n\\[\\[\\],\\[-2\\]\\]\n**Output**\n\\[null,null\\]\n',
        None,
    ),
    "a design task with colons": (
        TASK.format(given='\\["A", "b"\\]\n\\[\\[\\],\\[1\\]\\]', result="\\[null,1\\]"),
        None,
    ),
    "prose as output": (TASK.format(given="a = 1", result="the first bad version"), None),
    "no example": ("Do it.", None),
    "nothing": ("", None),
}


@pytest.mark.parametrize("case", EXAMPLES)
def test_leetcode_s_examples_become_assertions_where_they_can_be_checked(case: str) -> None:
    task, expected = EXAMPLES[case]
    assert examples(task, "f") == expected


SIZE = 20_000
HOSTILE = {
    "white space behind the input": "Input: x" + " " * SIZE,
    "white space and stars behind the input": "Input:" + " *\n" * (SIZE // 3),
    "inputs without an output": "Input: a = 1\n" * (SIZE // 13),
    "inputs without a colon": "Input   " * (SIZE // 8),
    "outputs without a line": "Input: a = 1\n" + "Output   \n" * (SIZE // 10),
    "white space behind the output": "Input: a = 1 Output:" + "\n" * SIZE,
    "commas in the input": "Input: " + "a ," * (SIZE // 3) + " Output: 1",
    "tags that never end": "<p>" + "<a " * (SIZE // 3),
    "many examples": "Input: a = 1\nOutput: 2\n" * (SIZE // 23),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_examples_take_little_time_whatever_the_text(case: str) -> None:
    started = time.process_time()
    examples(HOSTILE[case], "f")
    assert time.process_time() - started < 5


def test_input_and_output_in_one_line_are_an_example_too() -> None:
    assert examples("**Input** : `a = 1`  ** **Output** : `2`", "f") == "assert f(1) == 2"
    assert examples("Input: x = 1\nInput: y = 2\nOutput: 3", "f") is None
    assert examples("Input:\u00a0a = [1]\u00a0** Output: 2", "f") == "assert f([1]) == 2"


ASSERTIONS: dict[str, tuple[str, str | None]] = {
    "in prose": ("Write f.\n\nassert f(1) == 2\nassert f(2)==3\n", "assert f(1) == 2\nassert f(2)==3"),
    "in backticks": ("Write f, so that `f` passes:\n`assert f(1) == 2`", "assert f(1) == 2"),
    "in a list": ("It passes:\n- assert f(1) == 2\n2. `assert f(2) == 3`\n", "assert f(1) == 2\nassert f(2) == 3"),
    "in a fence": ("It passes:\n```python\nassert f(1) == 2  # yes\n```", "assert f(1) == 2"),
    "in two fences": (
        "```python\nassert f(1) == 2\n```\nas in\n```python\nprint(f(1))\nassert f(2) == 3\n```",
        "assert f(1) == 2\nassert f(2) == 3",
    ),
    "after code in another fence": ("```python\nimport g\n```\nassert f(1)\n", "assert f(1)"),
    "over several lines of code": ("assert f(\n    [1, 2]\n) == 3\n", "assert f([1, 2]) == 3"),
    "in another language": ("```java\nassert f(1) == 2;\n```", None),
    "as a word": ("We assert that f works.\nassert f works", None),
    "none": ("Write f.", None),
}


@pytest.mark.parametrize("case", ASSERTIONS)
def test_assertions_are_found(case: str) -> None:
    text, expected = ASSERTIONS[case]
    assert of_row({"t": text}, Extract(column="t", kind="assertions")) == expected


def test_assertions_of_code_are_those_at_its_top() -> None:
    assert assertions("def f(x):\n    assert x\n    return x\nassert f(1) == 1") == "assert f(1) == 1"


ENTRY_POINTS: dict[str, tuple[str, str | None]] = {
    "one function": ("def f(x): return x", "f"),
    "a helper before": ("def g(x): return x\ndef f(x): return g(x)", "f"),
    "a helper behind": ("def f(x): return g(x)\ndef g(x): return x", "f"),
    "a function that calls itself": ("def f(x): return f(x - 1)", "f"),
    "two that call each other": ("def f(x): return g(x)\ndef g(x): return f(x)", "f"),
    "a class Solution": (
        "class Solution:\n    def twoSum(self, nums): return self.g()\n    def g(self): return 1",
        "twoSum",
    ),
    "a constructor": ("class Solution:\n    def __init__(self): pass\n    def pick(self): return 1", "pick"),
    "a fence": ("Here:\n```python\ndef f(x):\n    return x\n```", "f"),
    "assertions": ("assert f(1) == 2", "f"),
    "assertions with builtins": ("assert sorted(f(1)) == list(g(2))", "f"),
    "main": ("def f(x): return x\ndef main(): print(f(1))", "f"),
    "a test": ("def f(x): return x\ndef test_f(): assert f(1) == 1", "f"),
    "main alone": ("def main(): print(1)", "main"),
    "an async function": ("async def f(x): return x", "f"),
    "code that does not parse": ("def f(:", None),
    "prose": ("Nothing here.", None),
    "code without functions": ("x = 1", None),
}


@pytest.mark.parametrize("case", ENTRY_POINTS)
def test_the_entry_point_of_code_is_found(case: str) -> None:
    code, expected = ENTRY_POINTS[case]
    assert of_row({"c": code}, Extract(column="c", kind="entry_point")) == expected


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("def f(a: int, b=2) -> str:\n    return a", "def f(a: int, b=2) -> str:"),
        (
            "class Solution:\n    @cache\n    def go(self, nums: List[int]) -> int:\n        return 1",
            "def go(nums: List[int]) -> int:",
        ),
        ("class Solution:\n    def go(self): pass", "def go():"),
        ("async def f(): pass", "async def f():"),
        ("x = 1", None),
    ],
)
def test_the_signature_is_the_function_s_first_line(code: str, expected: str | None) -> None:
    assert of_row({"c": code}, Extract(column="c", kind="signature")) == expected


DEEP = " + ".join(["f(1)"] * 900)


def test_code_that_is_nested_too_deeply_or_holds_a_giant_number_gives_nothing() -> None:
    for expression in (DEEP, f"0x{'f' * 5000}"):
        assert assertions(f"assert {expression}\nassert f(2)") == "assert f(2)"
        code = f"def f(a={expression}): return a"
        assert of_row({"c": code}, Extract(column="c", kind="signature")) is None


def test_code_is_taken_out_of_its_fences() -> None:
    text = "Sure!\n```python\ndef f():\n    return 1\n```\nDone."
    assert str(of_row({"c": text}, Extract(column="c", kind="code"))).strip() == ("def f():\n    return 1")


@pytest.mark.parametrize(
    ("pattern", "expected"), [(r"id (\d+)", "7"), (r"id \d+", "id 7"), (r"(x)?id", None), ("nothing", None)]
)
def test_a_pattern_finds_its_first_group_or_the_whole_match(pattern: str, expected: str | None) -> None:
    assert of_row({"c": "an id 7"}, Extract(column="c", pattern=pattern)) == expected


@pytest.mark.parametrize("value", [None, 7, [], {"a": 1}, ["def f(): pass"], "\0", "(" * 5000, "[" * 5000])
@pytest.mark.parametrize("kind", ["code", "entry_point", "signature", "assertions", "examples"])
def test_a_value_that_is_no_text_or_hostile_gives_nothing(value: object, kind: Any) -> None:
    rule = Extract(column="c", kind=kind, function="n" if kind == "examples" else None)
    found = of_row({"c": value, "n": "f"}, rule)
    assert found is None or kind == "code"


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({"column": "c"}, "give exactly one of kind and pattern"),
        ({"column": "c", "kind": "code", "pattern": "x"}, "give exactly one of kind and pattern"),
        ({"column": "c", "kind": "examples"}, "kind: examples needs function"),
        ({"column": "c", "kind": "code", "function": "n"}, "other kinds do not"),
        ({"column": "c", "pattern": "("}, "not a regular expression"),
    ],
)
def test_a_rule_that_cannot_be_used_is_refused_with_the_recipe(rule: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        PromptTable.model_validate({"path": "p", "columns": {"prompt": "q"}, "extract": {"new": rule}})


# --- in a table

LEETCODE = {
    "extract": {
        "name": {"column": "python", "kind": "entry_point"},
        "signature": {"column": "python", "kind": "signature"},
        "tests": {"column": "content", "kind": "examples", "function": "name"},
    },
    "where": {"tests": {"min_chars": 1}},
    "columns": {"prompt": "{content}\n\n{signature}", "tests": "tests", "entry_point": "name"},
    "domain": "code",
    "id": "generated",
}
PYTHON = "```python\ndef twoSum(nums, target):\n    return []\n```\nIt loops."


def test_a_table_of_tasks_becomes_code_prompts_with_tests(tmp_path: Path) -> None:
    rows = [{"content": MARKDOWN, "python": PYTHON}, {"content": "No example.", "python": PYTHON}]
    taken = take(tmp_path, {"path": jsonl(tmp_path, rows), **LEETCODE})
    (prompt,) = taken.prompts
    assert prompt["entry_point"] == "twoSum"
    assert prompt["tests"].startswith("assert twoSum([2, 7, 11, 15], 9) == [0, 1]")
    assert prompt["messages"][0]["content"].endswith("def twoSum(nums, target):")
    assert taken.left_out == {"where.tests": 1}


def test_a_column_that_nothing_can_be_extracted_from_is_named(tmp_path: Path) -> None:
    name = jsonl(tmp_path, [{"content": MARKDOWN, "code": PYTHON}])
    line = refused(tmp_path, {"path": name, **LEETCODE})
    assert line == "p.jsonl: no row has 'python' (extract.name.column); the first row has code, content"


def test_a_missing_column_is_named_though_the_new_one_has_its_name(tmp_path: Path) -> None:
    name = jsonl(tmp_path, [{"q": "A?"}])
    entry = {"columns": {"prompt": "q"}, "extract": {"code": {"column": "code", "kind": "code"}}}
    line = refused(tmp_path, {"path": name, "id": "generated", "domain": "instruction", **entry})
    assert line == "p.jsonl: no row has 'code' (extract.code.column); the first row has q"


def test_each_column_of_an_extract_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(row: Mapping[str, object], column: str) -> Values:
        asked.append(column)
        return lookup(row, column)

    monkeypatch.setattr("fusechat.pipeline.prompts.table_rows.lookup", counted)
    rows = [{"content": MARKDOWN, "python": PYTHON}]
    assert len(take(tmp_path, {"path": jsonl(tmp_path, rows), **LEETCODE}).prompts) == 1
    assert sorted(asked) == sorted(
        ["python", "python", "content", "name", "tests", "{content}\n\n{signature}", "tests", "name"]
    )
