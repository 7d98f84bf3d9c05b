"""Forms of judged suites: AlpacaEval, Arena-Hard, MT-Bench and AlignBench."""

from __future__ import annotations

from ...recipe import REFERENCE
from .form import FOLLOW_UP, Form, SetRow


def _alpaca_eval(raw: SetRow) -> SetRow:
    return {"domain": "instruction", "prompt": raw["instruction"], "reference": raw.get("output")}


def _arena_hard(raw: SetRow) -> SetRow:
    prompt = raw.get("prompt") or raw["turns"][0]["content"]
    return {"domain": "instruction", "prompt": prompt, "id": str(raw.get("uid") or raw["question_id"])}


def _mt_bench(raw: SetRow) -> SetRow:
    first, *more = raw["turns"]
    return {
        "domain": "instruction",
        "prompt": first,
        "id": str(raw["question_id"]),
        FOLLOW_UP: more[0] if more else None,
    }


def _align_bench(raw: SetRow) -> SetRow:
    kept = {"id": str(raw["question_id"]), REFERENCE: raw.get("reference") or None}
    return {"domain": "chinese", "prompt": raw["question"], **kept}


JUDGED: dict[str, Form] = {
    "alpaca_eval": Form(("instruction",), _alpaca_eval),
    "arena_hard": Form((), _arena_hard),
    "mt_bench": Form(("question_id", "turns"), _mt_bench),
    "align_bench": Form(("question_id", "question"), _align_bench),
}
"""Name of a judged form -> its format."""
