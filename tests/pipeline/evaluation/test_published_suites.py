"""The verified suites that ship, on rows in their published formats: read, asked, and answers judged rightly."""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import example_recipe
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from http_server import QuietHandler, serve
from published_suites import (
    SETS,
    Case,
    livebench_completion,
    livebench_math,
    livebench_tables,
    livecodebench,
    mmlu_redux,
    packed,
)

from fusechat.pipeline.errors import InputError, StageError
from fusechat.pipeline.evaluation import item_tables, suite_items, suites
from fusechat.pipeline.evaluation.partial_solutions import completed
from fusechat.pipeline.recipe import Recipe, VerifiedSuite, load
from fusechat.pipeline.recipe.suite_collections import expanded
from fusechat.pipeline.verify import CheckTask, VerifierPool

NUM_ROWS = 10


def write(folder: Path, name: str, rows: Sequence[dict[str, Any]], ending: str) -> None:
    path = folder / f"{name}{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    if ending == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path)
    else:
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows), "utf-8")


def read(folder: Path, name: str, **changes: Any) -> suites.LoadedSuite:
    """The suite that ships, from local files."""
    evaluate = {"suites": name, "suite_files": "data", **changes}
    recipe = load.load(example_recipe.write_recipe(folder / "recipe.yaml", evaluate=evaluate))
    (suite,) = recipe.evaluate.suites
    assert isinstance(suite, VerifiedSuite)
    return suites.load(suite, folder, recipe.prompts)


def scores(found: suites.LoadedSuite, answers: Sequence[str]) -> list[float | None]:
    """The items' scores of these answers, by the verifiers and the rules."""
    prompts = {p["prompt_id"]: p for p in found.prompts}
    responses: Any = [
        {"response_id": i, "prompt_id": i, "text": text, "reject": "", "sample_index": 0, "finish_reason": "stop",
         "completion_tokens": 1}
        for i, text in zip(prompts, answers, strict=True)
    ]  # fmt: skip
    programs = completed(found.beginnings, responses)
    tasks = [
        CheckTask(r["response_id"], p["domain"], r["text"], p["gold"], p["tests"], p["entry_point"],
                  p["messages"][-1]["content"])
        for r, p in zip(programs, found.prompts, strict=True)
        if p["prompt_id"] not in found.rules
    ]  # fmt: skip
    with VerifierPool(2, sandbox="basic") as pool:
        verdicts: Any = {i: {"correct": v.correct, "verdict": v.reason} for i, v in pool.run(tasks)}
    ruled = suite_items.rule_scores(found, responses)
    return [item["score"] for item in item_tables.verified_items("s", "m", responses, prompts, verdicts, ruled)]


@pytest.fixture
def with_ifbench(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the package ifbench, which is no part of fusechat, with its interface and one instruction."""

    class Keyword:
        def __init__(self, name: str) -> None:
            assert name == "test:keyword"

        def build_description(self, *, keyword: str = "", prompt: str = "") -> None:
            self._keyword = keyword or self._keyword
            self._prompt = prompt

        def get_instruction_args(self) -> dict[str, str]:
            return {"keyword": self._keyword, "prompt": self._prompt}

        def check_following(self, text: str) -> bool:
            assert self._keyword in self._prompt
            return self._keyword in text

    package, registry = ModuleType("ifbench"), ModuleType("ifbench.instructions_registry")
    package.__spec__ = ModuleSpec("ifbench", None)
    registry.INSTRUCTION_DICT = {"test:keyword": Keyword}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ifbench", package)
    monkeypatch.setitem(sys.modules, "ifbench.instructions_registry", registry)


def letter_of(prompt: str, option: str) -> str:
    match = re.search(rf"^([A-J])\. {re.escape(option)}$", prompt, re.MULTILINE)
    assert match is not None
    return match[1]


def test_every_verified_suite_that_ships_is_tested_here() -> None:
    shipped = {s["name"] for c in ("fusechat3", "modern") for s in expanded(c) if s["kind"] == "verified"}
    assert shipped == SETS.keys()


@pytest.mark.usefixtures("with_ifbench")
@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize("name", SETS)
def test_rows_of_a_published_suite_are_judged_rightly(tmp_path: Path, name: str, ending: str) -> None:
    cases: list[Case] = []
    for file, make in SETS[name].items():
        made = [make(i) for i in range(1, NUM_ROWS + 1)]
        write(tmp_path / "data", file, [case.row for case in made], ending)
    for file in sorted(SETS[name]):  # the order in which a folder is read
        cases += [SETS[name][file](i) for i in range(1, NUM_ROWS + 1)]
    found = read(tmp_path, name)
    assert (len(found.prompts), found.rejects) == (len(cases), [])
    texts = [p["messages"][-1]["content"] for p in found.prompts]
    for right in (True, False):
        answers = [case.right if right else case.wrong for case in cases]
        if name == "gpqa_diamond":
            answers = [f"The answer is ({letter_of(t, a)})" for t, a in zip(texts, answers, strict=True)]
        assert scores(found, answers) == [float(right)] * len(cases), right


def test_gpqas_options_have_an_order_that_does_not_tell_the_answer(tmp_path: Path) -> None:
    rows = [SETS["gpqa_diamond"]["gpqa_diamond"](i).row for i in range(40)]
    write(tmp_path / "data", "gpqa_diamond", rows, ".jsonl")
    found = read(tmp_path, "gpqa_diamond")
    assert {p["gold"] for p in found.prompts} == set("ABCD")
    turned = [
        {**r, "Incorrect Answer 1": r["Incorrect Answer 3"], "Incorrect Answer 3": r["Incorrect Answer 1"]}
        for r in rows
    ]
    write(tmp_path / "data", "gpqa_diamond", turned, ".jsonl")
    assert read(tmp_path, "gpqa_diamond").identity == found.identity


def test_gpqas_own_file_is_csv(tmp_path: Path) -> None:
    row = SETS["gpqa_diamond"]["gpqa_diamond"](1).row
    (tmp_path / "data").mkdir()
    cells = [json.dumps(value) for value in row.values()]
    (tmp_path / "data" / "gpqa_diamond.csv").write_text(f"{','.join(row)}\n{','.join(cells)}\n", "utf-8")
    assert len(read(tmp_path, "gpqa_diamond").prompts) == 1


def test_faulty_questions_of_mmlu_redux_are_counted(tmp_path: Path) -> None:
    rows = [mmlu_redux(i).row for i in range(4)]
    rows[1]["error_type"] = "wrong_groundtruth"
    write(tmp_path / "data", "mmlu_redux", rows, ".jsonl")
    found = read(tmp_path, "mmlu_redux")
    assert len(found.prompts) == 3
    assert found.rejects == [("mmlu_redux.jsonl:2", "left_out", "error_type is 'wrong_groundtruth'")]


def test_livecodebench_takes_the_problems_of_its_window(tmp_path: Path) -> None:
    dates = ("2024-07-31T23:00:00", "2024-08-01T00:00:00", "2024-11-30T22:00:00", "2024-12-01T00:00:00")
    rows = [{**livecodebench(i).row, "contest_date": date} for i, date in enumerate(dates)]
    write(tmp_path / "data", "livecodebench", rows, ".jsonl")
    found = read(tmp_path, "livecodebench", suite_limit=1)
    assert [p["id"] for p in found.prompts] == ["abc1"]  # the limit counts what is taken
    found = read(tmp_path, "livecodebench")
    assert [p["id"] for p in found.prompts] == ["abc1", "abc2"]
    assert [r[1] for r in found.rejects] == ["left_out", "left_out"]


class _Bomb:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (pytest.fail, ("the pickle was loaded",))


@pytest.mark.parametrize(
    ("tests", "problem"),
    [
        (packed(_Bomb()), "must hold a text alone; the pickle has "),
        (packed([{"input": "", "output": ""}]), "must hold a text alone; the pickle has "),
        (packed("{}"), "private_test_cases must be a list of input and output"),
        ("AAAA", "private_test_cases can't be unpacked: "),
        ("no base64!", "private_test_cases can't be unpacked: "),
    ],
)
def test_private_tests_are_never_loaded_as_a_pickle(tmp_path: Path, tests: str, problem: str) -> None:
    assert pickle.loads(pickle.dumps("a")) == "a"
    write(tmp_path / "data", "livecodebench", [{**livecodebench(1).row, "private_test_cases": tests}], ".jsonl")
    with pytest.raises(InputError, match=f"livecodebench.jsonl:1: does not match the form livecodebench: .*{problem}"):
        read(tmp_path, "livecodebench")


def test_livebench_takes_the_questions_of_its_release(tmp_path: Path) -> None:
    rows = [livebench_math(i).row for i in (1, 5, 9, 13)]
    rows[1]["livebench_release_date"] = rows[0]["livebench_release_date"].replace(year=2025)
    rows[2]["livebench_removal_date"] = "2024-08-31"
    rows[3]["livebench_removal_date"] = "2024-11-25"
    write(tmp_path / "data", "livebench", rows, ".parquet")
    found = read(tmp_path, "livebench")
    assert [p["id"] for p in found.prompts] == ["math_comp-1", "math_comp-13"]
    assert [r[2] for r in found.rejects] == ["released on 2025-06-24", "removed on 2024-08-31"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({**livebench_math(5).row, "task": "juggling", "subtask": None}, "unknown task 'juggling'"),
        (
            {**livebench_tables(2).row, "turns": ["Convert it."]},
            "the question asks for none of the formats json",
        ),
        ({**livebench_tables(1).row, "ground_truth": "{"}, "no table in the format jsonl"),
        ({**livebench_tables(2).row, "ground_truth": "Name,Price"}, "ground_truth has no rows"),
        ({**livebench_completion(1).row, "partial_solution": ""}, "partial_solution is empty"),
    ],
)
def test_livebench_refuses_what_it_cannot_score(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    write(tmp_path / "data", "livebench", [row], ".jsonl")
    with pytest.raises(InputError, match=rf"livebench.jsonl:1: .*{problem}.* \(suite livebench\)"):
        read(tmp_path, "livebench")


def test_another_beginning_of_a_program_is_another_suite(tmp_path: Path) -> None:
    row = livebench_completion(2).row
    found = []
    for beginning in (row["partial_solution"], f"{row['partial_solution']}  # again"):
        write(tmp_path / "data", "livebench", [{**row, "partial_solution": beginning}], ".jsonl")
        found.append(read(tmp_path, "livebench").identity)
    assert found[0] != found[1]


KEYS = {
    "gsm8k": ["question", "answer"],
    "math": ["problem"],
    "amc23": ["answer"],
    "aime25": ["problem", "answer"],
    "humaneval": ["test", "entry_point"],
    "mbpp": ["test_list", "task_id"],
    "livecodebench": ["question_content", "private_test_cases", "contest_date"],
    "mmlu_pro": ["options", "answer"],
    "mmlu_redux": ["choices", "error_type"],
    "gpqa_diamond": ["Correct Answer", "Incorrect Answer 3"],
    "livebench": ["turns", "task", "livebench_release_date"],
    "ifbench": ["instruction_id_list", "kwargs"],
}
"""Suite -> keys that its rows need."""


@pytest.mark.parametrize(("name", "key"), [(name, key) for name, keys in KEYS.items() for key in keys])
def test_a_key_that_is_missing_is_named_with_suite_file_and_row(tmp_path: Path, name: str, key: str) -> None:
    make = next(iter(SETS[name].values()))
    second = {k: v for k, v in make(2).row.items() if k != key}
    write(tmp_path / "data", name, [make(1).row, second], ".jsonl")
    with pytest.raises(InputError) as error:
        read(tmp_path, name)
    assert f"{name}.jsonl:2: form" in str(error.value)
    assert f"needs the key '{key}' (suite {name})" in str(error.value)


def test_ifbench_without_its_package_says_how_to_get_it(tmp_path: Path) -> None:
    write(tmp_path / "data", "ifbench", [SETS["ifbench"]["ifbench"](1).row], ".jsonl")
    with pytest.raises(InputError, match=r"^suite ifbench: it needs the package ifbench: pip install git\+https"):
        read(tmp_path, "ifbench")


@pytest.mark.usefixtures("with_ifbench")
def test_a_check_that_fails_itself_gives_no_score_and_one_without_its_data_ends_the_evaluation(tmp_path: Path) -> None:
    rows = [SETS["ifbench"]["ifbench"](i).row for i in (1, 2)]
    rows[0]["kwargs"] = [{"keywords": "a"}]  # of another instruction
    write(tmp_path / "data", "ifbench", rows, ".jsonl")
    assert scores(read(tmp_path, "ifbench"), ["word1", "word2"]) == [None, 1.0]
    rows[0]["instruction_id_list"] = ["test:unknown"]
    write(tmp_path / "data", "ifbench", rows, ".jsonl")
    with pytest.raises(StageError, match=r"suite ifbench: no check: .*test:unknown"):
        scores(read(tmp_path, "ifbench"), ["word1", "word2"])


def test_a_suite_without_its_local_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(InputError, match=r"data: suite gsm8k: there is none of gsm8k.parquet, .*suite_files\)"):
        read(tmp_path, "gsm8k")


def test_a_hub_that_cannot_be_reached_names_the_suite_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    for name in ("gsm8k", "livecodebench"):
        with pytest.raises(
            InputError, match=f"suite {name}: .*; or put {name}.jsonl, .* set evaluate.suite_files"
        ) as error:
            read(tmp_path, name, suite_files=None)
        assert "\n" not in str(error.value)


def test_a_local_folder_in_the_hubs_form_is_read_as_the_hub_is(tmp_path: Path) -> None:
    rows = [SETS["gsm8k"]["gsm8k"](i).row for i in range(3)]
    write(tmp_path / "set", "test", rows, ".jsonl")
    suite = VerifiedSuite.model_validate({
        "name": "own", "kind": "verified", "form": "gsm8k",
        "files": [{"hub": "set", "revision": "main", "file": "test.jsonl"}],
    })  # fmt: skip
    recipe: Recipe = example_recipe.make_recipe()
    found = suites.load(suite, tmp_path, recipe.prompts)
    assert [(p["gold"], p["file"], p["line"]) for p in found.prompts][1] == ("1,001", "set/test.jsonl", 2)
    before = suites.fingerprints(suite, tmp_path)
    write(tmp_path / "set", "test", rows[:2], ".jsonl")
    assert suites.fingerprints(suite, tmp_path) != before


def test_a_file_at_an_address_is_fetched_once_and_read_in_its_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.DOWNLOADED_DATASETS_PATH", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    write(tmp_path, "rows", [SETS["gsm8k"]["gsm8k"](i).row for i in range(3)], ".parquet")
    content = (tmp_path / "rows.parquet").read_bytes()
    asked = []

    class Server(QuietHandler):
        def _answer(self, *, with_content: bool) -> None:
            found = self.path == "/a/rows.parquet"
            self.send_response(200 if found else 404)
            self.send_header("Content-Length", str(len(content) if found else 0))
            self.send_header("ETag", '"1"')
            self.end_headers()
            if found and with_content:
                asked.append(self.path)
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self._answer(with_content=False)

        def do_GET(self) -> None:
            self._answer(with_content=True)

    prompts = example_recipe.make_recipe().prompts
    with serve(Server) as url:
        for _ in range(2):
            suite = VerifiedSuite(name="own", kind="verified", form="gsm8k", files=(f"{url}/a/rows.parquet",))
            found = suites.load(suite, tmp_path, prompts)
            assert [(p["file"], p["line"]) for p in found.prompts] == [("rows.parquet", i) for i in (1, 2, 3)]
        assert asked == ["/a/rows.parquet"]
        assert suites.fingerprints(suite, tmp_path) == {"rows.parquet": f"{url}/a/rows.parquet"}
        monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
        assert len(suites.load(suite, tmp_path, prompts).prompts) == 3
        missing = suite.model_copy(update={"files": (f"{url}/b",)})
        with pytest.raises(InputError, match=r"/b: suite own: can't be fetched: .*; or put own.jsonl"):
            suites.load(missing, tmp_path, prompts)
