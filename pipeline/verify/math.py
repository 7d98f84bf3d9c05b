"""Math answers: our extraction and guards, math-verify for equivalence alone. Runs inside a killable worker."""

from __future__ import annotations

import re
import unicodedata

from fusechat.pipeline.verify.extract import extract_answer

PLAIN = re.compile(r"^[-+]?(?:\d+|\d{1,3}(?:,\d{3})+)(?:\.\d+)?(?:[eE][-+]?\d+)?$")
HEDGED = re.compile(r"\bnot\b|\bor\b|不是|或者?", re.IGNORECASE)


def check(response: str, gold: str) -> tuple[bool | None, str, str]:
    """(correct, reason, what was extracted); reasons: correct, wrong, no_answer, ambiguous, error."""
    answer = extract_answer(response)
    if answer is None or not answer:
        return False, "no_answer", ""
    wanted = unicodedata.normalize("NFKC", gold).strip().strip("$").strip()
    if HEDGED.search(answer) and not HEDGED.search(wanted):
        return False, "ambiguous", answer
    correct = equivalent(wanted, answer)
    return correct, "correct" if correct else "wrong", answer


def equivalent(gold: str, answer: str) -> bool:
    """Whether two final answers are the same; the guards come before math-verify, which would accept too much."""
    if gold == answer:
        return True
    # 50% answers "how many percent" with 50, never with 0.5.
    gold, answer = gold.replace("\\%", "%").rstrip("%").strip(), answer.rstrip("%").strip()
    if PLAIN.match(gold) and PLAIN.match(answer):
        return float(gold.replace(",", "")) == float(answer.replace(",", ""))
    for sign in ("\\cup", "\\infty", "_"):
        if (sign in gold) != (sign in answer):
            return False
    if _brackets(gold) != _brackets(answer):
        return False
    from math_verify import parse, verify

    return bool(verify(_parsed(parse, gold), _parsed(parse, answer), timeout_seconds=None))


def _parsed(parse: object, text: str) -> list[object]:
    assert callable(parse)
    result: list[object] = parse(f"${text}$", parsing_timeout=None)
    return result


def _brackets(text: str) -> str:
    """Opening and closing bracket of a set, interval or tuple: `[1, 2]` is not `(1, 2)`."""
    bare = text.strip().replace("\\left", "").replace("\\right", "").replace("\\{", "{").replace("\\}", "}")
    if "," in bare and bare[:1] in "([{" and bare[-1:] in ")]}":
        return bare[0] + bare[-1]
    return ""
