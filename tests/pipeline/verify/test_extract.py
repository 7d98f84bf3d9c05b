"""Extraction: from a response to its final answer, and to its code."""

from __future__ import annotations

import pytest

from fusechat.pipeline.verify import extract_answer, extract_code


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("The answer is 5.", "5"),
        ("the Answer is: 5", "5"),
        ("So 3 + 4 = 7.\nThe answer is 7.\n", "7"),
        ("The answer is 1,234 dollars.", "1,234"),
        ("The answer is $15.50.", "15.50"),
        ("The answer is **42**.", "42"),
        ("The answer is -3.", "-3"),
        ("#### 72", "72"),
        (r"\boxed{5} Wait... \boxed{4}", "4"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\fbox{5}", "5"),
        ("<answer>5</answer>", "5"),
        (r"Thus \boxed{1\,234}", "1234"),
        ("答案是5。", "5"),
        ("答案为4个", "4"),
        ("答案为４个", "4"),
        ("The answer is (A)", "A"),
        ("The answer is 1e6.", "1e6"),
        ("The answer is 3. No, the answer is 4.", "4"),
        ("no final line", None),
        ("The answer is", None),
        ("", None),
    ],
)
def test_final_answer(response: str, answer: str | None) -> None:
    assert extract_answer(response) == answer


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("```python\ndef f(x):\n    return x\n```", "def f(x):\n    return x\n"),
        ("Here:\n```\ndef f(x): return x\n```\nDone.", "def f(x): return x\n"),
        ("def f(x): return x", "def f(x): return x"),
        ("```python\ndef f(x): return 1\n```\nand\n```python\ndef f(x): return 2\n```", "def f(x): return 2\n"),
        ("```python\ndef f(x): return 1\n```\nuse it:\n```python\nprint(f(1))\n```", "def f(x): return 1\n"),
        ("```python\ndef f(x):\n    return x", "def f(x):\n    return x"),
        ("```bash\nls\n```", None),
        ("I can't write that.", None),
    ],
)
def test_code_block(response: str, code: str | None) -> None:
    assert extract_code(response, "f") == code
