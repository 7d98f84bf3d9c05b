"""Extraction: from a response to its final answer, and to its code."""

from __future__ import annotations

import time

import pytest

from fusechat.pipeline.verify import extract_answer, extract_code
from fusechat.pipeline.verify.math import check

REPEATED = [
    " ", "\n", ",", "$", "*", "#", "(", "{", "\\", "^", "1", "1,", "a", "a ", "answer ", "answer is", "answer: ",
    "if ", "is ", "$$", "(A) is ", "option (A) is ", r"\text{", r"\text{a}", r"\boxed{1} and ", "<answer>1",
    "wait ", "it is 1 ", "should be 1", "答案是", "选", "一", r"\frac{1}{", "⅛", "²", "or ", "1=", r"\cup ", "- x\n",
    r"\color{", r"\mathbf{", "i.e. ", " (", r"\{", "approx. ",
]  # fmt: skip
MAX_CPU_S = 5.0
"""CPU time that no text of 20,000 characters takes if all patterns are linear: they take 0.1 s."""


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


@pytest.mark.parametrize("unit", REPEATED)
def test_the_time_is_linear_in_the_length(unit: str) -> None:
    many = unit * (20_000 // len(unit))
    began = time.process_time()
    for response in (
        many,
        f"5{many[:400]}5",
        f"The answer is {many}",
        rf"\boxed{{{many}}}",
        rf"\boxed{{1}} {many}",
        f"Answer {many}: 5",
    ):
        assert not check(response, "3")[0]
    assert time.process_time() - began < MAX_CPU_S


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


HELPER = "def helper(x):\n    return x"
MAIN = "def f(x):\n    return helper(x)"


def fenced(*blocks: str, language: str = "python") -> str:
    return "\n\ntext\n\n".join(f"```{language}\n{block}\n```" for block in blocks)


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (fenced(HELPER, MAIN), f"{HELPER}\n{MAIN}"),
        (fenced(MAIN, HELPER), f"{HELPER}\n{MAIN}"),
        (fenced("def f(x):\n    return 0", MAIN), MAIN),
        (fenced("import math\nLIMIT = 3\nprint(LIMIT)\ncache = dict()", MAIN), f"import math\nLIMIT = 3\n{MAIN}"),
        (fenced("from __future__ import annotations", MAIN), f"from __future__ import annotations\n{MAIN}"),
        (
            fenced(HELPER, f"from __future__ import annotations\n{MAIN}"),
            f"from __future__ import annotations\n{HELPER}\n{MAIN}",
        ),
        (fenced(MAIN, "assert f(1) == 1\nprint(f(2))"), MAIN),
        (
            fenced("VOWELS = set('aeiou')", "def f(x):\n    return x in VOWELS"),
            "VOWELS = set('aeiou')\ndef f(x):\n    return x in VOWELS",
        ),
        (
            fenced("result = set()", "def f(x):\n    result = x\n    return result"),
            "def f(x):\n    result = x\n    return result",
        ),
        (fenced(MAIN, "from solution import f\nimport no_such_package\nprint(f(1))"), MAIN),
        (fenced(MAIN, "import flask\napp = flask.Flask()\n@app.route('/')\ndef g():\n    return f(1)"), MAIN),
        (fenced(MAIN, "def helper(x):\n    return x"), f"def helper(x):\n    return x\n{MAIN}"),
        (fenced(MAIN, language="Python3"), MAIN),
        (fenced(MAIN, language='python title="f.py"'), MAIN),
        ("1. Write:\n\n   ```python\n   def f(x):\n       return x\n   ```\n\n2. Call it.", "def f(x):\n    return x"),
        ("- Write:\n  ~~~py\n  def f(x):\n      return x\n  ~~~\n", "def f(x):\n    return x"),
        (f"> ```python\n{MAIN}\n> ```", MAIN),
        (f"{MAIN}\n```\n\nThis f works.", MAIN),
        (f"Here it is: ```python\n{MAIN}\n```", MAIN),
        (f"The code:\n\nMOD = 7\n\n{MAIN}\n\nDone.", f"MOD = 7\n\n{MAIN}"),
        ("<think>```python\ndef f(x): return 0\n```</think>" + fenced(MAIN), MAIN),
        (
            fenced("try:\n    from a import f\nexcept ImportError:\n    f = None"),
            "try:\n    from a import f\nexcept ImportError:\n    f = None",
        ),
        (fenced("def f(x) return", language="python"), "def f(x) return"),
        ("No code here.", None),
        ("```java\nint f() {}\n```", None),
    ],
)
def test_the_code_of_a_response(response: str, code: str | None) -> None:
    found = extract_code(response, "f")
    assert (found.strip() if found else found) == code


@pytest.mark.parametrize("text", [" " * 200_000, "```" * 50_000, "\n".join(["x = 5 apples"] * 20_000), "`" * 100_000])
def test_long_texts_without_code_take_little_time(text: str) -> None:
    assert extract_code(text, "f") is None or text.startswith("`")
