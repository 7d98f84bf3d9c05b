"""Extracts the final answer from a math response: pure functions on text."""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

MAX_CHARS = 20_000
"""Only this many characters at the end of a response are read."""

# NFKC would merge these with their neighbors: x² would become x2, and 5½ would become 51/2.
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
    """The final answer that a response gives."""

    answer: str
    later: str | None = None
    """Another answer after this one."""


def extract_answer(response: str) -> str | None:
    """The final answer of a math response without currency or units, or None.

    The last box counts; boxes joined by "and" count as one list. Without a box, the text after the last marker counts
    ("The answer is", "final answer", "Answer:", "#### X", "<answer>", 答案是/为/：). Without a marker, the response
    must be only a value.
    """
    final = find_answer(response)
    return strip_units(final.answer) if final else None


def normalize(text: str) -> str:
    """Normalizes the text with NFKC, so full-width digits become digits; mathematical symbols become LaTeX."""
    return unicodedata.normalize("NFKC", text.translate(_TRANSLATION)).replace("\u2044", "/").replace("\u200b", "")


def find_answer(response: str) -> FinalAnswer | None:
    """The final answer with its units, and a later answer, if there is one."""
    text = normalize(response[-MAX_CHARS:])[-MAX_CHARS:]
    text = text.rpartition("</think>")[2].strip() or text
    boxed, end = _boxed(text)
    if boxed is not None:
        later = _marked(text[end:]) or _revised(text[end:])
        return _final_answer(boxed, later[0] if later else None)
    if "\\boxed{" in text and not _TAG.search(text):
        return None  # truncated inside its box: nothing before the box was final
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
    """The content of the last box, and where it ends. Boxes that only a connective separates form one list."""
    boxes: list[tuple[int, int, str]] = []
    for start in _BOX.finditer(text):
        if text[start.end() - 1] != "{":
            word = re.match(r"[-+]?[\w.,]*\w", text[start.end() :][:100])
            if word:
                boxes.append((start.start(), start.end() + word.end(), word.group()))
            continue
        if boxes and start.end() <= boxes[-1][1]:
            continue  # a box inside a box
        depth, i = 1, start.end()
        while i < len(text) and depth:
            depth += {"{": 1, "}": -1}.get(text[i], 0)
            i += 2 if text[i] == "\\" else 1
        if depth:
            return None, 0
        content = re.sub(r"\\f?box(?:ed)?\s*(?=\{)", "", text[start.end() : i - 1])
        if content.strip():
            boxes.append((start.start(), i, content))
    if not boxes:
        return None, 0
    parts = [boxes[-1][2]]
    for earlier, later in zip(reversed(boxes[:-1]), reversed(boxes), strict=False):
        if not _JOIN.fullmatch(text[earlier[1] : later[0]]):
            break
        parts.insert(0, earlier[2])
    return ", ".join(parts), boxes[-1][1]


def _marked(text: str) -> tuple[str, int] | None:
    """The text after the last marker, up to the end of its sentence, and where it ends."""
    for marker in reversed(list(_MARKER.finditer(text))):
        if marker["if"]:
            continue  # "if the answer is 5" is not an answer
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
    """A value after a correction ("Wait, it should be 6"), and where it ends."""
    correction = _CORRECTION.search(text)
    if correction is None:
        return None
    values = list(_REVISED.finditer(text, correction.start()))
    return (values[-1]["value"], values[-1].end()) if values else None


def clean_answer(text: str) -> str:
    """Removes typography from an answer: delimiters, bold, text commands, thin spaces, final punctuation."""
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
    """Removes a currency symbol, and words after a number."""
    text = re.sub(r"^(?:[$€£¥]|US\$)\s*", "", answer.strip())
    text = re.sub(r"^\(([A-Za-z])\)$", r"\1", text)
    number = re.match(r"^[-+]?\$?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?=\s*(?:[a-zA-Z一-鿿]+\.?\s*)*$)", text)
    return number.group(0).replace("$", "") if number else text
