"""Extracts the final answer from a math response: pure functions on text."""

from __future__ import annotations

import re
from typing import NamedTuple

from .typography import clean_answer, normalize, plain
from .words import FUNCTIONS, UNITS

MAX_CHARS = 20_000
"""Only this many characters at the end of a response are read."""
MAX_SENTENCE = 500
_BOX = re.compile(r"\\f?box(?:ed)?\s*(?:\{|(?=[-+\w]))")
_LATEX_SPACE = re.compile(r"\\(?:quad|qquad|text|mathrm|textbf|enspace|[,;:! ()\[\]\\])|[\s${}()\[\].*]+")
_JOIN = re.compile(
    r"\s*(?:,|;|and|or|&|和|或者?|与|、)(?:\s*(?:,|;|and|or|&|和|或者?|与|、))*\s*(?:[a-zA-Z]\w?\s*=)?\s*"
)
_TAG = re.compile(r"<(/?)answer>", re.IGNORECASE)
_ASIDE = r"(?:\([^()\n]{0,60}\)[\s*_]{0,20})?"
_MARKER = re.compile(
    r"(?:(?P<if>\b(?:if|whether|suppose|assum\w+)\b[^.\n]{0,20}?)?)"
    rf"(?:\b(?:final[ \t]+)?answers?[\s*_]{{0,20}}{_ASIDE}(?:,[^,.\n]{{0,60}},\s*)?"
    r"(?:(?:to|in|for|of)\b[^.\n]{0,100}?\s)?(?:\*\*)?\s{0,20}"
    r"(?:(?:isn't|is|are|was|equals|(?:should|would|must|will)\s+be"
    r"|(?:comes|works)\s+out\s+(?:to(?:\s+be)?|as)|turns\s+out\s+to\s+be)\b|[:=]|->|\\to\b)"
    rf"|\bans\b[\s*_]{{0,20}}{_ASIDE}(?:[:=.]|is\b)"
    r"|\b(?:correct|right|best)\s+(?:choice|option)s?\s*(?:is\b|are\b|:)"
    r"|^[ \t]*(?:\#+|\*\*)[ \t]*(?:the[ \t]+)?(?:final[ \t]+)?answer[ \t*_]*$"
    r"|\bfinal[ \t]+(?:answer|result)\b"
    r"|(?<!\#)\#{4}(?!\#)(?=[ \t]*\S[^\n]{0,60}$)(?![ \t]*\d+[.)][ \t]+\S)(?![ \t]*(?:step|final|answer)\b)"
    r"|答案[\s*]*(?:应该|应当|应|就|大?约)?(?:(?:是|为|等于|选)\s*:?|[:=])"
    r"|(?:故|应|所以|因此|因而|应该|正确)\s*选(?:择|项)?\s*[是为:]?\s*(?=[(]?[A-J])"
    r"|(?<![不若果能误错])选\s*(?=\(?[A-J]\)?\s*(?:[。.,;\n]|$))"
    r"|最终结果\s*[是为:]|正确(?:选项|答案)\s*[是为:]"
    r"|^[ \t]*答[:,])",
    re.IGNORECASE | re.MULTILINE,
)
_CHOSEN = re.compile(
    r"(?P<if>\b(?:[Ii]f|[Ww]hether|[Ss]uppose|[Aa]ssum\w+|[Uu]nless)\b[^.\n]{0,20}?)?"
    r"(?:\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer)\s+\(?(?P<named>[A-J])\)?|\((?P<letter>[A-J])\))"
    r"\s+is\s+(?:the\s+)?(?:correct|right|best)(?:\s+(?:answer|option|choice|one))?\s*(?:[.!\n]|$)"
)
_LABEL = re.compile(r"^(?:the )?(?:final |correct )?answer\s*(?:is\b|:|=)\s*(?=\S)", re.IGNORECASE)
_BEFORE_BULLET = re.compile(r"[ \t*_:=]*\n\s*?(?=[ \t]*(?:[-•*]|\d[.)])[ \t])")
_LEAD = re.compile(
    r"(?:[ \t\r\n*_:]|=>?)*(?:(?:is|are)\b[\s:*]*)?"
    r"(?:(?:therefore|thus|hence|simply|indeed|clearly|then|just)\b[\s,:*]*)?"
)
_BULLET = re.compile(r"[ \t]*(?:[-•*]|\d[.)])[ \t]+(\S[^\n]*)(?:\n|$)")
_END = re.compile(r"\.(?=\s|$|[*$\"')\]]*(?:\s|$))|。|(?<![\d)}])!(?=\s|$)|\?(?=\s|$)|;(?=\s+[A-Za-z]{2})|\n|<br")
_ABBREVIATION = re.compile(r"(?:approx|ca|cf|vs|no|sq|cu|e\.g|i\.e)$", re.IGNORECASE)
_UNIT_ABBREVIATION = re.compile(r"\b(?:[ap]\.m|ft|in|yd|mi|min|secs?|hrs?|lbs?|oz|gal|Mr|Mrs|Dr|St|Rs)$", re.IGNORECASE)
_REASON = re.compile(
    r",?\s+(?:because|since|which|meaning|as (?:we|he|she|it|they|required|expected)|so)\b.*$"
    r"|[,(]\s*(?:and )?not\b.*$|(?:,\s*)?因为.*$",
    re.I,
)
_CORRECTION = re.compile(
    r"\b(?:wait|hold on|actually|correction|sorry|oops|scratch that|(?:made|is|was|there'?s) an? (?:mistake|error)|"
    r"that'?s (?:wrong|not right|incorrect)|(?:that|this|it) (?:is|was) (?:wrong|not right|incorrect))\b"
    r"|(?:^|[.!]\s)no,\s|不对|更正|等等|错了|算错",
    re.IGNORECASE,
)
_CHECK = re.compile(
    r"\blet(?:'s| me| us) (?:\w+[ -])?(?:re-?)?(?:check|verify|confirm|substitute|compute|calculate)", re.I
)
_VALUE = r"[\s:]*(?P<value>[-+]?[$\\({\[]*\d[^\s,;。,]*?(?=[.;,!?。]?(?:\s|$)|[,。]))"
_REVISED = re.compile(
    r"(?:\b(?:it|that|this|value|result|total|number|sum)?\s*(?:should(?:\s+have)?\s+be(?:en)?|must be|is actually|"
    rf"is really|is|was|equals|make (?:that|it)|it's|comes to)\b|应该?[是为]|是|为){_VALUE}",
    re.IGNORECASE,
)
_REPLACED = re.compile(
    rf"(?:\b(?:should(?:\s+have)?\s+be(?:en)?|must be|is actually|is really|make (?:that|it))\b|应该?[是为]){_VALUE}",
    re.I,
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


def find_answer(response: str) -> FinalAnswer | None:
    """The final answer with its units, and a later answer, if there is one."""
    text = normalize(response[-MAX_CHARS:])[-MAX_CHARS:]
    text = text.rpartition("</think>")[2].strip() or text
    boxed, end = _boxed(text)
    if boxed is not None:
        later = _marked(text[end:]) or _revised(text[end:])
        return _final_answer(boxed, later[0] if later else None)
    tagged = _tagged(text)
    if tagged is None and "\\boxed{" in text:
        return None  # truncated inside its box: nothing before the box was final
    if tagged is not None:
        later = _revised(text[tagged[1] :])
        return _final_answer(tagged[0], later[0] if later else None)
    if marked := _marked(text):
        later = _revised(text[marked[1] :])
        return _final_answer(marked[0], later[0] if later else None)
    return _final_answer(text, None) if _is_only_a_value(text) else None


def _final_answer(answer: str, later: str | None) -> FinalAnswer | None:
    cleaned = _LABEL.sub("", clean_answer(answer))
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
        gap = text[earlier[1] : later[0]]
        if len(gap) > 60 or not _JOIN.fullmatch(_LATEX_SPACE.sub(" ", gap)):
            break
        parts.insert(0, earlier[2])
    return ", ".join(parts), boxes[-1][1]


def _tagged(text: str) -> tuple[str, int] | None:
    """The content of the last <answer> that has some, and where it ends."""
    tags = list(_TAG.finditer(text))
    for opening, closing in zip(reversed(tags[:-1]), reversed(tags[1:]), strict=True):
        if not opening[1] and closing[1] and (content := text[opening.end() : closing.start()]).strip():
            return content, closing.end()
    return None


def _marked(text: str) -> tuple[str, int] | None:
    """The text after the last marker, up to the end of its sentence, and where it ends."""
    chosen = [m for m in _CHOSEN.finditer(text) if not m["if"]][-1:]
    for marker in reversed(list(_MARKER.finditer(text))):
        if chosen and chosen[0].end() > marker.end():
            break
        if marker["if"]:
            continue  # "if the answer is 5" is not an answer
        bullet = _BEFORE_BULLET.match(text, marker.end())
        lead = bullet or _LEAD.match(text, marker.end())
        begin = lead.end() if lead else marker.end()
        rest = text[begin : begin + MAX_SENTENCE]
        listed, end = _bullets(rest) if bullet else ("", 0)
        if not listed:
            end = _sentence_end(rest)
        kept = _REASON.sub("", listed or rest[:end]).strip(" *_\t,")
        if kept and "n't" in marker.group().lower():
            kept = f"not {kept}"
        if kept and rest[end : end + 1] == "?":
            kept = f"maybe {kept}"
        if kept:
            return kept, begin + end
    return (chosen[0]["named"] or chosen[0]["letter"], chosen[0].end()) if chosen else None


def _bullets(text: str) -> tuple[str, int]:
    """The items of a list with bullets at the start of the text, and where it ends."""
    items: list[str] = []
    end = 0
    while bullet := _BULLET.match(text, end):
        items.append(bullet[1].strip())
        end = bullet.end()
    return ", ".join(items), end


def _sentence_end(text: str) -> int:
    for end in _END.finditer(text):
        before = text[: end.start()]
        if before.count("$$") % 2 or any(before.count(a) > before.count(b) for a, b in _DISPLAY):
            continue
        if end[0] == "." and (
            before.endswith("..")
            or _ABBREVIATION.search(before[-8:])
            or (_UNIT_ABBREVIATION.search(before[-8:]) and re.match(r"\.\s+[a-z\d(]", text[end.start() :]))
        ):
            continue
        if before.strip(" $\n"):
            return end.start()
    return len(text)


_DISPLAY = (("\\[", "\\]"), ("\\begin{", "\\end{"))


def _revised(text: str) -> tuple[str, int] | None:
    """A value after a correction ("Wait, it should be 6"), and where it ends.

    After "let me check", only "should be" and the like correct: the values of a check are none of the answer.
    """
    correction, check = _CORRECTION.search(text), _CHECK.search(text)
    if correction is None and check is None:
        return None
    begins = [m.start() for m in (correction, check) if m]
    is_check = check is not None and (correction is None or check.start() < correction.end() + 30)
    values = list((_REPLACED if is_check else _REVISED).finditer(text, min(begins)))
    return (values[-1]["value"], values[-1].end()) if values else None


def _is_only_a_value(text: str) -> bool:
    """Whether the whole response is one expression, without words other than functions and units."""
    cleaned = plain(clean_answer(text))
    words = re.findall(r"(?<![\\A-Za-z])[A-Za-z]{2,}", cleaned)
    return (
        len(cleaned) <= 200
        and (re.search(r"\d|\\", cleaned) is not None or re.fullmatch(r"\(?[A-J]\)?", cleaned) is not None)
        and all(w.casefold() in FUNCTIONS or w.casefold() in UNITS or w in ("and", "or") for w in words)
        and not re.search(r"[.?!]\s|[\u4e00-\u9fff]|\n\s*\n", text.strip())
    ) or re.fullmatch(r"[\s*]*\(?[A-J][).:]+\s+[^\n]{1,150}", text.rstrip()) is not None


def strip_units(answer: str) -> str:
    """Removes a currency symbol, and words after a number."""
    text = re.sub(r"^(?:[$€£¥]|US\$)\s*", "", plain(answer.strip()))
    text = re.sub(r"^\(([A-Za-z])\)$", r"\1", text)
    number = re.match(r"[-+]?\$?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?=[\sa-zA-Z一-鿿.]*$)", text)
    return number.group(0).replace("$", "") if number else text
