"""Whether two answers are equal: which rule applies to which kind of answer."""

from __future__ import annotations

import re

from . import sets, shapes
from .choices import parse_choice, parse_choices, parse_labeled
from .numbers import parse_number
from .scalars import rounds, squeezed, statements_equal, values_equal
from .statements import is_name, names_differ, restates
from .times import dates_equal, parse_date, parse_time, times_equal
from .typography import plain

_CONDITION = re.compile(
    r"\s*[,(]?\s*(?:\\text\{)?\s*(?:where|for|with)?\s*\}?\s*[kmn]\s*(?:\\in(?![a-zA-Z])\s*\\mathbb\s*\{?(?P<set>[ZN])\}?"
    r"|(?:\\text\{)?\s*is an(?:y)? integer\s*\}?)\s*\)?$"
)
"""The condition on the parameter of a family of answers: ", where k is an integer", ", k \\in \\mathbb{Z}"."""


def equivalent(gold: str, answer: str) -> bool:
    """Whether the answer is the gold answer. Both must be cleaned by `typography.clean_answer`.

    Where a text could mean two things, they are not equal.
    """
    if gold == answer or squeezed(gold) == squeezed(answer) != "":
        return True
    if len(several := parse_choices(gold)) > 1:
        return several in (parse_choices(answer), sorted(answer))
    if len(several := parse_choices(answer)) > 1 and gold == "".join(several):
        return True
    if (chosen := parse_choice(gold)) is not None:
        return parse_choice(answer) == chosen or parse_labeled(answer)[0] == chosen
    (label, text), (given_label, given_text) = parse_labeled(gold), parse_labeled(answer)
    if label and (given_label or parse_choice(answer)):
        return label == (given_label or parse_choice(answer))
    golds = [gold, text] if label else [gold]
    return any(_equal(g, a) for g in golds for a in ([answer, given_text] if given_label else [answer]))


def same_value(answer: str, later: str) -> bool:
    """Whether a later answer repeats an answer: it is equal, or it is the rounded value."""
    return equivalent(answer, later) or rounds(answer, later) or rounds(later, answer)


def _equal(gold: str, answer: str) -> bool:
    times = parse_time(gold), parse_time(answer)
    if times[0] and times[1]:
        return times_equal(times[0], times[1])
    dates = parse_date(gold), parse_date(answer)
    if dates[0] and dates[1]:
        return dates_equal(dates[0], dates[1])
    if times[0] or dates[0] or ((times[1] or dates[1]) and parse_number(gold) is None):
        return False
    conditions = [c["set"] or "Z" if (c := _CONDITION.search(t)) else "Z" for t in (gold, answer)]
    if conditions[0] != conditions[1]:
        return False
    gold, answer = (_CONDITION.sub("", t) for t in (gold, answer))
    if re.fullmatch(r"yes|no|true|false", gold, re.IGNORECASE):
        return answer.partition(",")[0].casefold() == gold.casefold()
    bases = shapes.parse_base(gold), shapes.parse_base(answer)
    if any(bases):
        return bases[0] == bases[1]
    special = _matrices(gold, answer)
    if special is None:
        special = _cases(gold, answer)
    if special is not None:
        return special
    if _same_sets(gold, answer) or _same_relations(gold, answer):
        return True
    return _lists(gold, answer)


def _lists(gold: str, answer: str) -> bool:
    """Compares lists, sets, tuples and intervals member by member, and single values as statements."""
    if restates(answer) and len(_expanded(shapes.members(gold))) == 1:
        return statements_equal(gold, answer)
    (name, gold), (given_name, answer) = _without_name(gold), _without_name(answer)
    if names_differ(name, given_name):
        return False
    if r"\emptyset" in (gold, answer):
        return False
    if "\\pm" in gold + answer and (points := (_points(gold), _points(answer))) != ([gold], [answer]):
        return shapes.same_members(points[0], points[1], equivalent)
    texts = _unwrapped(gold), _unwrapped(answer)
    brackets = {shapes.brackets(t) for t in texts}
    wanted, given = (_expanded(shapes.members(t)) for t in texts)
    if not _equally_nested(wanted, given):
        return False
    if brackets == {""} and len(wanted) == len(given) == 1:
        return _ratios(*texts) if ":" in gold + answer else statements_equal(*texts)
    named = _assignments(wanted), _assignments(given)
    if any(named) and all("=" in member for member in (*wanted, *given)):
        if not named[0] or not named[1] or list(named[0]) != list(named[1]):
            return False
        return _in_order([*named[0].values()], [*named[1].values()])
    wanted, given = ([*n.values()] if n else m for n, m in zip(named, (wanted, given), strict=True))
    if len(brackets) == 2 and brackets != {"", "{}"} and not (brackets == {"", "()"} and any(named)):
        return False  # [1, 2] is not (1, 2), but {1, 2} may be written 1, 2, and (1, 2) x = 1, y = 2
    if brackets - {"", "{}"}:
        return _in_order(wanted, given)
    if _is_tight(gold) != _is_tight(answer) and _in_order(_tight_members(gold), _tight_members(answer)):
        return True
    return shapes.same_members([_value_of(m) for m in wanted], [_value_of(m) for m in given], equivalent)


def _in_order(wanted: list[str], given: list[str]) -> bool:
    return len(wanted) == len(given) > 1 and all(equivalent(w, g) for w, g in zip(wanted, given, strict=True))


def _is_tight(text: str) -> bool:
    """Whether the text is numbers of three digits, in which the commas could separate thousands: 100,200."""
    return re.fullmatch(r"\d{1,3}(?:,\d{3})+", text) is not None


def _tight_members(text: str) -> list[str]:
    return text.split(",") if _is_tight(text) else shapes.members(text)


def _without_name(text: str) -> tuple[list[str], str]:
    """The name of the whole list, if it has one, and the list: (p, q) = (4, 1)."""
    text = re.sub(r"^[a-zA-Z]\s*\\in(?![a-zA-Z])\s*", "", text)
    name, sign, rest = (part.strip() for part in text.partition("="))
    if sign and "=" not in rest and shapes.brackets(rest) and is_name(name):
        return [name], rest
    return [], text


def _unwrapped(text: str) -> str:
    """The member of a set with one that is no set itself; any other text as it is."""
    members = shapes.members(text)
    single = shapes.brackets(text) == "{}" and len(members) == 1 and not _is_set(members[0])
    return members[0] if single else text


def _is_set(member: str) -> bool:
    return shapes.brackets(member) == "{}" or member == r"\emptyset"


def _equally_nested(wanted: list[str], given: list[str]) -> bool:
    """Whether as many members of both are sets: {{1}, {2}} is not {1, 2}."""
    return sum(map(_is_set, wanted)) == sum(map(_is_set, given))


def _points(text: str) -> list[str]:
    """Both tuples of a tuple with one \\pm; the tuples of a list of them; else the text alone."""
    tuples = [text] if shapes.brackets(text) not in ("", "{}") else shapes.members(text)
    return _expanded(tuples) if all(shapes.brackets(t) not in ("", "{}") for t in tuples) else [text]


def _assignments(members: list[str]) -> dict[str, str] | None:
    """Names and values of "x = 6, y = 2", in the order of the names; None for other lists."""
    pairs = [tuple(side.strip() for side in m.split("=")) for m in members if m.count("=") == 1]
    names = {name: value for name, value in sorted(pairs) if is_name(name) and not re.search("[-+*/]", name)}
    return names if len(names) == len(members) > 1 else None


def _value_of(member: str) -> str:
    name, sign, value = member.partition("=")
    return value.strip() if sign and "=" not in value and is_name(name.strip()) else member


def _expanded(members: list[str]) -> list[str]:
    """The members, with both values of each that has one \\pm, or one \\mp."""
    found = []
    for member in members:
        if (member.count("\\pm") or member.count("\\mp")) == 1:
            for sign, other in (("+", "-"), ("-", "+")):
                found.append(re.sub(r"\\mp(?![a-zA-Z])", other, re.sub(r"\\pm(?![a-zA-Z])", sign, member)))
        else:
            found.append(member)
    return found


def _same_sets(gold: str, answer: str) -> bool:
    if not (sets.is_set(gold) and sets.is_set(answer)):
        return False
    if shapes.brackets(gold) and shapes.brackets(answer) and not re.search(r"[<>]|\\(?:le|ge|ne|infty)", gold + answer):
        return False  # pairs are compared bracket by bracket
    wanted, given = sets.parse_set(gold), sets.parse_set(answer)
    return wanted is not None and given is not None and sets.sets_equal(wanted, given)


def _same_relations(gold: str, answer: str) -> bool:
    """Two equations of a curve, or inequalities with several variables."""
    wanted, given = sets.parse_relations(gold), sets.parse_relations(answer)
    if len(wanted) != len(given) or not all(len(w.difference.free_symbols) > 1 for w in wanted):
        return False
    return len(wanted) > 0 and all(sets.relations_equal(w, g) for w, g in zip(wanted, given, strict=True))


def _ratios(gold: str, answer: str) -> bool:
    sides = [[p.strip() for p in re.split(r":|\bto\b", plain(t.rpartition("=")[2]))] for t in (gold, answer)]
    if ":" not in gold or len(sides[0]) != len(sides[1]):
        return False
    return all(values_equal(w, g) for w, g in zip(*sides, strict=True))


def _matrices(gold: str, answer: str) -> bool | None:
    """Whether the matrices are equal; None if neither answer is one."""
    texts = [
        t.rpartition("=")[2].strip() if "begin{" in t and is_name(t.partition("=")[0]) else t for t in (gold, answer)
    ]
    wanted, given = shapes.parse_matrix(texts[0]), shapes.parse_matrix(texts[1])
    if wanted is None and given is None:
        return None
    if wanted is None or given is None or wanted[2] != given[2]:
        return False
    rows = [[[f"({m[0]})({c})" if m[0] else c for c in row] for row in m[1]] for m in (wanted, given)]
    return [len(r) for r in rows[0]] == [len(r) for r in rows[1]] and all(
        values_equal(w, g) for rw, rg in zip(*rows, strict=True) for w, g in zip(rw, rg, strict=True)
    )


def _cases(gold: str, answer: str) -> bool | None:
    texts = [t.partition("=")[2].strip() if is_name(t.partition("=")[0].strip()) else t for t in (gold, answer)]
    wanted, given = shapes.parse_cases(texts[0]), shapes.parse_cases(texts[1])
    if wanted is None and given is None:
        return None
    if wanted is None or given is None or len(wanted) != len(given):
        return False
    remaining = list(given)
    for value, condition in wanted:
        match = next((r for r in remaining if equivalent(value, r[0]) and equivalent(condition, r[1])), None)
        if match is None:
            return False
        remaining.remove(match)
    return True
