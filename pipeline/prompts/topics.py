"""Recognizes prompts about code and mathematics by their words, formulas and code blocks. No I/O."""

from __future__ import annotations

import re
from typing import Final

from ..recipe import Topic

_CODE_LANGUAGES = (
    r"python|java|javascript|typescript|c\+\+|c#|golang|rust|kotlin|php|perl|matlab|sql|mysql|postgresql|html5?|css3?|"
    r"bash|powershell|django|flask|numpy|pandas|node\.?js|react(?:\.?js)?|vue(?:\.?js)?|jquery|regex|json|xml|yaml|"
    r"verilog|fortran|haskell|scala|solidity|arduino|leetcode|github"
)
_CODE_WORDS = (
    r"source code|pseudo-?code|code snippet|coding|codebase|programming|compiler|debug(?:ging)?|refactor|unit tests?|"
    r"stack ?trace|time complexity|linked list|binary tree|hash ?map|for loop|while loop|recursive function|"
    r"regular expressions?|data structures?|web ?scrap(?:er|ing)|(?:rest|web) apis?|algorithms?"
)
_CODE_TASK = (
    r"(?:write|create|implement|develop|build|fix|design|generate|make)\b[^.?!\n]{0,60}"
    r"\b(?:code|functions?|programs?|scripts?|classes|class|quer(?:y|ies)|algorithms?|api|app(?:lication)?|method)"
)
_CODE_CHINESE = r"代码|编程|编写.{0,12}(?:函数|程序|脚本)|算法|数据库|调试"
_CODE: Final = re.compile(
    rf"```|\b(?:def|class) \w+\s*[(:]|#include\s*<|\bSELECT\b.+\bFROM\b|(?<![\w.])(?i:{_CODE_LANGUAGES})(?![\w+#])|"
    rf"(?i:\b(?:{_CODE_WORDS})\b)|(?i:\b{_CODE_TASK}\b)|{_CODE_CHINESE}"
)

_MATH_WORDS = (
    r"equations?|inequalit(?:y|ies)|polynomials?|quadratic|integrals?|derivatives? of|integrate|differentiate|"
    r"trigonometr\w*|geometr(?:y|ic)|algebra(?:ic)?|calculus|arithmetic|theorems?|logarithms?|matri(?:x|ces)|"
    r"eigenvalues?|probability (?:of|that)|permutations?|prime numbers?|perimeter|hypotenuse|circumference|"
    r"square root|least common multiple|greatest common divisor|how many (?:more|fewer|total)|"
    r"math(?:s|ematics|ematical)?"
)
_MATH_TASK = (
    r"(?:calculate|compute|solve (?:for|the)|simplify|evaluate|prove that|find the (?:value|sum|product|area|volume))"
)
_MATH_CHINESE = r"方程|不等式|数学|几何|概率|求解|计算.{0,12}(?:值|和|积|面积|体积|多少)|平方根|导数|积分"
_MATH: Final = re.compile(
    rf"\\(?:frac|sqrt|sum|int|cdot|times|left|begin)\b|\$[^$\n]{{1,80}}[=^_\\][^$\n]*\$|"
    rf"\d\s*[-+*/×÷^]\s*\d+\s*=|\b[xyn]\s*[-+*/^]\s*\d|\b\d+[xyn]\b|"
    rf"(?i:\b(?:{_MATH_WORDS})\b)|(?i:\b{_MATH_TASK}\b)|{_MATH_CHINESE}"
)
_PATTERNS: dict[Topic, re.Pattern[str]] = {"code": _CODE, "math": _MATH}


def is_about(text: str, topic: Topic) -> bool:
    """Whether a prompt is about a topic. Errs on the side of the topic: a word such as `algorithm` is enough."""
    return _PATTERNS[topic].search(text) is not None
