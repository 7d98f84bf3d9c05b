"""Every export, loaded by the trainer that it is for, with no, one and many rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pyarrow.parquet as pq
import pytest
from llamafactory_converter import convert
from selected_run import write_run
from tiny_model import make_tokenizer, write_model
from typer.testing import CliRunner

from fusechat.pipeline.cli.main import app
from fusechat.pipeline.dataset.export import FORMATS, export
from fusechat.pipeline.dataset.export_parts import turn_problem
from fusechat.pipeline.recipe import Recipe
from fusechat.pipeline.records import Message
from fusechat.pipeline.storage.run_dir import RunDir

NUM_ROWS = {"none": 0, "one": 1, "many": 80}
TURNS = [Message(role="user", content="Hello."), Message(role="assistant", content="Hi!")]
"""Two turns before the last one."""


@pytest.fixture
def many(tmp_path: Path) -> tuple[RunDir, Recipe]:
    return write_run(tmp_path / "run", history=TURNS)


@pytest.fixture(params=NUM_ROWS)
def made(request: pytest.FixtureRequest, many: tuple[RunDir, Recipe]) -> tuple[RunDir, Recipe]:
    """A run with no, one or many SFT rows and as many pairs."""
    run, recipe = many
    for name in ("sft.parquet", "pairs.parquet"):
        run.write_table(run.read_table("select", name).slice(0, NUM_ROWS[request.param]), "select", name)
    return run, recipe


def selected(run: RunDir) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The SFT rows and the pairs."""
    sft, pairs = (run.read_table("select", f"{name}.parquet").to_pylist() for name in ("sft", "pairs"))
    return sft, pairs


def load(folder: Path, cache: Path) -> dict[str, dict[str, Any]]:
    """Configuration -> split -> rows, as the library `datasets` loads an export by its card."""
    from datasets import get_dataset_config_names, load_dataset
    from huggingface_hub import DatasetCard

    head = DatasetCard((folder / "README.md").read_text()).data.to_dict()
    if not head["configs"]:
        return {}
    names = get_dataset_config_names(str(folder))
    assert names == [c["config_name"] for c in head["configs"]]
    return {name: dict(load_dataset(str(folder), name, cache_dir=str(cache))) for name in names}


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


@pytest.mark.parametrize("format_", FORMATS)
def test_datasets_loads_every_configuration_of_every_export(
    made: tuple[RunDir, Recipe], tmp_path: Path, format_: str
) -> None:
    run, recipe = made
    exported = export(run, recipe, format_, tmp_path / "out")
    loaded = load(tmp_path / "out", tmp_path / "cache")
    assert {name: set(splits) for name, splits in loaded.items()} == {
        name: set(splits) for name, splits in exported.configs.items()
    }
    sft, pairs = selected(run)
    assert set(loaded) == ({"sft", "rl" if format_ == "verl" else "pairs"} if sft else set())
    for config, rows in (("sft", sft), ("pairs", pairs)):
        if config in loaded:
            written = [row for split in loaded[config].values() for row in split]
            assert sorted(r["row_id"] for r in written) == sorted(r["row_id"] for r in rows)
    assert sum(exported.num_rows.values()) == sum(len(s) for c in loaded.values() for s in c.values())
    assert all(exported.num_rows.values())
    assert len(exported.num_rows) + len(exported.empty) == (4 if format_ == "alignment-handbook" else 2)


def test_an_export_without_rows_says_so(tmp_path: Path) -> None:
    run, _ = write_run(tmp_path / "run", 1)
    done = CliRunner().invoke(app, ["export", run.url, "--format", "trl", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0
    assert [line.rpartition("out/")[2] for line in done.stdout.splitlines()] == [
        "sft/train.parquet: 1 rows",
        "pairs/train.parquet: not written: it would have no rows, and `datasets` can't load such a file",
    ]
    assert not (tmp_path / "out/pairs").exists()


# --- TRL, and alignment-handbook, which gives its data to TRL


@pytest.mark.parametrize("format_", ["trl", "alignment-handbook"])
def test_trl_prepares_every_row(made: tuple[RunDir, Recipe], tmp_path: Path, format_: str) -> None:
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    run, recipe = made
    export(run, recipe, format_, tmp_path / "out")
    loaded = load(tmp_path / "out", tmp_path / "cache")
    assert bool(loaded) == bool(selected(run)[0])  # without rows there is nothing to train on
    tokenizer = make_tokenizer()
    write_model(tmp_path / "model", tokenizer)
    settings = {"output_dir": str(tmp_path / "trained"), "report_to": [], "use_cpu": True, "bf16": False}
    for table, config, trainer, ids in (
        ("sft", SFTConfig, SFTTrainer, "input_ids"),
        ("pairs", DPOConfig, DPOTrainer, "chosen_ids"),
    ):
        for rows in loaded.get(table, {}).values():
            made_trainer = trainer(
                str(tmp_path / "model"), args=config(**settings, max_length=None), train_dataset=rows,
                processing_class=tokenizer,
            )  # fmt: skip
            prepared = made_trainer.train_dataset
            assert prepared.num_rows == rows.num_rows
            text = tokenizer.decode(prepared[0][ids])
            assert "answer" in text and "<|end|>" in text
            if table == "pairs":
                assert tokenizer.decode(prepared[0]["prompt_ids"]).endswith("<|start|>assistant\n")
                assert prepared[0]["chosen_ids"] != prepared[0]["rejected_ids"]


def test_the_handbooks_splits_are_both_filled_from_two_prompts_on(tmp_path: Path) -> None:
    for num, splits in ((1, {"train_sft"}), (8, {"train_sft", "test_sft"})):
        run, recipe = write_run(tmp_path / f"run{num}", num)
        exported = export(run, recipe, "alignment-handbook", tmp_path / f"out{num}")
        assert set(exported.configs["sft"]) == splits
    train = pq.read_table(tmp_path / "out8/data/train_sft.parquet")
    assert "prompt" not in train.column_names
    assert train["messages"].to_pylist()[0][-1]["role"] == "assistant"
    test = pq.read_table(tmp_path / "out8/data/test_sft.parquet")
    assert not set(train["prompt_id"].to_pylist()) & set(test["prompt_id"].to_pylist())


# --- LLaMA-Factory


def test_llamafactory_converts_every_row(made: tuple[RunDir, Recipe], tmp_path: Path) -> None:
    run, recipe = made
    exported = export(run, recipe, "llamafactory", tmp_path / "out")
    assert exported.left_out == []
    info = json.loads((tmp_path / "out/dataset_info.json").read_text())
    sft, pairs = selected(run)
    for name, rows, num_responses in (("fusechat_sft", sft, 1), ("fusechat_pairs", pairs, 2)):
        assert (name in info) == bool(rows)
        if not rows:
            continue
        written = json.loads((tmp_path / "out" / info[name]["file_name"]).read_text())
        assert len(written) == len(rows)
        assert all(set(info[name]["columns"].values()) <= set(w) for w in written)
        for row, turns in zip(rows, convert(tmp_path / "out", name, written), strict=True):
            history = [m for m in row["prompt"] if m["role"] != "system"]
            assert (turns["_system"], turns["_prompt"]) == ("Be brief.", history)
            answers = [row["completion"][0]] if num_responses == 1 else [row["chosen"][0], row["rejected"][0]]
            assert turns["_response"] == answers


@pytest.mark.parametrize("format_", ["llamafactory", "ms-swift"])
def test_rows_whose_turns_do_not_alternate_are_left_out_and_named(tmp_path: Path, format_: str) -> None:
    run, recipe = write_run(tmp_path / "run", history=TURNS[:1])
    sft, pairs = selected(run)
    odd = {r["row_id"] for r in [*sft, *pairs] if len(r["prompt"]) == 3}
    done = CliRunner().invoke(app, ["export", run.url, "--format", format_, "--out", str(tmp_path / "out")])
    assert f"left_out.jsonl: {len(odd)} rows that the trainer would drop or change" in done.stdout
    left_out = lines(tmp_path / "out/left_out.jsonl")
    assert {r["row_id"] for r in left_out} == odd and len(odd) > 9
    assert {r["reason"] for r in left_out} == {"the turns don't alternate, from user to user: user, user"}
    kept = [r["row_id"] for c in load(tmp_path / "out", tmp_path / "cache").values() for r in c["train"]]
    assert {*kept, *odd} == {r["row_id"] for r in [*sft, *pairs]} and len(kept) + len(odd) == len(sft) + len(pairs)
    others = export(run, recipe, "trl", tmp_path / "trl")
    assert others.left_out == [] and sum(others.num_rows.values()) == len(sft) + len(pairs)


@pytest.mark.parametrize(
    ("roles", "problem"),
    [
        ("su", None),
        ("u", None),
        ("suau", None),
        ("uu", "user, user"),
        ("au", "assistant, user"),
        ("ssu", "system message"),
        ("usau", "system message"),
        ("uaau", "user, assistant, assistant, user"),
    ],
)
def test_which_turns_alternate(roles: str, problem: str | None) -> None:
    names = {"s": "system", "u": "user", "a": "assistant"}
    found = turn_problem([Message(role=names[role], content="x") for role in roles])
    assert found is None if problem is None else problem in str(found)


# --- axolotl, ms-swift and verl, by their published schemas

ROLE = {"enum": ["system", "user", "assistant"]}


def message(**extra: Any) -> dict[str, Any]:
    """The JSON schema of a message."""
    properties = {"role": ROLE, "content": {"type": "string"}, **extra}
    return {"type": "object", "properties": properties, "required": ["role", "content"], "additionalProperties": False}


def messages(**extra: Any) -> dict[str, Any]:
    """The JSON schema of a conversation."""
    return {"type": "array", "minItems": 1, "items": message(**extra)}


def fields(**properties: Any) -> dict[str, Any]:
    """The JSON schema of a row with these columns, all required; further columns are ignored."""
    return {"type": "object", "properties": properties, "required": list(properties)}


ANSWER = {"allOf": [message(), {"properties": {"role": {"const": "assistant"}}}]}
SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    # https://docs.axolotl.ai: dataset formats, `chat_template` and `chat_template.default` (DPO)
    "axolotl": {
        "sft": fields(messages=messages(training={"type": "boolean"})),
        "pairs": fields(messages=messages(), chosen=ANSWER, rejected=ANSWER),
    },
    # https://swift.readthedocs.io: custom dataset
    "ms-swift": {
        "sft": fields(messages=messages(loss={"type": "boolean"})),
        "pairs": fields(messages=messages(), rejected_response={"type": "string"}),
    },
    # https://verl.readthedocs.io: prepare data for post-training; multi-turn SFT
    "verl": {
        "sft": fields(messages=messages()),
        "rl": fields(
            data_source={"type": "string"},
            prompt=messages(),
            ability={"type": "string"},
            reward_model=fields(style={"enum": ["rule", "model"]}, ground_truth={"type": "string"}),
            extra_info=fields(split={"type": "string"}, index={"type": "integer"}),
        ),
    },
}


@pytest.mark.parametrize("format_", SCHEMAS)
def test_every_row_has_the_published_schema(made: tuple[RunDir, Recipe], tmp_path: Path, format_: str) -> None:
    run, recipe = made
    exported = export(run, recipe, format_, tmp_path / "out")
    for config, schema in SCHEMAS[format_].items():
        file = tmp_path / "out" / exported.configs.get(config, {}).get("train", f"{config}.jsonl")
        rows = pq.read_table(file).to_pylist() if file.suffix == ".parquet" else lines(file)
        assert bool(rows) == (config in exported.configs)
        for row in rows:
            jsonschema.validate(row, dict(schema))


def test_an_axolotl_pair_is_a_prompt_and_two_answers(many: tuple[RunDir, Recipe], tmp_path: Path) -> None:
    run, recipe = many
    export(run, recipe, "axolotl", tmp_path / "out")
    sft, pairs = selected(run)
    for row, written in zip(pairs, lines(tmp_path / "out/pairs.jsonl"), strict=True):
        assert [written[k] for k in ("messages", "chosen", "rejected")] == [
            row["prompt"], row["chosen"][0], row["rejected"][0]
        ]  # fmt: skip
    for row, written in zip(sft, lines(tmp_path / "out/sft.jsonl"), strict=True):
        trained = [m for m in written["messages"] if m["role"] == "assistant" and m.get("training", True)]
        assert trained == row["completion"]  # and no turn before it


def test_an_ms_swift_pair_ends_with_the_chosen_answer(many: tuple[RunDir, Recipe], tmp_path: Path) -> None:
    run, recipe = many
    export(run, recipe, "ms-swift", tmp_path / "out")
    sft, pairs = selected(run)
    for row, written in zip(pairs, lines(tmp_path / "out/pairs.jsonl"), strict=True):
        assert written["messages"] == [*row["prompt"], *row["chosen"]]
        assert written["rejected_response"] == row["rejected"][0]["content"]
    for row, written in zip(sft, lines(tmp_path / "out/sft.jsonl"), strict=True):
        trained = [m for m in written["messages"] if m["role"] == "assistant" and m.get("loss", True)]
        assert trained == row["completion"]


def test_verl_gets_each_prompt_once_with_what_its_answers_are_verified_against(
    many: tuple[RunDir, Recipe], tmp_path: Path
) -> None:
    run, recipe = many
    export(run, recipe, "verl", tmp_path / "out")
    sft, pairs = selected(run)
    rows = pq.read_table(tmp_path / "out/rl/train.parquet").to_pylist()
    assert {r["extra_info"]["prompt_id"] for r in rows} == {r["prompt_id"] for r in [*sft, *pairs]}
    assert [r["extra_info"]["index"] for r in rows] == list(range(len(rows)))
    for row in rows:
        number = row["prompt"][-1]["content"].split()[1]
        truth = {"math": ("rule", number), "code": ("rule", "assert f")}.get(row["ability"], ("model", ""))
        assert (row["reward_model"]["style"], row["reward_model"]["ground_truth"]) == truth
        assert row["data_source"] == f"fusechat/{row['ability']}"
        assert row["extra_info"]["entry_point"] == ("f" if row["ability"] == "code" else "")
    assert {r["ability"] for r in rows} == {"instruction", "math", "code", "chinese"}
    conversations = pq.read_table(tmp_path / "out/sft/train.parquet")["messages"].to_pylist()
    assert conversations == [[*r["prompt"], *r["completion"]] for r in sft]


@pytest.mark.parametrize("format_", FORMATS)
def test_the_card_says_how_the_trainer_loads_the_files(
    many: tuple[RunDir, Recipe], tmp_path: Path, format_: str
) -> None:
    exported = export(*many, format_, tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    section = text.partition("## How a trainer loads it")[2].partition("\n## ")[0]
    assert exported.usage in section and "FOLDER" in exported.usage
