"""Rules that score an answer by its text: what is looked for follows the authors of each benchmark.

The texts are a model's and may be hostile: nothing in them is evaluated, and each rule reads a bounded part of them.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections.abc import Callable, Sequence
from functools import partial

from ...verify.code.blocks import without_thoughts
from . import instruction_checks
from .choice_letter import chosen
from .marked import bold, boxed, last_line, tagged
from .table_formats import FORMATS, is_table

Rule = Callable[[str, str], float]
"""Takes the gold and an answer; returns a score from 0 to 1."""

MAX_CHARS = 20_000
"""Characters that are read, from the end of the answer: what most rules look for stands there."""
MAX_CHARS_OF_ALL = 200_000
"""The same for rules that concern the whole answer, as a number of words does."""
MAX_SENTENCES, MAX_SENTENCE = 200, 1_000
NUMBER_WORDS = {
    "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8",
    "nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14", "fifteen": "15",
    "sixteen": "16", "seventeen": "17", "eighteen": "18", "nineteen": "19", "twenty": "20",
}  # fmt: skip
SHAPES = ("tetrahedra", "tetrahedron", "triangle", "square")


def score(rule: str, gold: str, response: str) -> float:
    """The score of a response by a rule.

    Args:
        rule: one of `RULES`.
    """
    longest = MAX_CHARS_OF_ALL if rule in instruction_checks.RULES else MAX_CHARS
    return RULES[rule](gold, without_thoughts(response)[-longest:])


def choice(gold: str, answer: str) -> float:
    """The letter of a multiple-choice answer."""
    return float(chosen(answer) == gold)


# --- mathematics


def contest_choice(gold: str, answer: str) -> float:
    """The letter in the last solution tag, box, run of four or more, or line, whichever is found first."""
    runs = re.findall(r"(?<![A-Z])([A-F])\1{3,}(?![A-Z])", answer)
    marked = [tagged(answer, "solution"), runs[-1] if runs else None, boxed(answer)]
    found = next((m.strip() for m in marked if m is not None and m.strip()), last_line(answer))
    letters = set(re.sub(r"[^A-Za-z]", "", found).upper())
    return float(letters == {gold.strip().upper()})


def contest_number(gold: str, answer: str) -> float:
    """The number in the last solution tag, or as a whole number in the last 50 characters."""
    solution = tagged(answer, "solution")
    text = solution if solution is not None else answer.strip()[-50:]
    return float(re.search(rf"(?<!\d){re.escape(gold.strip())}(?!\d)", text) is not None)


def number_list(gold: str, answer: str) -> float:
    """1 minus the edit distance to the list of numbers, by the longer list; the list is behind the last "Answer:"."""
    behind = re.split(r"answer\s*:", answer, flags=re.IGNORECASE)[-1] if re.search(r"(?i)answer\s*:", answer) else None
    text = behind if behind is not None else boxed(answer) or last_line(answer)
    line = next((li for li in text.split("\n") if re.search(r"\d", li)), "")
    found, wanted = re.findall(r"\d+", line), re.findall(r"\d+", gold)
    return 1 - _distance(found, wanted) / max(len(found), len(wanted), 1)


def _distance(a: Sequence[object], b: Sequence[object]) -> int:
    """Levenshtein's edit distance."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


# --- reasoning


def three_words(gold: str, answer: str) -> float:
    """yes, no or unknown, three times in order: in the solution tag, in bold, in a box, or the last such list."""
    for text in (tagged(answer, "solution"), " ".join(bold(answer)), boxed(answer)):
        words = re.findall(r"\b(yes|no|unknown)\b", (text or "").lower())
        if words:
            return float(words[-3:] == _words(gold))
    plain = re.findall(r"\b(yes|no|unknown), (yes|no|unknown), (yes|no|unknown)\b", answer.lower())
    return float(bool(plain) and list(plain[-1]) == _words(gold))


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def names_in_order(gold: str, answer: str) -> float:
    """The names in the last bold texts, one each, or all in the last one."""
    parts, names = [part.lower() for part in bold(answer)], gold.lower().split()
    if not parts:
        return 0.0
    if len(parts) >= len(names) and all(name in part for name, part in zip(names, parts[-len(names) :], strict=True)):
        return 1.0
    places = [parts[-1].find(name) for name in names]
    return float(-1 not in places and places == sorted(set(places)))


def bold_answer(gold: str, answer: str) -> float:
    """The answer is one of the last three bold texts, or in the last box. Numbers may be words."""
    wanted = gold.strip().lower()
    for text in [*(b.lower() for b in bold(answer)[-3:]), (boxed(answer) or "").lower()]:
        text = text.strip(" .")
        if text == wanted or NUMBER_WORDS.get(text) == wanted:
            return 1.0
        if wanted in SHAPES and wanted in text and len(text) < 2 * len(wanted) + 5:  # "two tetrahedra"
            return 1.0
    return 0.0


def last_word(gold: str, answer: str) -> float:
    """The last text in bold and italics, else the last word. Digits may stand for words."""
    marked = re.findall(r"\*\*\*([^*\n]+)\*\*\*", answer) or re.findall(r"\w+", answer)[-1:]
    found, wanted = (marked[-1].strip().lower() if marked else ""), gold.strip().lower()
    return float(bool(found) and wanted in (found, f"{found} movies", _number_word(found)))


def _number_word(digits: str) -> str | None:
    return next((word for word, number in NUMBER_WORDS.items() if number == digits), None)


# --- language


def word_groups(gold: str, answer: str) -> float:
    """The share of groups of four that are right, in the bold text with the most right ones."""
    wanted = _groups(gold)
    candidates = [*bold(answer.replace("\n", " ")), *filter(None, [tagged(answer, "solution")])]
    return max((sum(g in _groups(c) for g in wanted) / len(wanted) for c in candidates), default=0.0)


def _groups(text: str) -> list[frozenset[str]]:
    words = [w.strip().lower() for w in text.split(",")]
    return [frozenset(words[i : i + 4]) for i in range(0, len(words), 4)]


def sentence_order(gold: str, answer: str) -> float:
    """1 minus the edit distance between the orders of sentences, by the number of sentences."""
    text = tagged(answer, "PLOT_SUMMARY")
    if text is None:
        text = answer.partition("<PLOT_SUMMARY>")[2] or answer
    wanted, found = _sentences(gold), _sentences(text.replace("**End of Plot Summary**", ""))
    order = []
    for sentence in wanted:
        closest = difflib.get_close_matches(sentence, found, n=1, cutoff=0.0)
        order += [found.index(closest[0])] if closest else []
    return max(0.0, 1 - _distance(range(len(wanted)), order) / max(len(wanted), 1))


def _sentences(text: str) -> list[str]:
    parts = [s.strip()[:MAX_SENTENCE] for s in text.split(".")]
    return [s for s in parts if s][:MAX_SENTENCES]


def contains(gold: str, answer: str) -> float:
    """The text is in the solution tag, or in the answer. Line breaks don't count."""
    solution = tagged(answer, "solution")
    return float(_one_line(gold) in _one_line(solution if solution is not None else answer))


def _one_line(text: str) -> str:
    return " ".join(line for line in text.strip().split("\n") if line)


# --- data analysis


def label(gold: str, answer: str) -> float:
    """The box or the answer ends with the label, without case, spaces and punctuation."""
    wanted, found = (re.sub(r"[\W_]", "", t.lower()) for t in (gold, boxed(answer) or answer))
    return float(found.endswith(wanted))


def join_map(gold: str, answer: str) -> float:
    """The F1 score of the pairs of columns in a dict."""
    wanted, found = _dict(gold), _dict(tagged(answer, "solution") or answer)
    right = sum(wanted.get(k) == v for k, v in found.items())
    wrong, missing = len(found) - right, sum(found.get(k) != v for k, v in wanted.items())
    return round(2 * right / (2 * right + wrong + missing), 2) if found else 0.0


def _dict(text: str) -> dict[str, str]:
    """The last dict of texts in a text, as Python or JSON writes it; empty if there is none."""
    for part in reversed(re.findall(r"\{[^{}]*\}", text)):
        try:
            found = ast.literal_eval(re.sub(r"\bnull\b", "None", part))
            if isinstance(found, dict):
                return {str(k): str(v) for k, v in found.items() if v is not None}
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return {}


RULES: dict[str, Rule] = {
    "choice": choice,
    "contest_choice": contest_choice,
    "contest_number": contest_number,
    "number_list": number_list,
    "three_words": three_words,
    "names_in_order": names_in_order,
    "bold_answer": bold_answer,
    "last_word": last_word,
    "word_groups": word_groups,
    "sentence_order": sentence_order,
    "contains": contains,
    "label": label,
    "join_map": join_map,
    "ifbench": instruction_checks.ifbench,
    "instructions_followed": instruction_checks.instructions_followed,
    **{f"table_{kind}": partial(is_table, kind) for kind in FORMATS},
}
"""Name of a rule -> what computes the score."""
