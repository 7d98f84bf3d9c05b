"""Forms of judged suites: AlpacaEval, Arena-Hard, MT-Bench and AlignBench."""

from __future__ import annotations

from ...recipe import REFERENCE
from .set_form import CATEGORY, FOLLOW_UP, SUBCATEGORY, Form, SetRow


def _alpaca_eval(raw: SetRow) -> SetRow:
    return {"domain": "instruction", "prompt": raw["instruction"], REFERENCE: raw.get("output")}


def _arena_hard(raw: SetRow) -> SetRow:
    """v0.1 as first published (`question_id`, `turns`), as published since v2 (`uid`, `prompt`), and v2."""
    kept = {"id": str(raw.get("uid") or raw["question_id"]), CATEGORY: raw.get("category")}
    return {"domain": "instruction", "prompt": raw.get("prompt") or raw["turns"][0]["content"], **kept}


def _mt_bench(raw: SetRow) -> SetRow:
    """`reference` is a list with an answer for each turn. Most rows have none, on the hub an empty list."""
    first, *more = raw["turns"]
    return {
        "domain": "instruction",
        "prompt": first,
        "id": str(raw["question_id"]),
        FOLLOW_UP: more[0] if more else None,
        REFERENCE: raw.get("reference") or None,
        CATEGORY: raw.get("category"),
    }


def _align_bench(raw: SetRow) -> SetRow:
    kept = {"id": str(raw["question_id"]), REFERENCE: raw.get("reference") or None}
    categories = {CATEGORY: raw.get("category"), SUBCATEGORY: raw.get("subcategory")}
    return {"domain": "chinese", "prompt": raw["question"], **kept, **categories}


JUDGED: dict[str, Form] = {
    "alpaca_eval": Form(("instruction",), _alpaca_eval),
    "arena_hard": Form((), _arena_hard),
    "mt_bench": Form(("question_id", "turns"), _mt_bench),
    "align_bench": Form(("question_id", "question"), _align_bench),
}
"""Name of a judged form -> its format."""
