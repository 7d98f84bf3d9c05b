"""Rows of public benchmark sets in their published formats, made up here, each with a right and a wrong answer."""

from __future__ import annotations

import base64
import json
import pickle
import zlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple

Row = dict[str, Any]


class Case(NamedTuple):
    """A row, an answer that is right, and one that is wrong."""

    row: Row
    right: str
    wrong: str


def gsm8k(i: int) -> Case:
    row = {
        "question": f"Ann has {i} boxes of 1,000 pins each and finds {i} more pins. How many pins has she?",
        "answer": f"Boxes: {i}*1000=<<{i}*1000={i * 1000}>>{i * 1000}.\nWith the rest: {i * 1001}.\n#### {i * 1001:,}",
    }
    return Case(row, f"So she has $\\boxed{{{i * 1001}}}$.", f"So she has $\\boxed{{{i * 1000}}}$.")


def math(i: int) -> Case:
    row = {
        "problem": f"Compute $\\frac{{1}}{{{i}}}+\\frac{{1}}{{{i}}}$.",
        "level": "Level 2",
        "type": "Algebra",
        "solution": f"The sum is $\\boxed{{\\frac{{2}}{{{i}}}}}$.",
    }
    return Case(row, f"It is \\boxed{{2/{i}}}.", f"It is \\boxed{{1/{i}}}.")


def amc23(i: int) -> Case:
    row = {"id": i, "question": f"What is ${i} \\cdot 9$?", "answer": f"{9 * i}.0", "url": "https://example.org"}
    return Case(row, f"\\boxed{{{9 * i}}}", f"\\boxed{{{9 * i + 1}}}")


def aime25(i: int) -> Case:
    row = {"problem": f"Find ${i}+100$.", "answer": f"{i + 100}", "id": f"{i}"}
    return Case(row, f"\\boxed{{{i + 100}}}", f"\\boxed{{{i}}}")


def humaneval(i: int) -> Case:
    row = {
        "task_id": f"HumanEval/{i}",
        "prompt": f'from typing import List\n\n\ndef add_{i}(xs: List[int]) -> int:\n    """Sum of xs and {i}."""\n',
        "canonical_solution": f"    return sum(xs) + {i}\n",
        "test": f"METADATA = {{}}\n\n\ndef check(candidate):\n    assert candidate([1, 2]) == {3 + i}\n",
        "entry_point": f"add_{i}",
    }
    return Case(row, f"```python\ndef add_{i}(xs):\n    return sum(xs) + {i}\n```", "```python\npass\n```")


def mbpp(i: int) -> Case:
    row = {
        "task_id": i,
        "text": f"Write a function to multiply a number by {i}.",
        "code": f"def times_{i}(x):\n  return x * {i}",
        "test_list": [f"assert times_{i}(2) == {2 * i}", f"assert times_{i}(5) == {5 * i}"],
        "test_setup_code": "",
        "challenge_test_list": [],
    }
    return Case(row, f"```python\n{row['code']}\n```", f"```python\ndef times_{i}(x):\n  return 2 * {i}\n```")


def packed(text: object) -> str:
    """Private tests as LiveCodeBench packs them."""
    return base64.b64encode(zlib.compress(pickle.dumps(text))).decode()


def livecodebench(i: int) -> Case:
    """A program for even numbers, a method for odd ones; a third of the private tests are packed."""
    functional = bool(i % 2)
    kind = "functional" if functional else "stdin"
    cases = [
        {"input": f"[1, 2]\n{n}" if functional else f"{n} 3\n", "output": str(n + 3), "testtype": kind}
        for n in (i, i + 7)
    ]
    private = json.dumps(cases[1:])
    head = "class Solution:\n    def addTo(self, xs: List[int], n: int) -> int:\n        "
    row = {
        "question_title": f"Sum {i}",
        "question_content": f"Problem {i}: add the numbers.",
        "platform": "leetcode" if functional else "atcoder",
        "question_id": f"abc{i}",
        "contest_id": "abc",
        "contest_date": f"2024-{8 + i % 4:02}-{1 + i % 28:02}T00:00:00",
        "starter_code": head if functional else "",
        "difficulty": "easy",
        "public_test_cases": json.dumps(cases[:1]),
        "private_test_cases": packed(private) if i % 3 == 0 else private,
        "metadata": json.dumps({"func_name": "addTo"} if functional else {}),
    }
    right = f"{head}return sum(xs) + n" if functional else "print(sum(map(int, input().split())))"
    wrong = f"{head}return {i + 3}" if functional else f"print({i + 3})"  # right for the public test alone
    return Case(row, f"Add them.\n```python\n{right}\n```", f"```python\n{wrong}\n```")


def mmlu_pro(i: int) -> Case:
    letter = "ABCDEFGHIJ"[i % 10]
    row = {
        "question_id": i,
        "question": f"Which one is number {i}?",
        "options": [f"number {i}" if c == letter else f"not {c.lower()}" for c in "ABCDEFGHIJ"],
        "answer": letter,
        "answer_index": i % 10,
        "cot_content": "",
        "category": "math",
        "src": "ori_mmlu-x",
    }
    return Case(row, f"I see. The answer is ({letter}).", f"The answer is ({'B' if letter == 'A' else 'A'}).")


def mmlu_redux(i: int) -> Case:
    row = {
        "question": f"What is {i} + 1?",
        "choices": [str(i + 1 + (k - i % 4)) for k in range(4)],
        "answer": i % 4,
        "error_type": "ok",
        "source": None,
        "correct_answer": None,
        "potential_reason": None,
    }
    return Case(row, f"The answer is ({'ABCD'[i % 4]})", f"\\boxed{{{'BCDA'[i % 4]}}}")


def gpqa(i: int) -> Case:
    row = {
        "Record ID": f"rec{i}",
        "Question": f"Which isotope has mass {i}?\n",
        "Correct Answer": f" right-{i}",
        "Incorrect Answer 1": f"wrong-{i}-1",
        "Incorrect Answer 2": f"wrong-{i}-2",
        "Incorrect Answer 3": f"wrong-{i}-3",
        "Subdomain": "Physics (general)",
        "High-level domain": "Physics",
    }
    return Case(row, f"right-{i}", f"wrong-{i}-2")  # the letter depends on the order of the options


def ifbench(i: int) -> Case:
    kwargs = {"keyword": f"word{i}", "N": None, "small_n": None}
    row = {
        "key": str(i),
        "prompt": f"Say something. Include the keyword word{i}.",
        "instruction_id_list": ["test:keyword"],
        "kwargs": [kwargs],
    }
    return Case(row, f"Here is word{i}.", "Here is none.")


def _livebench(i: int, category: str, task: str, gold: Any, **more: Any) -> Row:
    question = f"Question {i} of {task}."
    return {
        "question_id": f"{task}-{i}",
        "category": category,
        "ground_truth": gold,
        "turns": [question],
        "task": task,
        "livebench_release_date": datetime(2024, 6, 24),
        "livebench_removal_date": "",
        **more,
    }


def livebench_math(i: int) -> Case:
    if i % 4 == 0:
        row = _livebench(i, "math", "math_comp", "C", subtask="amc_12a")
        return Case(row, "The choice is CCCCC", "At first CCCCC, but it is BBBBB")
    if i % 4 == 1:
        return Case(_livebench(i, "math", "math_comp", "025", subtask="aime_i"), "It is 025", "It is 1025")
    if i % 4 == 2:
        row = _livebench(i, "math", "olympiad", "3,1,2", subtask="imo")
        return Case(row, "Some words.\nAnswer: 3,1,2", "Answer: 9,9,9")
    return Case(_livebench(i, "math", "AMPS_Hard", "$x^2$", subtask="derivatives"), "\\boxed{x^2}", "\\boxed{x^3}")


def livebench_reasoning(i: int) -> Case:
    if i % 3 == 0:
        row = _livebench(i, "reasoning", "web_of_lies_v2", "yes, no, yes")
        return Case(row, "So **yes, no, yes**", "So **no, yes, yes**")
    if i % 3 == 1:
        return Case(_livebench(i, "reasoning", "spatial", "3"), "There are **three** parts", "There are **4**")
    return Case(_livebench(i, "reasoning", "zebra_puzzle", "cricket"), "It is ***cricket***", "It is ***tennis***")


def livebench_language(i: int) -> Case:
    if i % 3 == 0:
        row = _livebench(i, "language", "connections", "a,b,c,d,e,f,g,h")
        return Case(row, "**d, c, b, a, e, f, g, h**", "**a, e, b, f, c, g, d, h**")
    if i % 3 == 1:
        return Case(_livebench(i, "language", "typos", "A clean text."), "A clean text.", "A claen text.")
    row = _livebench(i, "language", "plot_unscrambling", "He wakes. He eats well. He goes to bed.")
    told = "<PLOT_SUMMARY>He wakes. He eats well. He goes to bed.</PLOT_SUMMARY>"
    return Case(row, told, "<PLOT_SUMMARY>.</PLOT_SUMMARY>")


def livebench_data_analysis(i: int) -> Case:
    if i % 2:
        return Case(_livebench(i, "data_analysis", "cta", "Country"), "It is \\boxed{country}", "a city")
    row = _livebench(i, "data_analysis", "tablejoin", "{'a': 'x', 'b': 'y'}")
    return Case(row, "```python\n{'a': 'x', 'b': 'y'}\n```", "{'a': 'y'}")


def livebench_coding(i: int) -> Case:
    other, right, wrong = livecodebench(i)
    tests = {key: other[key] for key in ("public_test_cases", "private_test_cases")}
    code = {"original_json": {"metadata": other["metadata"]}, "partial_solution": "", **tests}
    row = _livebench(i, "coding", "LCB_generation", None, **code)
    del row["ground_truth"]
    return Case(row, right, wrong)


TABLES = {
    "JSON": '{{"14":{{"Name":"a, b","Price":{0}.50,"Rank":1}},"7":{{"Name":"c","Price":null,"Rank":2}}}}',
    "JSONL": '{{"Name":"a, b","Price":{0}.50,"Rank":1}}\n{{"Name":"c","Price":null,"Rank":2}}\n',
    "CSV": 'Name,Price,Rank\n"a, b",{0}.50,1\nc,,2\n',
    "TSV": "Name\tPrice\tRank\na, b\t{0}.50\t1\nc\t\t2\n",
    "Markdown": "|    | Name   |   Price |   Rank |\n|---:|:-----|-----:|:--|\n"
    "| 14 | a, b   | {0}.50 | 1 |\n|  7 | c | nan | 2 |",
    "HTML": '<table border="1" class="dataframe">\n'
    "<thead><tr><th></th><th>Name</th><th>Price</th><th>Rank</th></tr></thead>\n"
    "<tbody><tr><th>14</th><td>a, b</td><td>{0}.50</td><td>1</td></tr>"
    "<tr><th>7</th><td>c</td><td>NaN</td><td>2</td></tr></tbody>\n</table>",
}
"""Format -> a table with a place for a number, as pandas writes it."""


def livebench_tables(i: int) -> Case:
    formats = list(TABLES)
    source, target = formats[(i + 1) % len(formats)], formats[i % len(formats)]
    question = (
        f"Please convert the Input Table from {source} format to {target} format. Please respond only with the table. "
        f"\n Input Table: {TABLES[source].format(i)} \n \n Output:"
    )
    row = _livebench(i, "data_analysis", "tablereformat", TABLES[target].format(i), turns=[question])
    right = TABLES[target].format(i).replace("-----", "---")
    return Case(row, f"```{target.lower()}\n{right}\n```" if i % 2 else right, TABLES[target].format(i + 1))


def livebench_completion(i: int) -> Case:
    """Half of the answers repeat the beginning, the others continue it."""
    row = livebench_coding(i).row
    head = "class Solution:\n    def addTo(self, xs: List[int], n: int) -> int:\n        start = n"
    beginning, right, wrong = (
        (head, "        return sum(xs) + start", f"        return {i + 3}")
        if i % 2
        else ("numbers = map(int, input().split())", "print(sum(numbers))", f"print({i + 3})")
    )
    row |= {"question_id": f"completion-{i}", "task": "coding_completion", "turns": [f"Complete {i}:\n{beginning}"]}
    repeated = f"{beginning}\n" if i // 2 % 2 else ""
    row["partial_solution"] = beginning
    return Case(row, f"```python\n{repeated}{right}\n```", f"```python\n{repeated}{wrong}\n```")


SETS: dict[str, dict[str, Callable[[int], Case]]] = {
    "gsm8k": {"gsm8k": gsm8k},
    "math": {"math": math},
    "amc23": {"amc23": amc23},
    "aime25": {"aime25": aime25},
    "humaneval": {"humaneval": humaneval},
    "mbpp": {"mbpp": mbpp},
    "livecodebench": {"livecodebench": livecodebench},
    "livecodebench_v6": {"livecodebench_v6": livecodebench},
    "mmlu_pro": {"mmlu_pro": mmlu_pro},
    "mmlu_redux": {"mmlu_redux": mmlu_redux},
    "gpqa_diamond": {"gpqa_diamond": gpqa},
    "livebench": {
        "livebench/math": livebench_math,
        "livebench/reasoning": livebench_reasoning,
        "livebench/language": livebench_language,
        "livebench/data_analysis": livebench_data_analysis,
        "livebench/coding": livebench_coding,
        "livebench/coding_completion": livebench_completion,
        "livebench/tablereformat": livebench_tables,
    },
    "ifbench": {"ifbench": ifbench},
}
"""Suite -> file, without its ending -> what makes its rows. They are all verified suites that ship with fusechat."""
