"""OpenMathInstruct-2, leetcode and self-oss-instruct: easy exercises of mathematics and programming, with solutions."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .files import Row, write_card, write_jsonl, write_parquet
from .schemas import OPEN_MATH, SELF_OSS
from .tasks import example_text, problem, program, solution


def write_open_math(folder: Path, rows: int) -> None:
    """Four solutions a problem, not in a row. The third of every other problem is wrong."""
    sources = ["gsm8k", "math", "augmented_gsm8k", "augmented_math"]
    num_problems = -(-rows // 4)

    def row(index: int) -> Row:
        style, number = divmod(index, num_problems)
        task = problem(number)
        return {
            "problem": task.text,
            "generated_solution": solution(task, style, wrong=style == 2 and number % 2 == 0),
            "expected_answer": str(task.answer),
            "problem_source": sources[number % 4],
        }

    every = [row(index) for index in range(rows + 14)]
    more = {"train": (14, 32), "train_1M": (0, 3), "train_2M": (2, 5), "train_5M": (5, 15)}
    splits = {split: (every[: rows + extra], shards) for split, (extra, shards) in more.items()}
    write_parquet(folder, splits, OPEN_MATH)


def write_leetcode(folder: Path, rows: int) -> None:
    """Of ten solutions three are methods of a class. The last problem of twenty asks for a class of its own."""

    def row(index: int) -> Row:
        task = program(index)
        title = " ".join(word.title() for word in task.words)
        asks = f"Write a function that {task.does}."
        if index % 20 == 19:
            title, asks = f"Design Counter {index}", f"Design a class `Counter{index}` with a method `add(x)`."
        content = f"{asks}\n\n{example_text(task)}\n\n**Constraints:**\n\n*   Inputs are small."
        code = {
            "java": "class Solution {}",
            "c++": "class Solution {};",
            "python": task.source(task.camel, method=index % 10 in (1, 5, 8)),
            "javascript": f"function {task.camel}({', '.join(task.params)}) {{}}",
        }
        fenced = {
            lang: f"\n    ```{lang}\n{text}\n```\n    \n    The code follows the text." for lang, text in code.items()
        }
        slug = title.lower().replace(" ", "-")
        difficulty = ["Easy", "Medium", "Hard"][index % 3]
        return {"id": index + 1, "slug": slug, "title": title, "difficulty": difficulty, "content": content, **fenced}

    write_jsonl(folder / "leetcode-train.jsonl", map(row, range(rows)))
    write_card(folder, {"license": "mit"})


def write_self_oss(folder: Path, rows: int) -> None:
    """Of four instructions two end with tests, one asks for tests, which its response has, and one has none."""

    def row(index: int) -> Row:
        task = program(index)
        num = 1 + index % 2
        tests = [
            f"Your code should pass the following assertion{'s' * (num > 1)}:\n{_fence(task.asserts(task.snake, num))}"
        ]
        asks_tests = index % 4 == 2
        instruction = f"Write a Python function `{task.snake}` that {task.does}."
        response = [f"Here is the function:\n\n{_fence(task.source(task.snake))}"]
        if asks_tests:
            instruction += " Include a few test cases."
            response.append(f"These tests show it:\n\n{_fence(task.asserts(task.snake, 3))}")
        return {
            "fingerprint": None,
            "sha1": hashlib.sha1(task.snake.encode()).hexdigest(),
            "seed": task.source(f"old_{task.snake}"),
            "response": "\n\n".join(response),
            "concepts": ["function definition", "arithmetic"],
            "prompt": f"### System: I->R\n\n### Example 2\n[Instruction]\n{instruction}\n\n[Response]\n",
            "instruction": "\n\n".join([instruction, *(tests if index % 4 < 2 else [])]),
            "id": 1000 + index,
        }

    write_parquet(folder, {"train": ([row(index) for index in range(rows)], 1)}, SELF_OSS)


def _fence(code: str) -> str:
    return f"```python\n{code}\n```"
