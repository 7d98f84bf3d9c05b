"""Write the demo's prompts: `python make_prompts.py [FOLDER]` makes the same five JSONL files every time.

Training files are `instruction`, `math`, `code` and `chinese`; `heldout` holds all four domains. A held-out
row says in `template_seen` whether its family is in the training files too, with other numbers and names. The first
rows of `heldout`, however many, hold all kinds in the whole file's proportions.
No prompt appears twice, in one file or across files.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import code_families
import handwritten
import math_families

Row = dict[str, object]
SEED = 20250304
MATH_TRAIN, MATH_SEEN, MATH_UNSEEN = 180, 90, 30
CODE_TRAIN, CODE_SEEN, CODE_UNSEEN = 100, 40, 20


def normalise(prompt: str) -> str:
    """What two prompts must not share: the text without case and spacing."""
    return " ".join(prompt.casefold().split())


def draw_rows(draw: Callable[[Random], Row], count: int, rng: Random, taken: set[str]) -> list[Row]:
    """`count` rows whose prompts are not in `taken` yet; adds them to it.

    Raises:
        RuntimeError: the family has too few different prompts.
    """
    rows: list[Row] = []
    for _ in range(200 * count):
        if len(rows) == count:
            break
        row = draw(rng)
        key = normalise(str(row["prompt"]))
        if key not in taken:
            taken.add(key)
            rows.append(row)
    if len(rows) < count:
        raise RuntimeError(f"only {len(rows)} of {count} different prompts: {draw}")
    return rows


def math_row(family: math_families.Family) -> Callable[[Random], Row]:
    def draw(rng: Random) -> Row:
        problem, gold = family(rng)
        prompt = problem + math_families.SUFFIX
        return {"domain": "math", "prompt": prompt, "template": f"math/{family.__name__}", "gold": str(gold)}

    return draw


def code_row(family: code_families.CodeFamily) -> Callable[[Random], Row]:
    def draw(rng: Random) -> Row:
        prompt, entry_point, solution = family.draw(rng)
        tests = code_families.assertions(entry_point, solution, family.inputs)
        row: Row = {"domain": "code", "prompt": prompt, "template": f"code/{family.name}"}
        return {**row, "tests": tests, "entry_point": entry_point}

    return draw


def written_rows(domain: str, prompts: tuple[str, ...], label: str) -> list[Row]:
    return [
        {"domain": domain, "prompt": prompt, "template": f"{domain}/{label}-{number:02d}"}
        for number, prompt in enumerate(prompts, 1)
    ]


def spread(draws: list[Callable[[Random], Row]], count: int, rng: Random, taken: set[str]) -> list[Row]:
    """`count` rows over the families as evenly as it goes, mixed."""
    share, rest = divmod(count, len(draws))
    rows = [row for number, draw in enumerate(draws) for row in draw_rows(draw, share + (number < rest), rng, taken)]
    rng.shuffle(rows)
    return rows


def proportional(groups: list[list[Row]]) -> list[Row]:
    """All rows, mixed so that the first ones, however many, come from the groups as all of them do."""
    places = [
        ((number + 0.5) / len(rows), group, row) for group, rows in enumerate(groups) for number, row in enumerate(rows)
    ]
    return [row for _, _, row in sorted(places, key=lambda place: place[:2])]


def make() -> dict[str, list[Row]]:
    """Rows of every file, by its name without suffix."""
    # One generator a domain, so that a change to one leaves the rows of the other as they are.
    sums, functions, taken = Random(SEED), Random(SEED + 1), set[str]()
    math_seen = [math_row(family) for family in math_families.SEEN]
    math_unseen = [math_row(family) for family in math_families.UNSEEN]
    code_seen = [code_row(family) for family in code_families.SEEN]
    code_unseen = [code_row(family) for family in code_families.UNSEEN]
    files = {
        "instruction": written_rows("instruction", handwritten.INSTRUCTION, "train"),
        "math": spread(math_seen, MATH_TRAIN, sums, taken),
        "code": spread(code_seen, CODE_TRAIN, functions, taken),
        "chinese": written_rows("chinese", handwritten.CHINESE, "train"),
    }
    held_out = [
        (True, spread(math_seen, MATH_SEEN, sums, taken)),
        (False, spread(math_unseen, MATH_UNSEEN, sums, taken)),
        (True, spread(code_seen, CODE_SEEN, functions, taken)),
        (False, spread(code_unseen, CODE_UNSEEN, functions, taken)),
        (False, written_rows("instruction", handwritten.INSTRUCTION_HELD_OUT, "heldout")),
        (False, written_rows("chinese", handwritten.CHINESE_HELD_OUT, "heldout")),
    ]
    files["heldout"] = proportional([[{**row, "template_seen": seen} for row in rows] for seen, rows in held_out])
    return {
        name: [{"id": f"{name}-{number:03d}", **row} for number, row in enumerate(rows, 1)]
        for name, rows in files.items()
    }


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, rows in make().items():
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
