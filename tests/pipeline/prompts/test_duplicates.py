"""Near duplicates: against the plain rule on exact sets, whatever the chunks; what is kept apart."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fusechat.pipeline.prompts import duplicates, text
from fusechat.pipeline.prompts.duplicates import Match, NearDuplicateIndex
from fusechat.pipeline.prompts.intake import Intake
from fusechat.pipeline.recipe import NearDuplicates, Prompts
from fusechat.pipeline.storage.run_dir import RunDir

VOCABULARY = [f"w{i}" for i in range(40)]
documents = st.lists(st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=30).map(" ".join), max_size=25)


def taken(texts: list[str], chunk: int, config: NearDuplicates | None = None, domain: str = "instruction") -> Any:
    index = NearDuplicateIndex(config or NearDuplicates())
    parts = [texts[i : i + chunk] for i in range(0, len(texts), chunk)]
    return [m for part in parts for m in index.add(part, [domain] * len(part))]


def jaccard(a: str, b: str, size: int) -> float:
    one, other = (set(duplicates.shingles(text.words(t), size)) for t in (a, b))
    return len(one & other) / len(one | other)


@settings(deadline=None, max_examples=40)
@given(documents, st.integers(1, 7))
def test_chunks_change_nothing(texts: list[str], chunk: int) -> None:
    assert taken(texts, chunk) == taken(texts, 1000)


@settings(deadline=None, max_examples=60)
@given(documents, st.sampled_from([0.4, 0.7, 0.9]), st.integers(1, 4))
def test_the_plain_rule_with_the_estimate_s_error(texts: list[str], threshold: float, shingle: int) -> None:
    """A reject's match is truly alike, within five standard errors; what is surely alike was found."""
    config = NearDuplicates(threshold=threshold, shingle=shingle)
    kept: list[str] = []
    for current, match in zip(texts, taken(texts, 6, config), strict=True):
        error = 5 * 0.5 / config.permutations**0.5
        if match is not None:
            assert jaccard(kept[match.row], current, shingle) >= threshold - error
            assert match.similarity >= threshold
        else:
            assert all(jaccard(k, current, shingle) < min(threshold + error, 1) for k in kept)
            kept.append(current)


def test_the_first_in_reading_order_stays_and_is_named() -> None:
    first = " ".join(f"word{i}" for i in range(60))
    assert taken(["other", first, first + " more", "Word0 " + first], 10) == [
        None,
        None,
        Match(row=1, similarity=pytest.approx(0.98, abs=0.05)),
        Match(row=1, similarity=pytest.approx(0.98, abs=0.05)),
    ]


def test_problems_with_other_numbers_are_others_where_the_recipe_says_so() -> None:
    texts = [f"A train of {n} cars goes from here to the town by the sea in an hour, how long is it?" for n in (3, 4)]
    assert taken(texts, 10, domain="math") == [None, None]
    assert taken(texts, 10, domain="instruction")[1] is not None
    assert taken(["Compute 3 + 4 now.", "Compute 3 - 4 now."], 10, domain="math") == [None, None]
    assert taken([texts[0], texts[0].upper()], 10, domain="math")[1] == Match(row=0, similarity=1.0)


def test_a_growing_index_forgets_nothing() -> None:
    drawn = random.Random(0)
    texts = [" ".join(drawn.choices([f"v{i}" for i in range(5000)], k=20)) for _ in range(3000)]
    found = taken(texts + texts, 700)
    assert found[:3000] == [None] * 3000
    assert found[3000:] == [Match(row=i, similarity=1.0) for i in range(3000)]


def test_a_phrase_that_all_prompts_share_costs_no_more_as_they_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of every prompt is the same: all share bands, none is a duplicate."""
    drawn = random.Random(0)
    phrase = " ".join(f"p{i}" for i in range(25))
    texts = [f"{phrase} {' '.join(drawn.choices([f'v{i}' for i in range(5000)], k=15))}" for _ in range(3000)]
    config = NearDuplicates(threshold=0.75)
    index, compared, costs = NearDuplicateIndex(config), [0], list[int]()
    best = NearDuplicateIndex._best

    def counting(self: NearDuplicateIndex, signature: Any, rows: list[int], numbers: int | None) -> Match | None:
        compared[0] += len(rows)
        return best(self, signature, rows, numbers)

    monkeypatch.setattr(NearDuplicateIndex, "_best", counting)
    for part in (texts[:1000], texts[1000:2000], texts[2000:]):
        compared[0] = 0
        assert index.add(part, ["instruction"] * 1000) == [None] * 1000
        costs.append(compared[0])
    assert 0 < costs[2] < 1.2 * costs[1]  # 5/3 if every row were compared


@given(st.floats(0.05, 1), st.integers(16, 512))
@settings(deadline=None, max_examples=50)
def test_bands_meet_the_recall_at_the_threshold(threshold: float, permutations: int) -> None:
    num, size = duplicates.bands(threshold, permutations)
    assert num * size <= permutations
    assert size == 1 or 1 - (1 - threshold**size) ** num >= duplicates.RECALL


@pytest.mark.parametrize("chunk", [1, 3, 512])
def test_the_intake_rejects_near_duplicates_and_says_what_they_match(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    from fusechat.pipeline.prompts import compared_rows

    monkeypatch.setattr(compared_rows, "BATCH_ROWS", chunk)
    long = " ".join(f"word{i}" for i in range(50))
    lines = [
        json.dumps({"id": "a", "domain": "instruction", "prompt": long}),
        "{broken",
        json.dumps({"id": "b", "domain": "chinese", "prompt": f"{long} and so on"}),
        '{"id": "c", "domain": "instruction", "prompt": "Another."}',
        json.dumps({"id": "d", "domain": "instruction", "prompt": f"held {long.replace('word', 'term')}"}),
        "[broken",
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(lines))
    (tmp_path / "held.jsonl").write_text(lines[0].replace("word", "term"))
    config = Prompts(
        train=("train.jsonl",), heldout=("held.jsonl",), near_duplicates=NearDuplicates(), invalid="reject"
    )
    run = RunDir(str(tmp_path / "run"))
    intake = Intake(config, tmp_path, run, 1, ())
    intake.read()
    assert sorted(intake.train.parts.read().column("id").to_pylist()) == ["a", "c"]
    rejects = run.read_table("prompts", "rejects.parquet").to_pylist()
    assert [(r["id"], r["reason"], r["domain"]) for r in rejects] == [
        ("train.jsonl:2", "malformed", None),
        ("train.jsonl:3", "near_duplicate", "chinese"),
        ("train.jsonl:5", "near_duplicate", "instruction"),
        ("train.jsonl:6", "malformed", None),
    ]
    assert rejects[1]["detail"].startswith("similarity 0.9")
    assert [r["detail"].split(" to ")[1] for r in rejects[1:3]] == ["train.jsonl:1", "held.jsonl:1"]
