"""Contamination: compared with the plain rule, by n-grams of words and Chinese characters; reports of matches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from example_recipe import write_jsonl
from hypothesis import given, settings
from hypothesis import strategies as st
from prompt_tables import OWN, jsonl, refused, take

from fusechat.pipeline.errors import InputError
from fusechat.pipeline.prompts import contamination, text
from fusechat.pipeline.prompts.contamination import EvaluationIndex
from fusechat.pipeline.prompts.intake import Intake
from fusechat.pipeline.recipe import Contamination, Prompts, PromptTable
from fusechat.pipeline.storage.run_dir import RunDir

texts = st.lists(st.sampled_from("abcd"), min_size=1, max_size=14).map(" ".join)


def evaluation(contents: list[str], **config: Any) -> EvaluationIndex:
    found = EvaluationIndex(Contamination(**config))
    for number, content in enumerate(contents):
        found.add(content, f"e:{number}")
    found.close()
    return found


def runs(content: str, n: int) -> set[str]:
    words = text.words(content)
    return {" ".join(words[i : i + n]) for i in range(len(words) - n + 1)}


@settings(deadline=None)
@given(st.lists(texts, max_size=6), texts, st.integers(2, 4), st.sampled_from([0.3, 0.5, 1.0]))
def test_the_plain_rule(contents: list[str], prompt: str, n: int, threshold: float) -> None:
    found = evaluation(contents, n=n, threshold=threshold).overlap(prompt)
    shares = [len(runs(c, n) & runs(prompt, n)) / max(len(runs(c, n)), 1) for c in contents]
    if prompt in contents:
        assert found is not None
        assert (found.place, found.num) == (f"e:{contents.index(prompt)}", found.of)
    elif max(shares, default=0) >= threshold:
        best = shares.index(max(shares))
        assert found is not None
        assert (found.place, found.of) == (f"e:{best}", len(runs(contents[best], n)))
        assert found.num == len(runs(contents[best], n) & runs(prompt, n))
    else:
        assert found is None


def test_chinese_is_compared_by_characters() -> None:
    asked = "小明有三个苹果，他吃了一个，还剩几个苹果？"
    found = evaluation([asked], n=8)
    assert found.overlap(f"请回答下面的问题：{asked}谢谢") is not None
    assert found.overlap("小明有三个苹果，他的妹妹有两本书，他们一共读了多少页？") is None


def test_case_and_punctuation_hide_nothing() -> None:
    found = evaluation(["Janet's ducks lay 16 eggs per day; she eats three for breakfast every morning."])
    assert str(found.overlap("JANET'S DUCKS LAY 16 EGGS PER DAY SHE EATS THREE for breakfast every morning")) == (
        "8 of 8 n-grams of e:0 (1.00)"
    )


def test_a_phrase_that_a_whole_set_shares_is_no_contamination() -> None:
    phrase = "answer the question below with one letter and give no reason for it"
    asked = [f"{phrase} {w} {w}{w}" for w in (f"q{i}" for i in range(contamination.COMMON + 1))]
    found = evaluation(asked, n=4)
    assert found.overlap(f"{phrase} what is the capital of France") is None
    assert found.overlap(asked[7]) is not None
    assert evaluation(asked[:3], n=4).overlap(f"{phrase} what is the capital of France") is not None


def test_a_short_evaluation_prompt_is_found_where_it_is_all_there_is() -> None:
    found = evaluation(["What is love?"])
    assert str(found.overlap("what is love")) == "1 of 1 n-grams of e:0 (1.00)"
    assert found.overlap("Write a song that asks what is love and answers it") is None


def written(folder: Path, **config: Any) -> Any:
    """Reads three prompts: one contains an evaluation prompt, one a held-out prompt. Returns the rejects."""
    asked = "Janet's ducks lay 16 eggs per day and she eats three for breakfast every morning"
    held = "A robe takes two bolts of blue fibre and half that much white fibre, how many in all"
    rows = [
        {"id": "a", "domain": "instruction", "prompt": f"Solve this. {asked}. Be brief."},
        {"id": "b", "domain": "math", "gold": "3", "prompt": f"Please: {held}?"},
        {"id": "c", "domain": "instruction", "prompt": "Name a colour."},
    ]
    write_jsonl(folder / "train.jsonl", rows)
    (folder / "held.jsonl").write_text(json.dumps({"id": "h", "domain": "math", "gold": "3", "prompt": held}))
    (folder / "gsm8k.csv").write_text(f"question,answer\n,1\n{asked},18\n")
    sets = (PromptTable(path="gsm8k.csv", columns={"prompt": "question"}),)
    rules = Contamination(**{"sets": sets, **config})
    run = RunDir(str(folder / "run"))
    intake = Intake(Prompts(train=("train.jsonl",), heldout=("held.jsonl",), contamination=rules), folder, run, 1, ())
    intake.read()
    return run.read_table("prompts", "rejects.parquet").to_pylist()


def test_the_intake_lists_what_was_removed_with_what_it_matched(tmp_path: Path) -> None:
    found = written(tmp_path)
    assert [(r["id"], r["reason"], r["domain"], r["detail"]) for r in found] == [
        ("train.jsonl:1", "contaminated", "instruction", "holds 9 of 9 n-grams of gsm8k.csv:3 (1.00)"),
        ("train.jsonl:2", "contaminated", "math", "holds 11 of 11 n-grams of held.jsonl:1 (1.00)"),
    ]


def test_held_out_prompts_count_only_where_the_recipe_says_so(tmp_path: Path) -> None:
    assert [r["id"] for r in written(tmp_path, heldout=False)] == ["train.jsonl:1"]


def test_an_evaluation_set_that_cannot_be_read_whole_stops_the_run(tmp_path: Path) -> None:
    (tmp_path / "set.jsonl").write_text('{"prompt": "a"}\n{half')
    with pytest.raises(InputError, match=r"set\.jsonl:2: not JSON"):
        written(tmp_path, sets=("set.jsonl",))
    with pytest.raises(InputError, match=r"absent\.jsonl: prompt file not found"):
        written(tmp_path, sets=("absent.jsonl",))
    with pytest.raises(InputError, match=r"no column 'problem' \(columns\.prompt\); there are question, answer"):
        written(tmp_path, sets=(PromptTable(path="gsm8k.csv", columns={"prompt": "problem"}),))


def test_a_match_names_the_file_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "sets").mkdir()
    asked = "one two three four five six seven eight nine ten"
    write_jsonl(tmp_path / "sets" / "a.jsonl", [{"prompt": "nothing of that kind is in here at all"}])
    write_jsonl(tmp_path / "sets" / "b.jsonl", [{"prompt": asked}])
    train = jsonl(tmp_path, [{"q": asked}, {"q": "Something else?"}])
    table = {"path": train, "columns": {"prompt": "q"}, **OWN}
    taken = take(tmp_path, table, contamination={"sets": ["sets"]})
    rejects = [reject for reject in taken.rejects if reject["reason"] == "contaminated"]
    assert ["sets/b.jsonl:1" in reject["detail"] for reject in rejects] == [True]
    write_jsonl(tmp_path / "sets" / "b.jsonl", [{"prompt": 7}])
    line = refused(tmp_path, table, contamination={"sets": ["sets"]})
    assert line == "sets/b.jsonl:1: prompt must be a string, got int"
