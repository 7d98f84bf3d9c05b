"""The form of LiveBench: many tasks, each with its own rule."""

from __future__ import annotations

import json

from .instruction_sets import followed
from .livecodebench import test_cases
from .set_form import BEGINNING, RULE, Dates, Form, SetRow, day
from .table_formats import read_table, target_format

RULE_OF_TASK = {
    "web_of_lies_v2": "three_words",
    "house_traversal": "names_in_order",
    "spatial": "bold_answer",
    "zebra_puzzle": "last_word",
    "connections": "word_groups",
    "plot_unscrambling": "sentence_order",
    "typos": "contains",
    "cta": "label",
    "tablejoin": "join_map",
    "olympiad": "number_list",
}
"""Task -> the rule that scores its answers."""


def task_of(raw: SetRow) -> str:
    """The row's task, or a family of tasks: contest_choice, contest_number, olympiad, amps_hard."""
    task, subtask = str(raw["task"]).lower(), str(raw.get("subtask") or raw["task"]).lower()
    first, _, rest = subtask.partition("_")
    if first in ("amc", "smc") or rest.startswith("amc"):
        return "contest_choice"
    if first == "aime":
        return "contest_number"
    if first in ("imo", "usamo"):
        return "olympiad"
    return "amps_hard" if "amps_hard" in f"{task} {subtask}" else task


def _livebench(raw: SetRow) -> SetRow:
    task, prompt = task_of(raw), raw["turns"][0]
    kept = {"id": str(raw["question_id"]), "prompt": prompt}
    if raw["category"] == "instruction_following":
        return {**kept, "domain": "instruction", "gold": followed(raw, prompt), RULE: "instructions_followed"}
    if task in ("lcb_generation", "coding_completion"):
        return {**kept, **_code(raw)}
    gold = raw["ground_truth"]
    gold = gold if isinstance(gold, str) else json.dumps(gold)
    if not gold.strip():
        raise ValueError("ground_truth is empty")
    if task == "amps_hard":
        return {**kept, "domain": "math", "gold": gold}
    if task == "tablereformat":
        kind = target_format(prompt)
        if not len(read_table(kind, gold)):
            raise ValueError("ground_truth has no rows")
        return {**kept, "domain": "instruction", "gold": gold, RULE: f"table_{kind}"}
    rule = RULE_OF_TASK.get(task, task if task.startswith("contest_") else None)
    if rule is None:
        raise ValueError(f"unknown task {raw['task']!r:.60}")
    return {**kept, "domain": "instruction", "gold": gold, RULE: rule}


def _code(raw: SetRow) -> SetRow:
    cases = test_cases(raw)
    function = json.loads(raw["original_json"]["metadata"]).get("func_name")
    beginning = raw.get("partial_solution")
    if not beginning and task_of(raw) == "coding_completion":
        raise ValueError("partial_solution is empty")
    return {"domain": "code", "tests": json.dumps(cases), "entry_point": function, BEGINNING: beginning or None}


def _left_out(raw: SetRow, dates: Dates) -> str | None:
    if dates.until is not None or dates.since is not None:
        released, removed = day(raw["livebench_release_date"]), raw.get("livebench_removal_date")
        if (dates.until and released > dates.until) or (dates.since and released < dates.since):
            return f"released on {released}"
        if removed and dates.until and day(removed) <= dates.until:
            return f"removed on {day(removed)}"
    return None


LIVEBENCH = Form(("question_id", "category", "task", "turns"), _livebench, left_out=_left_out)
"""The format of livebench/math, reasoning, language, data_analysis, coding and instruction_following."""
