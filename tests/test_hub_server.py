"""The stand-in hub and its data sets, read by the real clients in processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hub_server import Hub, serve_hub
from published_sets import COMMITS, WRITERS, write_sets

COLUMNS = {
    "openbmb/UltraFeedback": "source instruction models completions correct_answers incorrect_answers",
    "Magpie-Align/Magpie-Pro-DPO-100K-v0.1": "uuid instruction gen_input_configs intent knowledge difficulty "
    "input_quality quality_explanation task_category input_length responses gen_response_configs rewards_armorm "
    "chosen rejected",
    "nvidia/HelpSteer2": "prompt response helpfulness correctness coherence complexity verbosity",
    "nvidia/OpenMathInstruct-2": "problem generated_solution expected_answer problem_source",
    "greengerong/leetcode": "id slug title difficulty content java c++ python javascript",
    "bigcode/self-oss-instruct-sc2-exec-filter-50k": "fingerprint sha1 seed response concepts prompt instruction id",
    "llamafactory/alpaca_gpt4_zh": "instruction input output",
    "Magpie-Align/Magpie-Qwen2-Pro-200K-Chinese": "uuid model gen_input_configs instruction response conversations "
    "task_category other_task_category task_category_generator difficulty intent knowledge difficulty_generator "
    "input_quality quality_explanation quality_generator llama_guard_2 reward_model instruct_reward "
    "min_neighbor_distance repeat_count min_similar_uuid instruction_length response_length language",
}
SPLITS = {
    "Magpie-Align/Magpie-Pro-DPO-100K-v0.1": {"train": 40, "test": 2},
    "nvidia/HelpSteer2": {"train": 40, "validation": 4},
    "nvidia/OpenMathInstruct-2": {"train": 54, "train_1M": 40, "train_2M": 42, "train_5M": 45},
}
MATHS = "nvidia/OpenMathInstruct-2"

LOAD_ALL = """
import json, sys
from datasets import load_dataset
for name, revision in json.loads(sys.argv[1]).items():
    splits = load_dataset(name, revision=revision)
    rows = next(iter(splits.values()))
    told = {"name": name, "splits": {k: len(v) for k, v in splits.items()}, "columns": rows.column_names}
    print(json.dumps(told | {"rows": rows.to_list(), "features": {k: str(v) for k, v in rows.features.items()}}))
"""
ASK = """
import huggingface_hub as hub
from huggingface_hub import errors
try:
    print({})
except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError) as error:
    cause = error if isinstance(error, errors.HfHubHTTPError) else error.__cause__
    print(type(cause).__name__, cause.response.status_code)
"""


def run(hub: Hub, home: Path, code: str, *args: str, token: str | None = None) -> str:
    command = [sys.executable, "-c", code, *args]
    done = subprocess.run(command, env=hub.env(home, token), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.removesuffix("\n")


def ask(hub: Hub, home: Path, expression: str, token: str | None = None) -> str:
    """What an expression of `huggingface_hub` (as `hub`) gives, or the error's name and the status."""
    return run(hub, home, ASK.format(expression), token=token)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, dict[str, Any]]]:
    """The eight sets as `load_dataset` gives them, each of its published commit, where that is known."""
    folder = tmp_path_factory.mktemp("sets")
    names = write_sets(folder / "root")
    with serve_hub(folder / "root") as hub:
        for name, sha in COMMITS.items():
            hub.commit(name, sha=sha)
        asked = json.dumps({name: COMMITS.get(name, "main") for name in names})
        told = [json.loads(line) for line in run(hub, folder / "home", LOAD_ALL, asked).splitlines()]
    yield {each["name"]: each for each in told}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub with a small data set and a small model."""
    for kind, name, file in [("datasets", "me/set", "a/b.jsonl"), ("models", "me/model", "config.json")]:
        path = tmp_path / "root" / kind / name / file
        path.parent.mkdir(parents=True)
        path.write_text('{"x": 1}\n')
    with serve_hub(tmp_path / "root") as served:
        yield served


@pytest.mark.parametrize("name", WRITERS)
def test_a_set_has_the_published_columns_and_splits(sets: dict[str, dict[str, Any]], name: str) -> None:
    assert sets[name]["columns"] == COLUMNS[name].split()
    assert sets[name]["splits"] == SPLITS.get(name, {"train": 40})


def test_types_of_nested_columns_are_the_published_ones(sets: dict[str, dict[str, Any]]) -> None:
    completions = sets["openbmb/UltraFeedback"]["features"]["completions"]
    assert "'fine-grained_score': Value('float64')" in completions
    assert "'Type': List(Value('string'))" in completions
    pairs = sets["Magpie-Align/Magpie-Pro-DPO-100K-v0.1"]["features"]
    assert pairs["chosen"] == "List({'content': Value('string'), 'role': Value('string')})"
    assert sets["bigcode/self-oss-instruct-sc2-exec-filter-50k"]["features"]["fingerprint"] == "Value('null')"


def test_rows_have_the_traits_that_matter(sets: dict[str, dict[str, Any]]) -> None:
    rows = {name.split("/")[1]: told["rows"] for name, told in sets.items()}
    ultra = rows["UltraFeedback"]
    assert len({row["source"] for row in ultra}) == 9
    assert len({row["instruction"] for row in ultra}) == 38, "two duplicates"
    assert {len(row["completions"]) for row in ultra} == {0, 1, 4}
    steer = rows["HelpSteer2"]
    assert all(first["prompt"] == second["prompt"] for first, second in zip(steer[::2], steer[1::2], strict=True))
    assert sum("\n<extra_id_1>Assistant\n" in row["prompt"] for row in steer) == 12
    exercises = rows["self-oss-instruct-sc2-exec-filter-50k"]
    assert sum("\n\nYour code should pass the following" in row["instruction"] for row in exercises) == 20
    assert sum("assert" in row["response"] for row in exercises) == 10
    assert sum(bool(row["input"]) for row in rows["alpaca_gpt4_zh"]) == 20
    assert len({row["instruction"] for row in rows["alpaca_gpt4_zh"]}) < 30, "the input makes the difference"
    leetcode = rows["leetcode"]
    assert all("**Input:** " in row["content"] and "```python\n" in row["python"] for row in leetcode)
    assert any(r"\[" in row["content"] for row in leetcode)
    assert {row["task_category"] for row in rows["Magpie-Qwen2-Pro-200K-Chinese"]} > {"Math", "Coding & Debugging"}


def test_no_prompt_is_in_two_sets(sets: dict[str, dict[str, Any]]) -> None:
    names = ("instruction", "prompt", "problem", "content")
    prompts = []
    for told in sets.values():
        column = next(name for name in names if name in told["columns"])
        prompts += {row[column] + row.get("input", "") for row in told["rows"]}
    assert len(set(prompts)) == len(prompts)


def test_some_solutions_of_a_problem_are_wrong_and_some_right(tmp_path: Path) -> None:
    WRITERS[MATHS](tmp_path, 40)
    rows = pl.read_parquet(tmp_path / "data" / "train_1M-*").to_dicts()
    right: dict[str, list[bool]] = {}
    for row in rows:
        boxed = rf"\boxed{{{row['expected_answer']}}}"
        right.setdefault(row["problem"], []).append(boxed in row["generated_solution"])
    assert [sum(each) for each in right.values()] == [3, 4] * 5


def test_a_branch_means_a_commit_until_it_is_moved(hub: Hub, tmp_path: Path) -> None:
    load = "from datasets import load_dataset as l; print(l('me/set', revision='{}')['train'][0])"
    first = hub.commit("me/set", sha="a" * 40)
    assert run(hub, tmp_path / "1", load.format("main")) == "{'x': 1}"
    (hub.root / "datasets/me/set/a/b.jsonl").write_text('{"x": 2}\n')
    assert run(hub, tmp_path / "2", load.format("main")) == "{'x': 1}", "not committed"
    second = hub.commit("me/set")
    assert ask(hub, tmp_path, "hub.dataset_info('me/set', revision='main').sha") == second
    assert run(hub, tmp_path / "1", load.format("main")) == "{'x': 2}"
    assert run(hub, tmp_path / "3", load.format(first)) == "{'x': 1}"


def test_files_of_data_sets_and_models_are_listed_and_fetched(hub: Hub, tmp_path: Path) -> None:
    tree = "[(e.path, getattr(e, 'size', None)) for e in hub.list_repo_tree('me/set', {}repo_type='dataset')]"
    assert ask(hub, tmp_path, tree.format("")) == "[('a', None)]"
    assert ask(hub, tmp_path, tree.format("recursive=True, ")) == "[('a', None), ('a/b.jsonl', 9)]"
    assert ask(hub, tmp_path, tree.format("'a', ")) == "[('a/b.jsonl', 9)]"
    paths = "[e.path for e in hub.HfApi().get_paths_info('me/set', ['a', 'no'], repo_type='dataset')]"
    assert ask(hub, tmp_path, paths) == "['a']"
    file = ask(hub, tmp_path, "hub.hf_hub_download('me/set', 'a/b.jsonl', repo_type='dataset')")
    assert Path(file).read_text() == '{"x": 1}\n'
    snapshot = ask(hub, tmp_path, "hub.snapshot_download('me/model')")
    assert [f.name for f in Path(snapshot).iterdir()] == ["config.json"]
    assert ("GET", "/me/model/resolve/" + Path(snapshot).name + "/config.json") in hub.requests


def test_a_part_of_a_file_is_fetched_alone(hub: Hub, tmp_path: Path) -> None:
    part = "hub.HfFileSystem().cat_file('datasets/me/set/a/b.jsonl', {})"
    assert ask(hub, tmp_path, part.format("start=5")) == r"""b' 1}\n'"""
    assert ask(hub, tmp_path, part.format("start=1, end=4")) == """b'"x"'"""


def test_a_long_file_is_served_from_its_folder(hub: Hub, tmp_path: Path) -> None:
    weights = bytes(range(256)) * 100_000
    (hub.root / "models/me/model/model.safetensors").write_bytes(weights)
    file = ask(hub, tmp_path, "hub.hf_hub_download('me/model', 'model.safetensors')")
    assert Path(file).read_bytes() == weights
    part = "hub.HfFileSystem().cat_file('me/model/model.safetensors', start=25_000_000, end=25_000_003)"
    assert ask(hub, tmp_path, part) == repr(weights[25_000_000:25_000_003])


def test_a_file_that_ends_too_early_is_not_taken(hub: Hub, tmp_path: Path) -> None:
    hub.cut.add("me/model")
    code = (
        "import huggingface_hub as h, time; time.sleep = lambda s: None; h.hf_hub_download('me/model', 'config.json')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=hub.env(tmp_path), capture_output=True, text=True)
    assert done.returncode != 0
    assert not list((tmp_path / "hub").rglob("config.json"))


def test_what_is_not_there_is_refused_as_the_hub_does(hub: Hub, tmp_path: Path) -> None:
    assert ask(hub, tmp_path, "hub.model_info('me/none')") == "RepositoryNotFoundError 401"
    assert ask(hub, tmp_path, "hub.model_info('me/none')", token="t") == "RepositoryNotFoundError 404"
    assert ask(hub, tmp_path, "hub.model_info('me/model', revision='v2')") == "RevisionNotFoundError 404"
    assert ask(hub, tmp_path, "hub.hf_hub_download('me/model', 'no')") == "RemoteEntryNotFoundError 404"


def test_files_of_a_gated_repository_need_its_token(hub: Hub, tmp_path: Path) -> None:
    hub.gated["me/model"] = "hf_right"
    assert ask(hub, tmp_path, "hub.model_info('me/model').gated") == "manual"
    snapshot = "hub.snapshot_download('me/model')"
    assert ask(hub, tmp_path, snapshot) == "GatedRepoError 401"
    assert ask(hub, tmp_path, snapshot, token="hf_wrong") == "GatedRepoError 403"
    assert Path(ask(hub, tmp_path, snapshot, token="hf_right")).is_dir()


def test_a_commit_is_forty_hex_digits(hub: Hub) -> None:
    with pytest.raises(ValueError, match="40 hex digits"):
        hub.commit("me/set", sha="main")
