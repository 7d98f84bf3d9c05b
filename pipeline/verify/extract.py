"""From a math response to its final answer: pure functions on text."""

from __future__ import annotations

import re
import unicodedata

MAX_CHARS = 20_000
"""Only so many last characters of a response are read."""

# NFKC would glue these to their neighbours: x² would read x2, and 5½ would read 51/2.
_BEFORE = {
    **{c: f"^{n}" for n, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{c: f"_{n}" for n, c in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    **{c: f" {n}/{d}" for c, n, d in [("½", 1, 2), ("⅓", 1, 3), ("⅔", 2, 3), ("¼", 1, 4), ("¾", 3, 4), ("⅕", 1, 5)]},
    **{c: "-" for c in "−–﹣"},
    **{"×": r"\times ", "·": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ", "∪": r"\cup ", "±": r"\pm "},
    **{"≤": r"\le ", "≥": r"\ge ", "√": r"\sqrt ", "∅": r"\emptyset ", "∈": r"\in ", "°": r"^\circ "},
}
_TRANSLATION = str.maketrans(_BEFORE)
_BOX = re.compile(r"\\f?box(?:ed)?\s*(?:\{|(?=[-+\w]))")
_JOIN = re.compile(r"^[\s$.\\)(]*(?:,|and|or|&|和|或者?|与|、)?[\s$a-z\\)(=]{0,8}$", re.IGNORECASE)
_TAG = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_MARKER = re.compile(
    r"\banswers?[\s*_]*(?:(?:to|in|for|of)\b[^.\n]{0,100}?\s)?"
    r"(?:(?:is|are|was|equals|(?:should|would|must|will)\s+be)\b|[:=]|->|→)"
    r"|^[ \t]*(?:\#+|\*\*)[ \t]*(?:the[ \t]+)?(?:final[ \t]+)?answer[ \t*_]*$"
    r"|\bfinal[ \t]+answer\b"
    r"|(?<!\#)\#{4}(?!\#)(?=[ \t]*\S[^\n]{0,60}$)(?![ \t]*\d+[.)][ \t]+\S)(?![ \t]*(?:step|final|answer)\b)"
    r"|答案[\s*]*(?:应该|应当|应|就)?(?:(?:是|为|等于)\s*:?|[:=])"
    r"|^[ \t]*答[:,]",
    re.IGNORECASE | re.MULTILINE,
)
_END = re.compile(r"\.(?=\s|$)|。|[!?;](?=\s|$)|\n")
_REASON = re.compile(r",?\s+(?:because|since|which|meaning|as (?:we|he|she|it|they)|so)\b.*$|(?:,\s*)?因为.*$", re.I)
_BARE = re.compile(r"[-+$\\()\[\]{}\d.,/^*%= ]{1,60}|\(?[A-J]\)?\.?")


def normal(text: str) -> str:
    """NFKC, with the signs of mathematics as LaTeX: full-width digits become digits."""
    return unicodedata.normalize("NFKC", text.translate(_TRANSLATION)).replace("\u2044", "/").replace("\u200b", "")


def extract_answer(response: str) -> str | None:
    """The final answer of a math response, or none.

    The last box counts (boxes that an "and" joins count together); else what the last marker announces ("The answer
    is", "final answer", "Answer:", "#### X", "<answer>", 答案是/为/：); else a response that is nothing but a value.
    """
    return candidates(response)[0]


def candidates(response: str) -> tuple[str | None, str | None]:
    """The final answer and, where a box decided, another that a marker announces after it."""
    text = normal(response[-MAX_CHARS:])
    text = text.rpartition("</think>")[2] or text
    boxed, end = _boxed(text)
    if boxed is not None:
        later = _marked(text[end:])
        return (clean(boxed), clean(later) if later else None)
    if "\\boxed{" in text:
        return None, None  # cut off inside its box: whatever stands before it was not final
    tagged = [t for t in _TAG.findall(text) if t.strip()]
    found = tagged[-1] if tagged else _marked(text)
    if found is None and _BARE.fullmatch(text.strip()):
        found = text
    return (clean(found) if found and found.strip() else None), None


def _boxed(text: str) -> tuple[str | None, int]:
    """The content of the last box, and where it ends; boxes that a mere connective joins are one list."""
    found: list[tuple[int, int, str]] = []
    for start in _BOX.finditer(text):
        if text[start.end() - 1] != "{":
            word = re.match(r"[-+]?[\w.,]*\w", text[start.end() :])
            if word:
                found.append((start.start(), start.end() + word.end(), word.group()))
            continue
        depth, i = 1, start.end()
        while i < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[i], 0)
            i += 2 if text[i] == "\\" else 1
        if depth:
            return None, 0
        if text[start.end() : i - 1].strip() and "box" not in text[start.end() : i - 1]:
            found.append((start.start(), i, text[start.end() : i - 1]))
    if not found:
        return None, 0
    parts = [found[-1][2]]
    for earlier, later in zip(reversed(found[:-1]), reversed(found), strict=False):
        between = text[earlier[1] : later[0]]
        if not _JOIN.match(between) or not re.search(r",|and|or|&|和|或|与|、", between, re.IGNORECASE):
            break
        parts.insert(0, earlier[2])
    return ", ".join(parts), found[-1][1]


def _marked(text: str) -> str | None:
    """What the last marker announces, up to the end of its sentence."""
    for marker in reversed(list(_MARKER.finditer(text))):
        rest = text[marker.end() :].lstrip(" \t\r\n*_:=>")
        rest = re.sub(r"^(?:is|are)\b[\s:*]*", "", rest)
        rest = re.sub(r"^(?:\\\[|\\\(|\$\$)\s*", "", rest)
        end = _END.search(rest)
        if kept := _REASON.sub("", rest[: end.start()] if end else rest).strip(" *_\t,"):
            return kept
    return None


def clean(text: str) -> str:
    """The answer without its typography: delimiters, bold, text commands, thin spaces, currency, a sentence's end."""
    text = re.sub(r"\\(?:text|textbf|textit|mathrm|mathbf|mathit|mbox|operatorname)\s*\{([^{}]*)\}", r" \1 ", text)
    text = re.sub(r"\\(?:displaystyle|left|right|quad|qquad|big|Big|limits)\b", " ", text)
    text = re.sub(r"\\[dt]frac\b", r"\\frac", text)
    text = text.replace("\\%", "%").replace("\\$", "").replace("{,}", ",")
    text = re.sub(r"(?<=\d)\\[,!;: ](?=\d{3}(?!\d))", "", text)  # 1\,234
    text = re.sub(r"\\[,;:! ]|~", " ", text)
    text = re.sub(r"\\[()\[\]](?!\[)|\$|€|£|¥|`|\*\*|__", " ", text)
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?|\bUSD\b", " ", text)
    text = re.sub(r"(?<=\d),\s*(?=\d{3}(?:,\d{3})*(?:\.|$))(?<!\s)", ",", text)
    text = re.sub(r"\s+", " ", text).strip(" *\"'“”")
    text = re.sub(r"[.,;:。、]+$", "", text).strip(" *\"'“”")
    return re.sub(r"^(\d[\d,.]*)!$", r"\1!", text)
