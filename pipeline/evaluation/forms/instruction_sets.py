"""The form of IFBench: instructions that the package ifbench checks."""

from __future__ import annotations

import json

from .set_form import RULE, Form, SetRow


def followed(raw: SetRow, prompt: str) -> str:
    """The gold of a row with instructions: JSON of their names and arguments, and of the prompt, which some need.

    Raises:
        ValueError: the names and arguments don't fit each other.
    """
    names, kwargs = list(raw["instruction_id_list"]), list(raw["kwargs"])
    if not names or len(names) != len(kwargs):
        raise ValueError(f"{len(names)} instructions and {len(kwargs)} kwargs")
    given = [{k: v for k, v in (each or {}).items() if v is not None} for each in kwargs]
    return json.dumps({"names": names, "kwargs": given, "prompt": prompt})


def _ifbench(raw: SetRow) -> SetRow:
    gold = followed(raw, raw["prompt"])
    return {"domain": "instruction", "id": str(raw["key"]), "prompt": raw["prompt"], "gold": gold, RULE: "ifbench"}


INSTRUCTIONS: dict[str, Form] = {"ifbench": Form(("key", "prompt", "instruction_id_list", "kwargs"), _ifbench)}
"""Name of a form with instructions to follow -> its format."""
