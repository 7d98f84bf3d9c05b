"""Contamination of suites: a planted share is found to the last row, and nothing else is."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from fusechat.pipeline.evaluation import suite_contamination, suites
from fusechat.pipeline.prompts import rows
from fusechat.pipeline.recipe import JudgedSuite, Prompts, SuiteContamination
from fusechat.pipeline.records import OVERLAP, PROMPT
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

WORDS = [f"{a}{b}" for a in ("ta", "re", "mi", "so", "lu", "ka", "no", "pe") for b in ("n", "r", "st", "k", "lo", "m")]


def sentence(generator: random.Random, num: int = 30) -> str:
    return " ".join(generator.choice(WORDS) for _ in range(num))


def suite(folder: Path, contents: list[str], **changes: Any) -> suites.LoadedSuite:
    lines = [json.dumps({"id": f"s{i}", "domain": "instruction", "prompt": c}) for i, c in enumerate(contents)]
    (folder / "suite.jsonl").write_text("\n".join(lines))
    config = JudgedSuite(name="s", kind="judged", files=("suite.jsonl",), judge="j", baseline="target", **changes)
    return suites.load(config, folder, Prompts(train=("x",)))


def training(folder: Path, contents: list[str], num_buckets: int = 4) -> Parts:
    parts = Parts(RunDir(str(folder / "run")), "prompts/train", PROMPT, "prompt_id")
    found = []
    for i, content in enumerate(contents):
        row, _ = rows.prompt_row({"id": f"t{i}", "domain": "instruction", "prompt": content}, 10**6)
        found.append({**row, "file": "train.jsonl", "line": i + 1})
    parts.write_all(found, num_buckets)
    return parts


@pytest.mark.parametrize("ask", ["{prompt}", "{prompt}\n\nThink about it step by step and answer in one short line."])
def test_a_planted_overlap_of_5_percent_is_found_to_the_last_row(tmp_path: Path, ask: str) -> None:
    generator = random.Random(5)
    contents = [sentence(generator) for _ in range(400)]
    train = [sentence(generator, 40) for _ in range(2000)]
    planted = generator.sample(range(400), 20)
    where = generator.sample(range(2000), 20)
    for i, place in zip(planted, where, strict=True):
        words = contents[i].split()
        told = {
            0: contents[i],  # word for word
            1: contents[i].upper().replace(" ", ", "),
            2: f"{sentence(generator)} {contents[i]} {sentence(generator)}",
            3: " ".join(words[:24]),  # most of it
        }[place % 4]
        train[place] = told
    found = suite_contamination.find(
        [suite(tmp_path, contents, ask=ask)], training(tmp_path, train), 4, SuiteContamination()
    )
    assert {row["id"]: row["training"] for row in found["s"].values()} == {
        f"s{i}": f"train.jsonl:{place + 1}" for i, place in zip(planted, where, strict=True)
    }
    table = suite_contamination.table(list(found["s"].values()))
    assert (len(table), table.schema) == (20, OVERLAP)
    assert all(2 * row["num"] >= row["of"] for row in table.to_pylist())


def test_one_training_prompt_may_hold_many_rows(tmp_path: Path) -> None:
    generator = random.Random(1)
    contents = [sentence(generator) for _ in range(6)]
    contents += [contents[0].upper(), "Short?"]
    train = [" ".join(contents[:4]), "short", sentence(generator)]
    found = suite_contamination.find([suite(tmp_path, contents)], training(tmp_path, train), 4, SuiteContamination())
    assert {row["id"] for row in found["s"].values()} == {"s0", "s1", "s2", "s3", "s6", "s7"}


def test_threshold_and_a_clean_suite(tmp_path: Path) -> None:
    generator = random.Random(2)
    contents = [sentence(generator) for _ in range(3)]
    loaded = suite(tmp_path, contents)
    half = training(tmp_path, [" ".join(contents[0].split()[:18])])  # 11 of 23 runs of 8 words
    assert suite_contamination.find([loaded], half, 4, SuiteContamination(threshold=0.5)) == {}
    assert len(suite_contamination.find([loaded], half, 4, SuiteContamination(threshold=0.45))["s"]) == 1
    assert suite_contamination.find([], half, 4, SuiteContamination()) == {}
