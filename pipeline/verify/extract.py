"""From a math response to its final answer: pure functions on text."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

MAX_CHARS = 20_000
"""Only so many last characters of a response are read."""

# NFKC would glue these to their neighbours: x² would read x2, and 5½ would read 51/2.
_SYMBOLS = {
    **{c: f"^{n}" for n, c in enumerate("⁰¹²³⁴⁵⁶⁷⁸⁹")},
    **{c: f"_{n}" for n, c in enumerate("₀₁₂₃₄₅₆₇₈₉")},
    **{c: f" {n}/{d}" for c, n, d in [("½", 1, 2), ("⅓", 1, 3), ("⅔", 2, 3), ("¼", 1, 4), ("¾", 3, 4), ("⅕", 1, 5)]},
    **dict.fromkeys("−–﹣", "-"),
    **{"×": r"\times ", "·": r"\cdot ", "÷": "/", "π": r"\pi ", "∞": r"\infty ", "∪": r"\cup ", "±": r"\pm "},
    **{"≤": r"\le ", "≥": r"\ge ", "√": r"\sqrt ", "∅": r"\emptyset ", "∈": r"\in ", "°": r"^\circ "},
    **{"\u2019": "'", "\u00a0": " ", "\u202f": " ", "\u2009": " "},
}
_TRANSLATION = str.maketrans(_SYMBOLS)
_BOX = re.compile(r"\\f?box(?:ed)?\s*(?:\{|(?=[-+\w]))")
_JOIN = re.compile(r"[\s$.\\)(]*(?:,|and|or|&|和|或者?|与|、)+[\s$a-z\\)(=]{0,8}", re.IGNORECASE)
_TAG = re.compile(r"<answer>(.*?)</answer>", re.IGNORECASE | re.DOTALL)
_MARKER = re.compile(
    r"(?:(?P<if>\b(?:if|whether|suppose|assum\w+)\b[^.\n]{0,20}?)?)"
    r"(?:\banswers?[\s*_]*(?:(?:to|in|for|of)\b[^.\n]{0,100}?\s)?(?:\*\*)?[\s]*"
    r"(?:(?:isn't|is|are|was|equals|(?:should|would|must|will)\s+be)\b|[:=]|->|→)"
    r"|\b(?:correct|right|best)\s+(?:choice|option)\s+is\b"
    r"|^[ \t]*(?:\#+|\*\*)[ \t]*(?:the[ \t]+)?(?:final[ \t]+)?answer[ \t*_]*$"
    r"|\bfinal[ \t]+answer\b"
    r"|(?<!\#)\#{4}(?!\#)(?=[ \t]*\S[^\n]{0,60}$)(?![ \t]*\d+[.)][ \t]+\S)(?![ \t]*(?:step|final|answer)\b)"
    r"|答案[\s*]*(?:应该|应当|应|就)?(?:(?:是|为|等于)\s*:?|[:=])"
    r"|^[ \t]*答[:,])",
    re.IGNORECASE | re.MULTILINE,
)
_END = re.compile(r"\.(?=\s|$|[*$\"')\]]*(?:\s|$))|。|[!?](?=\s|$)|;(?=\s+[A-Za-z]{2})|\n|<br")
_REASON = re.compile(
    r",?\s+(?:because|since|which|meaning|as (?:we|he|she|it|they|required|expected)|so)\b.*$"
    r"|[,(]\s*(?:and )?not\b.*$|(?:,\s*)?因为.*$",
    re.I,
)
_BARE = re.compile(r"[-+$\\()\[\]{}\d.,/^*%= ]{1,60}|\(?[A-J]\)?\.?")
_CORRECTION = re.compile(
    r"\b(?:wait|hold on|actually|correction|sorry|oops|scratch that|(?:made|is|was|there'?s) an? (?:mistake|error)|"
    r"let me re-?(?:check|do|compute|calculate|consider)|that'?s (?:wrong|not right|incorrect)|"
    r"(?:that|this|it) (?:is|was) (?:wrong|not right|incorrect))\b|不对|更正|等等|错了|算错",
    re.IGNORECASE,
)
_REVISED = re.compile(
    r"(?:\b(?:it|that|this|value|result|total|number|sum)?\s*(?:should(?:\s+have)?\s+be(?:en)?|must be|is actually|"
    r"is really|is|was|equals|make (?:that|it)|it's|comes to)\b|应该?[是为]|是|为)[\s:]*"
    r"(?P<value>[-+]?[$\\({\[]*\d[^\s,;。,]*?(?=[.;,!?。]?(?:\s|$)|[,。]))",
    re.IGNORECASE,
)


class FinalAnswer(NamedTuple):
    """What a response says its answer is."""

    answer: str
    later: str | None = None
    """Another answer that stands after the one that counts."""


def extract_answer(response: str) -> str | None:
    """The final answer of a math response, bare (no currency, no unit after a number), or none.

    The last box counts (boxes that an "and" joins count together); else what the last marker announces ("The answer
    is", "final answer", "Answer:", "#### X", "<answer>", 答案是/为/：); else a response that is nothing but a value.
    """
    found = find_answer(response)
    return strip_units(found.answer) if found else None


def normalize(text: str) -> str:
    """NFKC, with the signs of mathematics as LaTeX: full-width digits become digits."""
    return unicodedata.normalize("NFKC", text.translate(_TRANSLATION)).replace("\u2044", "/").replace("\u200b", "")


def find_answer(response: str) -> FinalAnswer | None:
    """The final answer with its units, and one that comes after it, if it does."""
    text = normalize(response[-MAX_CHARS:])[-MAX_CHARS:]
    text = text.rpartition("</think>")[2].strip() or text
    boxed, end = _boxed(text)
    if boxed is not None:
        later = _marked(text[end:]) or _revised(text[end:])
        return _final_answer(boxed, later[0] if later else None)
    if "\\boxed{" in text and not _TAG.search(text):
        return None  # cut off inside its box: whatever stands before it was not final
    tagged = [t for t in _TAG.finditer(text) if t.group(1).strip()]
    if tagged:
        later = _revised(text[tagged[-1].end() :])
        return _final_answer(tagged[-1].group(1), later[0] if later else None)
    if marked := _marked(text):
        later = _revised(text[marked[1] :])
        return _final_answer(marked[0], later[0] if later else None)
    return _final_answer(text, None) if _BARE.fullmatch(text.strip()) else None


def _final_answer(answer: str, later: str | None) -> FinalAnswer | None:
    cleaned = clean_answer(answer)
    return FinalAnswer(cleaned, clean_answer(later) if later else None) if cleaned else None


def _boxed(text: str) -> tuple[str | None, int]:
    """The content of the last box, and where it ends; boxes that a mere connective joins are one list."""
    found: list[tuple[int, int, str]] = []
    for start in _BOX.finditer(text):
        if text[start.end() - 1] != "{":
            word = re.match(r"[-+]?[\w.,]*\w", text[start.end() :][:100])
            if word:
                found.append((start.start(), start.end() + word.end(), word.group()))
            continue
        if found and start.end() <= found[-1][1]:
            continue  # a box inside a box
        depth, i = 1, start.end()
        while i < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[i], 0)
            i += 2 if text[i] == "\\" else 1
        if depth:
            return None, 0
        content = re.sub(r"\\f?box(?:ed)?\s*(?=\{)", "", text[start.end() : i - 1])
        if content.strip():
            found.append((start.start(), i, content))
    if not found:
        return None, 0
    parts = [found[-1][2]]
    for earlier, later in zip(reversed(found[:-1]), reversed(found), strict=False):
        if not _JOIN.fullmatch(text[earlier[1] : later[0]]):
            break
        parts.insert(0, earlier[2])
    return ", ".join(parts), found[-1][1]


def _marked(text: str) -> tuple[str, int] | None:
    """What the last marker announces, up to the end of its sentence, and where that is."""
    for marker in reversed(list(_MARKER.finditer(text))):
        if marker["if"]:
            continue  # "if the answer is 5" announces nothing
        rest = text[marker.end() :]
        skipped = re.match(r"[ \t\r\n*_:=>]*(?:(?:is|are)\b[\s:*]*)?(?:\\\[|\\\(|\$\$)?\s*", rest)
        begin = marker.end() + (skipped.end() if skipped else 0)
        rest = text[begin : begin + 500]
        end = _END.search(rest)
        kept = _REASON.sub("", rest[: end.start()] if end else rest).strip(" *_\t,")
        if kept and "n't" in marker.group().lower():
            kept = f"not {kept}"
        if kept:
            return kept, begin + (end.start() if end else len(rest))
    return None


def _revised(text: str) -> tuple[str, int] | None:
    """A value that comes after a word of correction ("Wait, it should be 6"), and where it ends."""
    corrected = _CORRECTION.search(text)
    if corrected is None:
        return None
    values = list(_REVISED.finditer(text, corrected.start()))
    return (values[-1]["value"], values[-1].end()) if values else None


def clean_answer(text: str) -> str:
    """The answer without its typography: delimiters, bold, text commands, thin spaces, a sentence's end."""
    text = re.sub(
        r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mathit|mbox|operatorname)\s*\{([^{}]*)\}", r" \1 ", text
    )
    text = re.sub(r"\\(?:displaystyle|left|right|quad|qquad|big|Big|limits)(?![a-zA-Z])", " ", text)
    text = re.sub(r"\\[dt]frac(?![a-zA-Z])", r"\\frac", text)
    text = text.replace("\\%", "%").replace("\\$", "$").replace("{,}", ",").replace("\\!", "")
    text = re.sub(r"(?<=\d)\\[,!;: ]\s?(?=\d{3}(?!\d))", "", text)  # 1\,234
    text = re.sub(r"(?<!\\)\\[,;:! ]|~", " ", text)
    text = re.sub(r"(?<!\\)\\[()\[\]](?!\[)|`|\*\*|__", " ", text)
    text = re.sub(r"\$(?!\s*\d)(?<!\d\$)|(?<=\d)\$", " ", text)  # a dollar before a number may be money
    text = re.sub(r"\^\s*\{?\s*\\circ\s*\}?", " degrees ", text)
    text = re.sub(r"\s+", " ", text).strip(" *\"'“”")
    text = re.sub(r"[.,;:。、]+$", "", text).strip(" *\"'“”")
    return text[:-1] if re.fullmatch(r"\$?\d[\d,.]*\$", text) else text


def strip_units(answer: str) -> str:
    """The answer without currency, and without the words that follow a number."""
    text = re.sub(r"^(?:[$€£¥]|US\$)\s*", "", answer.strip())
    text = re.sub(r"^\(([A-Za-z])\)$", r"\1", text)
    number = re.match(r"^[-+]?\$?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?=\s*(?:[a-zA-Z一-鿿]+\.?\s*)*$)", text)
    return number.group(0).replace("$", "") if number else text
