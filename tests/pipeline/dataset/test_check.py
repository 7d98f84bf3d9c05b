"""`fusechat check`: honest runs pass, and each forgery is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from imported_run import MATH, SOURCE, write_imported_run
from selected_run import write_manifests, write_run
from typer.testing import CliRunner

from fusechat.pipeline.cli.main import app
from fusechat.pipeline.dataset.check import check
from fusechat.pipeline.dataset.locate import locate_run
from fusechat.pipeline.dataset.row_checks import DECIDED, NO_REJECTS, OUTPUTS, RULES, SHARES, TEXTS, TRACEABLE
from fusechat.pipeline.dataset.trace import trace
from fusechat.pipeline.errors import StageError
from fusechat.pipeline.identities import digest
from fusechat.pipeline.recipe import DomainRule, Recipe
from fusechat.pipeline.records import PROMPT, REJECT, RESPONSE
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

EARLIER = Path(__file__).parents[2] / "data/earlier_run/run"


@pytest.fixture
def made(tmp_path: Path) -> tuple[RunDir, Recipe]:
    return write_run(tmp_path / "run")


@pytest.fixture
def earlier(tmp_path: Path) -> tuple[RunDir, Recipe]:
    """A run that version 0.1.0 made with real models."""
    shutil.copytree(EARLIER, tmp_path / "earlier")
    return locate_run(str(tmp_path / "earlier"))


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def rewrite(run: RunDir, file: str, rows: list[dict[str, Any]]) -> None:
    """Replaces the rows of a table on disk."""
    run.write_table(pa.Table.from_pylist(rows, schema=run.read_table(file).schema), file)


# --- check


def test_what_selection_wrote_keeps_all_its_promises(made: tuple[RunDir, Recipe]) -> None:
    assert check(*made) == []
    done = call("check", made[0].url)
    assert done.exit_code == 0 and done.stdout.count("ok") == len(RULES)


@pytest.mark.parametrize("before", [2, 6])
def test_responses_in_the_buckets_of_an_earlier_number_change_nothing(made: tuple[RunDir, Recipe], before: int) -> None:
    run, recipe = made
    parts = Parts(run, "sample", RESPONSE, "response_id")
    parts.write_all(parts.read().to_pylist(), before)  # shards that the stage leaves where they are
    assert check(run, recipe) == []


def change(run: RunDir, table: str, row: int, **values: Any) -> str:
    """Changes one row on disk. Returns its identity."""
    content = run.read_table("select", f"{table}.parquet")
    rows = content.to_pylist()
    row = next((i for i, r in enumerate(rows) if r["domain"] == "instruction"), row)
    rows[row] |= values
    run.write_table(pa.Table.from_pylist(rows, schema=content.schema), "select", f"{table}.parquet")
    return str(rows[row].get("row_id", rows[row]["prompt_id"]))


@pytest.mark.parametrize(
    ("promise", "table", "values"),
    [
        ("one source in every pair", "pairs", {"source": "c"}),
        ("margins inside the window", "pairs", {"chosen_reward": 0.9, "rejected_reward": 0.1, "margin": 0.8}),
        ("rewards as scored", "pairs", {"margin": 0.02000001}),
        ("rewards as scored", "sft", {"reward": 0.9}),
        ("verdicts as labelled", "sft", {"correct": False, "verdict": "wrong"}),
        ("texts as sampled", "sft", {"completion": [{"role": "assistant", "content": "forged"}]}),
        ("texts as sampled", "pairs", {"rejected": [{"role": "assistant", "content": "forged"}]}),
        ("every row traceable", "sft", {"response_id": "0" * 64}),
        ("every row traceable", "pairs", {"chosen_seed": 9}),
        ("every row traceable", "sft", {"revision": "another"}),
        ("every row traceable", "sft", {"prompt": [{"role": "user", "content": "forged"}]}),
        ("every prompt in one reason", "outcomes", {"reason": "tie"}),
    ],
)
def test_a_row_that_breaks_a_promise_is_named(
    made: tuple[RunDir, Recipe], promise: str, table: str, values: dict[str, Any]
) -> None:
    run, recipe = made
    identity = change(run, table, 0, **values)
    broken = check(run, recipe)
    assert promise in {b.rule for b in broken if b.row == identity}
    assert {b.row for b in broken} == {identity, "select"}  # whose files are no longer those that it wrote
    done = call("check", run.url)
    assert done.exit_code == 1 and identity in done.stderr


def test_other_promises_hang_on_the_recipe_and_the_intake(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    every = DomainRule(sft_fraction=1, margin=recipe.select.instruction.margin)
    moved = recipe.model_copy(update={"select": recipe.select.model_copy(update={"instruction": every})})
    assert {b.rule for b in check(run, moved)} == {SHARES, DECIDED}
    pairs = run.read_table("select", "pairs.parquet").to_pylist()
    named = next(r for r in Parts(run, "prompts/train", PROMPT, "prompt_id").read().to_pylist()
                 if r["prompt_id"] == pairs[0]["prompt_id"])  # fmt: skip
    reject = {"stage": "prompts", "id": f"p.jsonl:{named['line']}", "reason": "contaminated", "detail": ""}
    run.write_table(pa.Table.from_pylist([reject], schema=REJECT), "prompts", "rejects.parquet")
    changed, broken = check(run, recipe)
    assert (changed.rule, changed.row) == (OUTPUTS, "prompts")
    assert broken.rule == NO_REJECTS and "contaminated" in broken.why
    assert broken.row == pairs[0]["row_id"]


# --- forgeries that keep every single value true


def other_response(run: RunDir, row: dict[str, Any], **differs: Any) -> dict[str, Any]:
    """Another stored response to the row's prompt, with these values."""
    stored = Parts(run, "sample", RESPONSE, "response_id").read().to_pylist()
    used = {row.get("response_id"), row.get("chosen_id"), row.get("rejected_id")}
    return next(
        r for r in stored
        if r["prompt_id"] == row["prompt_id"] and r["response_id"] not in used
        and all(r[name] == value for name, value in differs.items())
    )  # fmt: skip


def forge_sft(run: RunDir, row: dict[str, Any], response: dict[str, Any]) -> None:
    """Puts another response into an SFT row, with all its true values, and makes the manifests fit."""
    score = next(s for f in run.files("score") for s in run.read_table(f).to_pylist()
                 if s["response_id"] == response["response_id"])  # fmt: skip
    copied = {name: response[name] for name in ("source", "revision", "template", "params", "response_id", "seed")}
    row |= copied | {
        "row_id": digest("sft", row["prompt_id"], response["response_id"]),
        "completion": [{"role": "assistant", "content": response["text"]}],
        "reward": dict(score["rewards"]).get("rm", 0.0),
        "correct": score["correct"],
        "verdict": score["verdict"],
    }


def test_an_sft_row_with_the_worst_response_is_named(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    rows = run.read_table("select/sft.parquet").to_pylist()
    row = next(r for r in rows if (r["domain"] == "chinese" and r["reward"] < 0.2) or r["domain"] == "instruction")
    forge_sft(run, row, other_response(run, row, source=row["source"]))
    rewrite(run, "select/sft.parquet", rows)
    write_manifests(run, recipe)
    (broken,) = check(run, recipe)
    assert (broken.rule, broken.row) == (DECIDED, row["row_id"])
    assert "another response was selected" in broken.why


def test_a_pair_of_a_source_that_should_not_have_won_is_named(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    # Both sources have a pair of every prompt. With its margins in the window, the larger margin wins.
    scores = {s["response_id"]: s for f in run.files("score") for s in run.read_table(f).to_pylist()}
    rows = run.read_table("select/pairs.parquet").to_pylist()
    stored = Parts(run, "sample", RESPONSE, "response_id").read().to_pylist()
    row = next(r for r in rows if r["domain"] == "instruction")
    others = [r for r in stored if r["prompt_id"] == row["prompt_id"] and r["source"] != row["source"]]
    others.sort(key=lambda r: -dict(scores[r["response_id"]]["rewards"])["rm"])
    row["source"] = others[0]["source"]
    for side, response in zip(("chosen", "rejected"), others, strict=True):
        row[side] = [{"role": "assistant", "content": response["text"]}]
        row[f"{side}_id"], row[f"{side}_seed"] = response["response_id"], response["seed"]
        row[f"{side}_reward"] = dict(scores[response["response_id"]]["rewards"])["rm"]
    row["margin"] = round(row["chosen_reward"] - row["rejected_reward"], 12)
    row["row_id"] = digest("pair", row["prompt_id"], row["chosen_id"], row["rejected_id"])
    rewrite(run, "select/pairs.parquet", rows)
    outcomes = run.read_table("select/outcomes.parquet").to_pylist()
    next(o for o in outcomes if o["prompt_id"] == row["prompt_id"])["source"] = row["source"]
    rewrite(run, "select/outcomes.parquet", outcomes)
    write_manifests(run, recipe)
    broken = check(run, recipe)
    assert {(b.rule, b.row) for b in broken} == {(DECIDED, row["row_id"]), (DECIDED, row["prompt_id"])}


def test_an_sft_row_with_a_cut_response_is_named(tmp_path: Path) -> None:
    run, recipe = write_run(tmp_path / "run", cut=3)
    assert check(run, recipe) == []
    rows = run.read_table("select/sft.parquet").to_pylist()
    row = next(r for r in rows if r["domain"] == "chinese")
    forge_sft(run, row, other_response(run, row, finish_reason="length"))
    rewrite(run, "select/sft.parquet", rows)
    write_manifests(run, recipe)
    broken = [b for b in check(run, recipe) if b.row == row["row_id"]]
    assert DECIDED in {b.rule for b in broken}
    assert any("cut at its token limit" in b.why for b in broken)


def forge_text(run: RunDir, table: str, column: str, identity: str) -> dict[str, Any]:
    """Changes the text of the first row's response, alike in select and in sample. Returns the row."""
    rows = run.read_table(f"select/{table}.parquet").to_pylist()
    rows[0][column][0]["content"] = "forged"
    rewrite(run, f"select/{table}.parquet", rows)
    for file in run.files("sample"):
        stored = run.read_table(file).to_pylist()
        for response in stored:
            if response["response_id"] == rows[0][identity]:
                response["text"] = "forged"
        rewrite(run, file, stored)
    return dict(rows[0])


def test_a_text_that_is_forged_alike_in_sample_and_select_breaks_their_hashes(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    forge_text(run, "sft", "completion", "response_id")
    assert {(b.rule, b.row) for b in check(run, recipe)} == {(OUTPUTS, "sample"), (OUTPUTS, "select")}
    done = call("check", run.url)
    assert done.exit_code == 1 and "sample: stage outputs as their manifests record" in done.stderr


@pytest.mark.parametrize(
    ("stage", "folder", "values"),
    [
        ("prompts", "prompts/train", {"gold": "forged"}),
        ("sample", "sample", {"reject": "forged"}),
        ("score", "score", {"rewards": [("rm", 0.9)]}),
        ("score", "score", {"detail": "forged"}),
        ("select", "select/candidates.parquet", {"chosen_reward": 0.9}),
    ],
)
def test_the_stage_whose_files_were_changed_is_named(
    made: tuple[RunDir, Recipe], stage: str, folder: str, values: dict[str, Any]
) -> None:
    run, recipe = made
    file = folder if folder.endswith(".parquet") else run.files(folder)[0]
    rows = run.read_table(file).to_pylist()
    rows[0] |= values
    rewrite(run, file, rows)
    assert [b.row for b in check(run, recipe) if b.rule == OUTPUTS] == [stage]


def test_responses_that_were_sampled_for_another_plan_are_honest(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    file = run.files("sample")[0]
    row = run.read_table(file).to_pylist()[0] | {"response_id": digest("another"), "text": "another"}
    Parts(run, "sample", RESPONSE, "response_id").write_all([row], recipe.sample.buckets)
    assert check(run, recipe) == []


def test_a_run_of_an_earlier_version_is_honest_until_a_text_is_forged(earlier: tuple[RunDir, Recipe]) -> None:
    run, recipe = earlier
    assert check(run, recipe) == []
    forge_text(run, "pairs", "rejected", "rejected_id")
    assert {(b.rule, b.row) for b in check(run, recipe)} >= {(OUTPUTS, "sample"), (OUTPUTS, "select")}


def test_a_manifest_that_is_forged_too_does_not_fit_the_next_stage(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    honest = run.manifest("sample"), run.manifest("score")
    forge_text(run, "sft", "completion", "response_id")
    write_manifests(run, recipe)
    assert honest[1] is not None and honest[0] != run.manifest("sample")
    run.write_manifest(honest[1])
    broken = check(run, recipe)
    assert {(b.rule, b.row) for b in broken} >= {(OUTPUTS, "score")}
    assert "was made from another output of sample" in broken[0].why


def test_a_stage_without_a_manifest_proves_nothing(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    run.remove(["sample/manifest.json"])
    (broken,) = check(run, recipe)
    assert (broken.rule, broken.row) == (OUTPUTS, "sample") and "is missing" in broken.why


def test_a_file_that_is_gone_or_broken_is_told_in_one_line(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    run.remove(["select/candidates.parquet"])
    (broken,) = check(run, recipe)
    assert (broken.rule, broken.row) == (OUTPUTS, "select") and "missing or can't be read" in broken.why
    run.write_bytes(b"no Parquet", run.files("score")[0])
    with pytest.raises(StageError, match="the shard can't be read"):
        check(run, recipe)
    run.remove(["score/agreement.json"])
    with pytest.raises(StageError, match="the scores are missing"):
        check(run, recipe)


def test_a_selected_row_that_is_missing_is_named_by_its_prompt(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    rows = run.read_table("select/pairs.parquet").to_pylist()
    rewrite(run, "select/pairs.parquet", rows[1:])
    write_manifests(run, recipe)
    broken = [b for b in check(run, recipe) if b.rule == DECIDED]
    assert [b.row for b in broken] == [rows[0]["prompt_id"]] and "has no pair row" in broken[0].why


def test_messages_of_another_prompt_under_a_prompts_identity_are_named(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    rows = run.read_table("select/sft.parquet").to_pylist()
    rows[0]["prompt"][-1]["content"] = "forged"
    rewrite(run, "select/sft.parquet", rows)
    for file in run.files("prompts/train"):
        stored = run.read_table(file).to_pylist()
        for prompt in stored:
            if prompt["prompt_id"] == rows[0]["prompt_id"]:
                prompt["messages"] = rows[0]["prompt"]
        rewrite(run, file, stored)
    write_manifests(run, recipe)
    (broken,) = check(run, recipe)
    assert (broken.rule, broken.row) == (TRACEABLE, rows[0]["row_id"]) and "not that of its messages" in broken.why


# --- honest runs that looked forged


def test_pairs_and_sft_rows_of_an_imported_source_are_honest_and_can_be_traced(tmp_path: Path) -> None:
    run = write_imported_run(tmp_path)
    pairs, sft = (run.dir.read_table("select", f"{n}.parquet").to_pylist() for n in ("pairs", "sft"))
    assert len(pairs) + len(sft) == len(MATH) and pairs and sft
    assert check(run.dir, run.recipe) == []
    for row in pairs:
        found = trace(run.dir, run.recipe, row["row_id"])
        assert [r["status"] for r in found["responses"]] == ["chosen", "dispreferred"]
        assert [r["text"] for r in found["responses"]] == [row["chosen"][0]["content"], row["rejected"][0]["content"]]
        assert [r["params"] for r in found["responses"]] != [row["params"]] * 2
    found = trace(run.dir, run.recipe, sft[0]["row_id"])
    assert (found["responses"][0]["source"], found["responses"][0]["revision"]) == (sft[0]["source"], "imported")
    prompt = trace(run.dir, run.recipe, "math-1")
    assert len(prompt["responses"]) == 2 and len(prompt["rows"]) == 1


def test_the_identity_of_an_imported_response_proves_its_text(tmp_path: Path) -> None:
    run = write_imported_run(tmp_path)
    row = forge_text(run.dir, "pairs", "rejected", "rejected_id")
    write_manifests(run.dir, run.recipe)
    (broken,) = [b for b in check(run.dir, run.recipe) if b.rule == TEXTS]
    assert broken.row == row["row_id"] and "differs from what was imported" in broken.why


def test_two_training_files_of_one_name_are_no_duplicates_of_each_other(tmp_path: Path) -> None:
    rows = [{"id": str(i), "domain": "instruction", "prompt": f"Question {i}?"} for i in range(3)]
    carried = [{**row, "responses": {SOURCE: ["Yes."]}} for row in rows]
    files = {"a/p.jsonl": carried[:2], "b/p.jsonl": [rows[0], carried[2]]}
    every = {"sft_fraction": 1, "margin": {"min": 0, "max": 1}}
    run = write_imported_run(tmp_path, files, select={"instruction": every})
    rejects = run.dir.read_table("prompts/rejects.parquet").to_pylist()
    assert [(r["id"], r["reason"]) for r in rejects] == [("b/p.jsonl:1", "duplicate")]
    assert run.dir.read_table("select/sft.parquet").num_rows == 3
    assert check(run.dir, run.recipe) == []
