"""Local folders in the hub's form: read as they are now, whatever the library has cached."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from prompt_tables import OWN, refused, take

from fusechat.pipeline.errors import InputError

CARD = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n"
ENTRY: dict[str, Any] = {"hub": "set", "revision": "main", "columns": {"prompt": "q"}, **OWN}


@pytest.fixture(autouse=True)
def hub_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


def hub_folder(folder: Path, *texts: str, card: bool = True, file: str = "train-0.jsonl") -> None:
    (folder / "set" / "data").mkdir(parents=True, exist_ok=True)
    (folder / "set" / "data" / file).write_text("".join(json.dumps({"q": text}) + "\n" for text in texts))
    if card:
        (folder / "set" / "README.md").write_text(CARD)


def test_a_folder_with_configurations_is_read_anew_after_an_edit(tmp_path: Path) -> None:
    hub_folder(tmp_path, "Before?")
    assert take(tmp_path, ENTRY).texts == ["Before?"]
    hub_folder(tmp_path, "Behind?")  # as many bytes as before
    assert take(tmp_path, ENTRY).texts == ["Behind?"]


def test_two_folders_of_one_name_are_two_data_sets(tmp_path: Path) -> None:
    for name in ("one", "two"):
        hub_folder(tmp_path / name, f"{name}?")
    entries = [{**ENTRY, "hub": f"{name}/set"} for name in ("one", "two")]
    taken = take(tmp_path, *entries)
    assert taken.texts == ["one?", "two?"]
    assert len({prompt["id"] for prompt in taken.prompts}) == 2


def test_data_files_name_the_files_that_are_read(tmp_path: Path) -> None:
    hub_folder(tmp_path, "All?", file="all-0.jsonl", card=False)
    for i in range(2):
        hub_folder(tmp_path, f"Part {i}?", file=f"part-{i}.jsonl", card=False)
    assert take(tmp_path, {**ENTRY, "data_files": "data/part-*"}).texts == ["Part 0?", "Part 1?"]
    assert take(tmp_path, {**ENTRY, "data_files": "data/part-1.jsonl"}).texts == ["Part 1?"]


def test_data_files_that_match_nothing_are_told_in_one_line(tmp_path: Path) -> None:
    hub_folder(tmp_path, "A?")
    assert refused(tmp_path, {**ENTRY, "data_files": "none/*"}).startswith("set@main: the data set can't be loaded: ")


def test_the_columns_of_a_folder_are_checked_before_its_rows(tmp_path: Path) -> None:
    hub_folder(tmp_path, "A?")
    line = refused(tmp_path, {**ENTRY, "columns": {"prompt": "query"}})
    assert line == "set/train: no column 'query' (columns.prompt); there are q"


def test_a_card_with_broken_yaml_is_told_in_one_line(tmp_path: Path) -> None:
    hub_folder(tmp_path, "A?")
    (tmp_path / "set" / "README.md").write_text("---\nconfigs: [\n---\n")
    assert refused(tmp_path, ENTRY).startswith("set@main: its card (README.md) is not valid YAML: while parsing")


@pytest.mark.parametrize("configs", ["3", "[3]", "[{config_name: a}]", "{a: b}", "[{config_name: a, data_files: 3}]"])
def test_a_card_with_configurations_of_another_form_is_told_in_one_line(tmp_path: Path, configs: str) -> None:
    hub_folder(tmp_path, "A?")
    (tmp_path / "set" / "README.md").write_text(f"---\nconfigs: {configs}\n---\n")
    try:
        assert take(tmp_path, ENTRY).texts == ["A?"]
    except InputError as error:
        assert str(error).startswith("set@main: the data set can't be loaded: ")
        assert len(str(error).splitlines()) == 1


def test_nested_columns_of_a_folder_are_read_by_path(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    row = {"m": [{"role": "user", "content": "A?"}], "c": [{"source": "x", "text": "B."}]}
    (tmp_path / "set" / "train.jsonl").write_text(json.dumps(row) + "\n")
    entry = {
        **ENTRY,
        "columns": {"prompt": "m[0].content"},
        "response_rows": {"source": "c[].source", "response": "c[].text"},
    }
    assert take(tmp_path, entry, imported=["x"]).answers == [("x", "B.")]
