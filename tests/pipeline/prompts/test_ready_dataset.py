"""Ready SFT rows and pairs: the published forms, what is rejected, and what is written."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from http_server import QuietHandler, serve

from fusechat.pipeline.errors import InputError
from fusechat.pipeline.identities import prompt_id
from fusechat.pipeline.prompts import ready_rows, text
from fusechat.pipeline.prompts.readers import Line
from fusechat.pipeline.prompts.ready_dataset import ReadyImport, ReadyTable
from fusechat.pipeline.prompts.unusable import UnusableError
from fusechat.pipeline.recipe import DatasetKind, DatasetTable, Normalise, ReadyDataset
from fusechat.pipeline.records import IMPORTED_PAIR, IMPORTED_SFT_ROW, PROMPT, Message
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "What is 2 + 2?"}
GOOD = {"role": "assistant", "content": "4"}
BAD = {"role": "assistant", "content": "5"}
ASKED, ANSWERED = {"from": "human", "value": "What is 2 + 2?"}, {"from": "gpt", "value": "4"}
EARLIER = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def importer(heldout: Collection[str] = ()) -> ReadyImport:
    def normalise(content: str) -> str | None:
        return text.normalise(content, Normalise(control="reject"))

    return ReadyImport("small", heldout, normalise, lambda messages: "instruction")


def imported(kind: DatasetKind, rows: list[Any], table: DatasetTable | None = None, **options: Any) -> ReadyImport:
    """An import of these rows."""
    ready = importer(**options)
    table = table or DatasetTable(path="t.jsonl")
    ready.read(ReadyTable(kind, table, numbered(table, rows)))
    return ready


def numbered(table: DatasetTable, rows: Sequence[Any]) -> list[Line]:
    """The rows as lines of the table's file; a text is why a line contains none."""
    return [
        Line(table.name, table.name, number, UnusableError("malformed", row) if isinstance(row, str) else row)
        for number, row in enumerate(rows, start=1)
    ]


def reasons(ready: ReadyImport) -> list[str]:
    return [row["reason"] for row in ready.rejects]


SFT_FORMS: dict[str, tuple[dict[str, Any], list[dict[str, str]]]] = {
    # FuseAI/FuseChat-3.0-SFT-Data
    "fusechat": (
        {"dataset": "openmathinstruct2", "source_model": "Qwen2.5-72B-Instruct", "conversations": [ASKED, ANSWERED]},
        [USER],
    ),
    # HuggingFaceH4/ultrafeedback_binarized, train_sft
    "ultrafeedback": (
        {"prompt": "What is 2 + 2?", "prompt_id": "x", "messages": [USER, GOOD], "chosen": [USER, GOOD],
         "rejected": [USER, BAD], "score_chosen": 8.0, "score_rejected": 2.0},
        [USER],
    ),
    "llamafactory_sharegpt": ({"conversations": [ASKED, ANSWERED], "system": "Be brief."}, [SYSTEM, USER]),
    "llamafactory_alpaca": (
        {"instruction": "What is", "input": "2 + 2?", "output": "4", "history": [["Hi", "Hello"]],
         "system": "Be brief."},
        [SYSTEM, *EARLIER, {"role": "user", "content": "What is\n2 + 2?"}],
    ),
    "alpaca_without_input": ({"instruction": "What is 2 + 2?", "input": "", "output": "4"}, [USER]),
    "trl_standard": ({"prompt": "What is 2 + 2?", "completion": "4"}, [USER]),
    "trl_conversational": ({"prompt": [SYSTEM, USER], "completion": [GOOD]}, [SYSTEM, USER]),
    "trl_messages": ({"messages": [SYSTEM, *EARLIER, USER, GOOD]}, [SYSTEM, *EARLIER, USER]),
    "one_list_a_key": ({"conversations": {"from": ["human", "gpt"], "value": ["What is 2 + 2?", "4"]}}, [USER]),
}  # fmt: skip
PAIR_FORMS: dict[str, tuple[dict[str, Any], list[dict[str, str]]]] = {
    # FuseAI/FuseChat-3.0-DPO-Data
    "fusechat": (
        {"dataset": "openmathinstruct2", "source_model": "Qwen2.5-72B-Instruct", "prompt": [USER], "chosen": [GOOD],
         "rejected": [BAD]},
        [USER],
    ),
    # HuggingFaceH4/ultrafeedback_binarized, train_prefs
    "ultrafeedback": (
        {"prompt": "What is 2 + 2?", "prompt_id": "x", "messages": [USER, GOOD], "chosen": [USER, GOOD],
         "rejected": [USER, BAD], "score_chosen": 8.0, "score_rejected": 2.0},
        [USER],
    ),
    "llamafactory_sharegpt": (
        {"conversations": [ASKED], "chosen": ANSWERED, "rejected": {"from": "gpt", "value": "5"},
         "system": "Be brief."},
        [SYSTEM, USER],
    ),
    "llamafactory_alpaca": ({"instruction": "What is", "input": "2 + 2?", "chosen": "4", "rejected": "5"},
                            [{"role": "user", "content": "What is\n2 + 2?"}]),
    "trl_standard": ({"prompt": "What is 2 + 2?", "chosen": "4", "rejected": "5"}, [USER]),
    "trl_conversational": ({"prompt": [SYSTEM, USER], "chosen": [GOOD], "rejected": [BAD]}, [SYSTEM, USER]),
    "trl_without_prompt": ({"chosen": [*EARLIER, USER, GOOD], "rejected": [*EARLIER, USER, BAD]}, [*EARLIER, USER]),
}  # fmt: skip


@pytest.mark.parametrize("name", SFT_FORMS)
def test_each_published_form_of_sft_rows_is_recognized(name: str) -> None:
    raw, prompt = SFT_FORMS[name]
    ready = imported("sft", [raw])
    (row,) = ready.sft.values()
    assert row["prompt"] == prompt
    assert row["completion"] == [GOOD]
    assert row["prompt_id"] == prompt_id([Message(role=m["role"], content=m["content"]) for m in prompt])
    assert row["source"] == raw.get("source_model", "imported")
    assert not ready.rejects


@pytest.mark.parametrize("name", PAIR_FORMS)
def test_each_published_form_of_pairs_is_recognized(name: str) -> None:
    raw, prompt = PAIR_FORMS[name]
    ready = imported("pairs", [raw])
    (row,) = ready.pairs.values()
    assert (row["prompt"], row["chosen"], row["rejected"]) == (prompt, [GOOD], [BAD])
    assert row["margin"] == (6.0 if "score_chosen" in raw else None)
    assert row["source"] == raw.get("source_model", "imported")


@pytest.mark.parametrize("name", SFT_FORMS)
def test_a_form_reads_the_same_from_parquet_as_from_jsonl(tmp_path: Path, name: str) -> None:
    raw, _ = SFT_FORMS[name]
    (tmp_path / "rows.jsonl").write_text(json.dumps(raw) + "\n")
    (tmp_path / "rows.json").write_text(json.dumps([raw], indent=1))
    pq.write_table(pa.Table.from_pylist([raw]), tmp_path / "rows.parquet")
    found = []
    for file in ("rows.jsonl", "rows.json", "rows.parquet"):
        ready = importer()
        table = DatasetTable(path=file)
        ready.read(ReadyTable("sft", table, ready_rows.reader(table, tmp_path).lines()))
        found.append(list(ready.sft.values()))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 1


@pytest.mark.parametrize(
    "turn",
    [
        {"from": "Human", "value": "What is 2 + 2?"},
        {"role": "user", "content": [{"type": "text", "text": "What is "}, {"type": "text", "text": "2 + 2?"}]},
        {"role": None, "content": None, "from": "human", "value": "What is 2 + 2?"},  # Parquet has every key in each
    ],
    ids=["capital", "parts", "null"],
)
def test_turns_are_read_as_in_prompt_files(turn: dict[str, Any]) -> None:
    (row,) = imported("sft", [{"messages": [turn, {"role": "Assistant", "content": "4"}]}]).sft.values()
    assert (row["prompt"], row["completion"]) == ([USER], [GOOD])


def test_the_detail_of_a_turn_that_cannot_be_used_names_its_field() -> None:
    good = {"prompt": "a", "chosen": "4", "rejected": "5"}
    (reject,) = imported("pairs", [good, {**good, "chosen": [USER, {"role": "assistant"}]}]).rejects
    assert reject["detail"].startswith("chosen[1] has no content")


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("sft", {"prompt": "What is 2 + 2?", "completion": "4"}),
        ("sft", {"messages": [USER, GOOD]}),
        ("sft", {"messages": [SYSTEM, USER, GOOD]}),
        ("pairs", {"prompt": [USER], "chosen": "4", "rejected": "5"}),
        ("pairs", {"prompt": [SYSTEM, USER], "chosen": "4", "rejected": "5"}),
        ("pairs", {"chosen": [USER, GOOD], "rejected": [USER, BAD]}),
        ("pairs", {"chosen": [SYSTEM, USER, GOOD], "rejected": [SYSTEM, USER, BAD]}),
    ],
)
def test_a_system_column_is_the_first_turn_unless_there_is_a_system_turn(
    kind: DatasetKind, raw: dict[str, Any]
) -> None:
    has_system = "Be brief." in json.dumps(raw)
    ready = imported(kind, [{**raw, "system": "Be kind." if has_system else "Be brief."}])
    assert [row["prompt"] for row in (*ready.sft.values(), *ready.pairs.values())] == [[SYSTEM, USER]]


SFT = {"prompt": "What is 2 + 2?", "completion": "4"}


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("sft", {"completion": "  "}, "empty_response"),
        ("sft", {"completion": None}, "missing"),
        ("sft", {"completion": 4}, "wrong_type"),
        ("sft", {"completion": []}, "no_response"),
        ("sft", {"prompt": "  "}, "empty"),
        ("sft", {"prompt": "a\x07b"}, "control_character"),
        ("sft", {"prompt": [USER, GOOD]}, "no_user_turn"),
        ("sft", {"prompt": [SYSTEM]}, "no_user_turn"),
        ("sft", {"prompt": [{"role": "narrator", "content": "x"}]}, "unknown_role"),
        ("sft", {"prompt": [{"role": "tool", "content": "x"}]}, "tool_turn"),
        ("sft", {"prompt": [USER, {**GOOD, "content": "", "tool_calls": [{"id": "a"}]}, USER]}, "tool_turn"),
        ("sft", {"prompt": [{"role": "user", "content": None}]}, "no_content"),
        ("sft", {"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "not_text"),
        ("sft", {"prompt": ["x"]}, "wrong_type"),
        ("sft", {"completion": "\ud800"}, "not_unicode"),
        ("sft", {"score": "much"}, "wrong_type"),
        ("sft", {"score": float("inf")}, "wrong_type"),
        ("sft", {"source": ["x"]}, "wrong_type"),
        ("pairs", {"rejected": "4"}, "same_texts"),
        ("pairs", {"rejected": "4 \n"}, "same_texts"),
        ("pairs", {"rejected": ""}, "empty_response"),
        ("pairs", {"prompt": None}, "missing"),
        ("pairs", {"chosen": [USER, GOOD], "rejected": [SYSTEM, USER, BAD]}, "different_prompts"),
        ("pairs", {"chosen": [USER], "rejected": [USER, BAD]}, "no_response"),
    ],
)
def test_a_row_that_cannot_be_used_is_rejected_with_its_reason(
    kind: DatasetKind, change: dict[str, Any], reason: str
) -> None:
    usable = SFT if kind == "sft" else {"prompt": "What is 2 + 2?", "chosen": "4", "rejected": "5"}
    ready = imported(kind, [usable, {**usable, "prompt": "Another?", **change}])
    assert len(ready.sft) + len(ready.pairs) == 1
    (reject,) = ready.rejects
    assert (reject["id"], reject["reason"]) == ("t.jsonl:2", reason)


@pytest.mark.parametrize("none", [None, "", float("nan")])
def test_a_row_without_a_score_is_kept(none: Any) -> None:
    (row,) = imported("sft", [{**SFT, "score": none}]).sft.values()
    assert row["reward"] is None
    pair = {"prompt": "a", "chosen": "4", "rejected": "5", "score_chosen": 2, "score_rejected": none}
    (kept,) = imported("pairs", [pair]).pairs.values()
    assert (kept["chosen_reward"], kept["rejected_reward"], kept["margin"]) == (2.0, None, None)


def test_the_same_row_twice_is_a_duplicate_and_another_response_is_not() -> None:
    ready = imported("sft", [SFT, SFT, {**SFT, "completion": "four"}])
    assert [row["completion"][0]["content"] for row in ready.sft.values()] == ["4", "four"]
    assert reasons(ready) == ["duplicate"]


def test_a_held_out_prompt_is_rejected_even_if_only_its_trailing_space_differs() -> None:
    heldout = {prompt_id([Message(role="user", content="What is 2 + 2?")])}
    ready = imported("sft", [{**SFT, "prompt": "What is 2 + 2? \n"}, {**SFT, "prompt": "Another?"}], heldout=heldout)
    assert reasons(ready) == ["heldout"]


@pytest.mark.parametrize(
    ("kind", "rows", "table", "says"),
    [
        ("sft", [{"question": "a", "answer": "b"}], {}, "the columns question, answer fit no form"),
        ("sft", [{**SFT, "messages": [USER, GOOD]}], {}, "fit the forms trl, messages; set form"),
        (
            "pairs",
            [{"prompt": "a", "conversations": [], "chosen": "b", "rejected": "c"}],
            {},
            "trl, sharegpt; set form",
        ),
        ("pairs", [SFT], {"form": "messages"}, "form messages has no pairs; allowed: trl, sharegpt, alpaca"),
        ("sft", [SFT], {"form": "alpaca"}, "form alpaca needs the column 'instruction'; there are prompt, completion"),
        ("sft", [SFT], {"columns": {"prompt": "question"}}, "no column 'question' (columns.prompt); there are prompt"),
        ("sft", [], {}, "empty: there is no row"),
        ("sft", ["not JSON: x"], {}, "not JSON: x"),
        ("sft", [{**SFT, "completion": ""}] * 2, {}, "no usable row (2 empty_response): a response is empty"),
    ],
)
def test_a_table_that_cannot_be_used_stops_the_run_in_one_line(
    kind: DatasetKind, rows: list[Any], table: dict[str, Any], says: str
) -> None:
    with pytest.raises(InputError) as caught:
        imported(kind, rows, DatasetTable(path="t.jsonl", **table))
    assert f"t.jsonl: dataset.{kind}: " in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_columns_form_source_and_domain_of_the_recipe_are_used() -> None:
    table = DatasetTable(
        path="t.jsonl",
        form="trl",
        columns={"prompt": "q", "completion": "a", "score": "grade"},
        source="gpt",
        domain="math",
    )
    ready = imported("sft", [{"q": "1 + 1", "a": "2", "grade": "0.5", "messages": "other"}], table)
    (row,) = ready.sft.values()
    assert (row["source"], row["domain"], row["reward"]) == ("gpt", "math", 0.5)


def test_every_row_is_written_or_rejected_and_the_counts_add_up(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    ready = imported("sft", [SFT, SFT, {**SFT, "prompt": "b"}])
    pair = {"prompt": "b", "chosen": "x", "rejected": "y", "chosen_reward": 0.3, "rejected_reward": 0.2}
    table = DatasetTable(path="p.jsonl")
    ready.read(ReadyTable("pairs", table, numbered(table, [pair, "not JSON"])))
    counts = ready.write(run, 4)
    assert counts == {"sft": 2, "pairs": 1, "rejected": 2, "duplicate": 1, "malformed": 1}
    funnel = run.read_json("select", "funnel.json")
    assert funnel["num_prompts"] == sum(funnel["reasons"].values()) == 5
    assert funnel["unit"] == "rows"
    assert run.read_table("select", "sft.parquet").schema == IMPORTED_SFT_ROW
    pairs = run.read_table("select", "pairs.parquet")
    assert pairs.schema == IMPORTED_PAIR
    assert pairs.column("margin").to_pylist() == [0.1]
    assert Counter(run.read_table("select", "outcomes.parquet").column("reason").to_pylist()) == {
        "selected_sft": 1,
        "selected_both": 1,
    }
    assert len(Parts(run, "select/prompts", PROMPT, "prompt_id").ids()) == 2
    rejects = run.read_table("select", "rejects.parquet").to_pylist()
    assert [(r["id"], r["reason"]) for r in rejects] == [("p.jsonl:2", "malformed"), ("t.jsonl:2", "duplicate")]


@pytest.mark.parametrize("files", [["a.jsonl", "b.jsonl"], ["a.jsonl.gz", "b.csv"], ["a.json", "b.parquet"]])
def test_shards_in_a_folder_are_read_in_order_and_named_in_rejects(tmp_path: Path, files: list[str]) -> None:
    bad = {"prompt": "b", "completion": " "}
    for file, rows in zip(files, ([SFT], [bad, {**SFT, "prompt": "c"}]), strict=True):
        path = tmp_path / "shards" / file
        path.parent.mkdir(exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        if file.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist(rows), path)
        elif file.endswith(".csv"):
            path.write_text("prompt,completion\n" + "".join(f"{r['prompt']},{r['completion']}\n" for r in rows))
        elif file.endswith(".gz"):
            path.write_bytes(gzip.compress(lines.encode()))
        else:
            path.write_text(json.dumps(rows) if file.endswith(".json") else lines)
    table = DatasetTable(path="shards")
    ready = importer()
    ready.read(ReadyTable("sft", table, ready_rows.reader(table, tmp_path).lines()))
    assert [row["prompt"][0]["content"] for row in ready.sft.values()] == ["What is 2 + 2?", "c"]
    assert [(r["id"], r["reason"]) for r in ready.rejects] == [
        (f"shards/{files[1]}:{2 if '.csv' in files[1] else 1}", "empty_response")
    ]


def test_shards_of_a_pattern_are_named_by_their_place(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "rows.jsonl").write_text(json.dumps(SFT) + "\n" + json.dumps({**SFT, "completion": ""}))
    table = DatasetTable(path="*/rows.jsonl")
    ready = importer()
    ready.read(ReadyTable("sft", table, ready_rows.reader(table, tmp_path).lines()))
    assert [(r["id"], r["reason"]) for r in ready.rejects] == [
        ("a/rows.jsonl:2", "empty_response"),
        ("b/rows.jsonl:1", "duplicate"),
        ("b/rows.jsonl:2", "empty_response"),
    ]
    assert [row["file"] for row in ready.prompts.values()] == ["a/rows.jsonl"]


def test_an_empty_cell_is_an_empty_text_or_a_missing_score(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,completion,score\nA?,b,\nB?,,1\n,c,1\n")
    table = DatasetTable(path="rows.csv")
    ready = importer()
    ready.read(ReadyTable("sft", table, ready_rows.reader(table, tmp_path).lines()))
    assert [row["reward"] for row in ready.sft.values()] == [None]
    assert [(r["id"], r["reason"]) for r in ready.rejects] == [
        ("rows.csv:3", "empty_response"),
        ("rows.csv:4", "empty"),
    ]


def test_a_file_is_a_table_and_the_recipe_is_written_as_it_was() -> None:
    table = DatasetTable(path="b.jsonl", form="trl")
    dataset = ReadyDataset(sft=("a.jsonl", table), pairs=("c.jsonl",))
    assert dataset.tables == (
        ("sft", DatasetTable(path="a.jsonl")),
        ("sft", table),
        ("pairs", DatasetTable(path="c.jsonl")),
    )
    assert dataset.model_dump() == {"sft": ("a.jsonl", table.model_dump()), "pairs": ("c.jsonl",)}


def test_no_more_rows_are_read_than_the_limit(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({**SFT, "prompt": p}) + "\n" for p in "abc"))
    lines = ready_rows.reader(DatasetTable(path="rows.jsonl", limit=2), tmp_path).lines()
    assert [(line.file, line.number) for line in lines] == [("rows.jsonl", 1), ("rows.jsonl", 2)]


def test_a_file_can_be_given_by_its_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.DOWNLOADED_DATASETS_PATH", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)

    class Server(QuietHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f"{json.dumps(SFT)}\nnot JSON\n".encode())

    with serve(Server) as url:
        table = DatasetTable(path=f"{url}/rows.jsonl")
        ready = importer()
        reader = ready_rows.reader(table, tmp_path)
        ready.read(ReadyTable("sft", table, reader.lines()))
    assert len(ready.sft) == 1
    assert [(r["id"], r["reason"]) for r in ready.rejects] == [(f"{url}/rows.jsonl:2", "malformed")]
    assert reader.fingerprint() == f"{url}/rows.jsonl"


def test_a_folder_in_the_form_of_a_hub_data_set_is_read_by_split_and_anew_after_an_edit(tmp_path: Path) -> None:
    (tmp_path / "set" / "data").mkdir(parents=True)
    file = tmp_path / "set" / "data" / "train_prefs-00000-of-00001.parquet"
    raw, _ = PAIR_FORMS["ultrafeedback"]
    table = DatasetTable(hub="set", revision="main", split="train_prefs")
    files = "[{split: train_prefs, path: data/train_prefs-*}]"
    (tmp_path / "set" / "README.md").write_text(f"---\nconfigs: [{{config_name: default, data_files: {files}}}]\n---\n")
    prints = []
    for chosen in ("4", "four"):
        answer = {"role": "assistant", "content": chosen}
        pq.write_table(pa.Table.from_pylist([{**raw, "chosen": [USER, answer]}]), file)
        ready = importer()
        ready.read(ReadyTable("pairs", table, ready_rows.reader(table, tmp_path).lines()))
        assert [row["chosen"][0]["content"] for row in ready.pairs.values()] == [chosen]
        prints.append(ready_rows.reader(table, tmp_path).fingerprint())
    assert prints[0] != prints[1]
