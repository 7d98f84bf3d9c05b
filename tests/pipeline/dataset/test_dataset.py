"""Commands on a finished selection: margins, trace, check, export, the data set card, push to a hub."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pyarrow as pa
import pytest
from http_server import QuietHandler, serve
from selected_run import write_run
from typer.testing import CliRunner

from fusechat.pipeline.cli.main import app
from fusechat.pipeline.dataset import card, margins
from fusechat.pipeline.dataset.card import LICENCES, licence
from fusechat.pipeline.dataset.export import export
from fusechat.pipeline.dataset.locate import locate_run
from fusechat.pipeline.dataset.push import push
from fusechat.pipeline.dataset.trace import lines, trace
from fusechat.pipeline.errors import RunDirectoryError, StageError, UserError
from fusechat.pipeline.recipe import DOMAINS, Margin, Recipe, Select
from fusechat.pipeline.recipe.load import load, packaged_recipes
from fusechat.pipeline.records import REJECT
from fusechat.pipeline.report.content import collect_content
from fusechat.pipeline.report.page import draw
from fusechat.pipeline.selection import apply_rule
from fusechat.pipeline.storage.manifest import Manifest
from fusechat.pipeline.storage.run_dir import RunDir


@pytest.fixture
def made(tmp_path: Path) -> tuple[RunDir, Recipe]:
    return write_run(tmp_path / "run")


def call(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


# --- margins


@pytest.mark.parametrize("window", [(0.01, 0.1), (0.0, 0.03), (0.02, None), (0.05, 0.05)])
@pytest.mark.parametrize("prefer", ["margin", "reward"])
def test_the_yield_of_a_window_is_what_selection_with_that_window_gives(
    made: tuple[RunDir, Recipe], window: tuple[float, float | None], prefer: Any
) -> None:
    run, recipe = made
    recipe = recipe.model_copy(update={"select": recipe.select.model_copy(update={
        d: recipe.select.rule(d).model_copy(update={"prefer": prefer}) for d in DOMAINS})})  # fmt: skip
    found = margins.yields(margins.load(run), recipe.select, *window)
    rules = {
        d: recipe.select.rule(d).model_copy(update={"margin": Margin(min=window[0], max=window[1])}) for d in DOMAINS
    }
    changed = recipe.model_copy(update={"select": Select(**rules)})
    apply_rule.run_select(run, changed, "rm")
    pairs = run.read_table("select", "pairs.parquet").to_pylist()
    for y in found:
        assert y.pairs == sum((r["domain"], r["source"]) == (y.domain, y.source) for r in pairs)
        assert y.candidates >= y.inside >= y.pairs
    assert sum(y.pairs for y in found) == len(pairs)
    top = window[1] if window[1] is not None else 9.0
    curve = margins.curve(margins.load(run), window[0], [window[0], top])
    assert sum(counts[-1] for counts in curve.values()) == len(pairs)


def test_margins_on_the_command_line(made: tuple[RunDir, Recipe], tmp_path: Path) -> None:
    run, _ = made
    shown = call("margins", run.url, "--min", "0.01", "--max", "0.1", "--plot", str(tmp_path / "m.png"))
    assert shown.exit_code == 0 and "instruction" in shown.stdout and "all" in shown.stdout
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(call("margins", run.url, "--max", "0.1", "--json").stdout)[0]["candidates"] > 0
    assert call("margins", run.url, "--plot", str(tmp_path / "m.svg")).exit_code == 0
    assert (tmp_path / "m.svg").read_text().startswith("<svg")
    with pytest.raises(UserError, match=r"the window is empty: --max 0.1 is below --min 0.2"):
        CliRunner().invoke(app, ["margins", run.url, "--min", "0.2", "--max", "0.1"], catch_exceptions=False)
    with pytest.raises(UserError, match=r"must end in \.png or \.svg"):
        CliRunner().invoke(app, ["margins", run.url, "--plot", "m.gif"], catch_exceptions=False)


def test_the_reports_curve_is_what_the_command_counts(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    content = collect_content(run, recipe)
    curve = content["yields"]
    assert curve is not None
    assert "<svg" in draw(content)["yields"]
    assert set(curve["curves"]) == {"instruction", "math", "code"}  # chinese is all SFT
    assert curve["tops"]["instruction"] == recipe.select.instruction.margin.max
    ends = range(0, len(curve["edges"]), 30)
    for end in ends:
        window = ["--min", repr(curve["low"]), "--max", repr(curve["edges"][end])]
        rows = json.loads(call("margins", run.url, *window, "--json").stdout)
        for domain, counts in curve["curves"].items():
            assert counts[end] == sum(row["pairs"] for row in rows if row["domain"] == domain), (domain, end)
    assert any(counts[0] < counts[60] < counts[120] for counts in curve["curves"].values())


def test_margins_of_scores_that_are_newer_than_the_selection_are_refused(made: tuple[RunDir, Recipe]) -> None:
    run, _ = made
    run.write_manifest(Manifest(stage="score", config="c", inputs={}, data="d"))
    run.write_manifest(Manifest(stage="select", config="c", inputs={"score": "other"}, data="d"))
    with pytest.raises(StageError, match="the scores are newer than the selection"):
        margins.load(run)


# --- trace


def test_a_row_leads_to_all_that_it_was_made_of(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    row = run.read_table("select", "pairs.parquet").to_pylist()[0]
    found = trace(run, recipe, row["row_id"][:10])
    assert (found["kind"], found["outcome"]["reason"]) == ("row", "selected_pair")
    assert [r["status"] for r in found["responses"]] == ["chosen", "dispreferred"]
    assert [r["response_id"] for r in found["responses"]] == [row["chosen_id"], row["rejected_id"]]
    first = found["responses"][0]
    assert (first["revision"], first["template"], first["params"], first["rewards"]["rm"]) == (
        "rev", "t", "{}", row["chosen_reward"])  # fmt: skip
    assert found["prompt"]["prompt_id"] == row["prompt_id"] and found["row"]["code"]


def test_a_prompt_leads_to_all_its_responses_and_what_became_of_each(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    counted: dict[str, int] = {}
    for i in range(80):
        found = trace(run, recipe, f"mine-{i}")
        assert len(found["responses"]) == 4
        for r in found["responses"]:
            counted[r["status"]] = counted.get(r["status"], 0) + 1
    statuses: dict[str, int] = {}
    for domains in run.read_json("select", "funnel.json")["responses"].values():
        for names in domains.values():
            for name, num in names.items():
                statuses[name] = statuses.get(name, 0) + num
    assert counted == statuses
    whole = trace(run, recipe, found["prompt"]["prompt_id"])
    assert whole == found
    response = trace(run, recipe, found["responses"][0]["response_id"])
    assert response["kind"] == "response" and response["prompt"]["id"] == "mine-79"


def test_a_model_leads_to_the_rows_it_saw(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    with pytest.raises(UserError, match="the stage sft has not been run"):
        trace(run, recipe, "sft")
    rows = run.read_table("select", "sft.parquet")["row_id"].to_pylist()
    refused = {"stage": "sft", "id": rows[0], "reason": "prompt_too_long", "detail": ""}
    run.write_table(pa.Table.from_pylist([refused], schema=REJECT), "sft", "f", "rejects.parquet")
    run.write_json({"folder": "f"}, "sft", "result.json")
    run.write_manifest(Manifest(stage="sft", config="c", inputs={}, data="d"))
    found = trace(run, recipe, "sft")
    assert found["rows"] == rows[1:] and found["num_rows"] == len(rows) - 1


def test_what_nothing_or_several_have_is_said(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    for identity in ("nothing", "ab", "\x1b[31m", ""):
        with pytest.raises(UserError, match="is not the start of"):
            trace(run, recipe, identity)
    assert trace(run, recipe, "p.jsonl:99")["reason"] == "duplicate"


def test_a_trace_in_text_acts_on_no_terminal(made: tuple[RunDir, Recipe]) -> None:
    run, recipe = made
    text = "\n".join(lines(trace(run, recipe, "mine-3")))
    assert "question 3" in text and text.isascii() and "\x1b" not in text
    assert json.loads(call("trace", run.url, "mine-3", "--json").stdout)["prompt"]["id"] == "mine-3"


# --- exports, card, hub


def test_a_folder_that_holds_something_and_an_unknown_format_are_refused(
    made: tuple[RunDir, Recipe], tmp_path: Path
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x/y").write_text("mine")
    with pytest.raises(UserError, match="not an empty folder"):
        export(*made, "trl", tmp_path / "x")
    with pytest.raises(UserError, match=r"one of trl, llamafactory, alignment-handbook, axolotl, ms-swift, verl$"):
        export(*made, "csv", tmp_path / "z")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunDirectoryError, match="can't be written"):
        export(*made, "trl", tmp_path / "file/below")


def test_the_card_says_what_is_in_it_and_under_whose_terms(made: tuple[RunDir, Recipe], tmp_path: Path) -> None:
    from huggingface_hub import DatasetCard

    run, recipe = made
    export(run, recipe, "trl", tmp_path / "out")
    text = (tmp_path / "out/README.md").read_text()
    head = DatasetCard(text).data.to_dict()
    assert [c["config_name"] for c in head["configs"]] == ["sft", "pairs"]
    num_sft, num_pairs = (run.read_table("select", f"{n}.parquet").num_rows for n in ("sft", "pairs"))
    assert f"| all |  | {num_sft} | {num_pairs} |" in text
    assert LICENCES["gemma"] in text and "not known to fusechat" in text and "select:" in text


TERMS = {
    "google/gemma-2-27b-it": "Gemma Terms of Use",
    "mistralai/Mistral-Large-Instruct-2407": "Mistral AI Research License",
    "Qwen/Qwen2.5-72B-Instruct": "Qwen License",
    "Qwen/Qwen2.5-Math-72B-Instruct": "Qwen License",
    "meta-llama/Llama-3.1-70B-Instruct": "Llama Community License",
    "smollm2-135m": "Apache-2.0",
    "qwen2.5-coder-0.5b": "Apache-2.0",
    "gemma3-270m": "Gemma Terms of Use",
}
"""Licenses of the sources of FuseChat-3.0 and of the demo, as their own model cards state them."""


@pytest.mark.parametrize("path", sorted(packaged_recipes().glob("*.yaml")), ids=lambda path: path.stem)
def test_the_card_knows_the_terms_of_every_source_that_ships(path: Path) -> None:
    for source in load(path).served:
        model = card.model_of(source)
        expected = TERMS[model if model in TERMS else source.name]
        assert licence(model, source.name).partition(":")[0] == expected


def test_terms_of_models_that_nothing_is_known_of() -> None:
    assert licence("x/y", "teacher") == licence("", "") == card.NO_LICENCE
    assert licence("/models/mine", "gemma-2-9b") == LICENCES["gemma"]  # a folder says nothing
    assert licence("x/Llama-2-7B").startswith("a Llama Community License; outputs of Llama 2")
    assert licence("google/gemma-4-27b-it") == "Apache-2.0"


def test_a_run_is_a_directory_or_a_recipe(made: tuple[RunDir, Recipe], tmp_path: Path) -> None:
    assert locate_run(made[0].url)[1] == made[1]
    with pytest.raises(RunDirectoryError, match="is not a run directory"):
        locate_run(str(tmp_path))
    with pytest.raises(UserError, match="no such recipe"):
        locate_run(str(tmp_path / "nothing.yaml"))
    (Path(made[0].url) / "run.json").write_text('{"settings": {"name": 1}}')
    with pytest.raises(RunDirectoryError, match="can't be read"):
        locate_run(made[0].url)


class Hub(QuietHandler):
    """The part of the hub's HTTP API that a commit of small files uses."""

    calls: ClassVar[list[tuple[str, str, str | None]]] = []
    files: ClassVar[dict[str, bytes]] = {}
    refuse = 0
    refuse_card = False

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.calls.append(("POST", self.path, self.headers.get("authorization")))
        here = f"http://{self.headers['host']}/datasets/me/fused"
        if self.refuse:
            self._answer(self.refuse, {"error": f"no, {self.headers.get('authorization')}"})
        elif self.path == "/api/validate-yaml" and self.refuse_card:
            self._answer(400, {"warnings": [], "errors": [{"message": "bad indentation of a mapping entry"}]})
        elif self.path == "/api/repos/create":
            self._answer(200, {"url": here, "name": "me/fused", "id": "1"})
        elif self.path.endswith("/preupload/main"):
            names = [f["path"] for f in json.loads(body)["files"]]
            self._answer(200, {"files": [{"path": n, "uploadMode": "regular", "shouldIgnore": False} for n in names]})
        elif self.path.endswith("/commit/main"):
            for line in body.splitlines():
                item = json.loads(line)
                if item["key"] == "file":
                    self.files[item["value"]["path"]] = base64.b64decode(item["value"]["content"])
            self._answer(200, {"success": True, "commitUrl": f"{here}/commit/{'a' * 40}", "commitOid": "a" * 40})
        else:
            self._answer(200, {"warnings": [], "errors": []})

    def do_GET(self) -> None:
        self._answer(404, {"error": "not found"})


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.calls, Hub.files, Hub.refuse, Hub.refuse_card = [], {}, 0, False
    with serve(Hub) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
        yield Hub


def test_a_push_commits_data_and_card_at_once_as_the_token_says(
    made: tuple[RunDir, Recipe], hub: type[Hub], capsys: pytest.CaptureFixture[str]
) -> None:
    run, recipe = made
    where = push(run, recipe, "me/fused")
    assert where.endswith("a" * 40)
    assert set(hub.files) == {"sft/train.parquet", "pairs/train.parquet", "README.md"}
    rows = pl.read_parquet(hub.files["pairs/train.parquet"])
    assert rows["row_id"].to_list() == run.read_table("select", "pairs.parquet")["row_id"].to_pylist()
    assert {token for _, _, token in hub.calls} == {"Bearer hf_secretsecret"}
    assert sum("/commit/" in path for _, path, _ in hub.calls) == 1
    assert "hf_secretsecret" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("status", [401, 403, 400])
def test_a_hub_that_refuses_is_told_without_the_token(made: tuple[RunDir, Recipe], hub: type[Hub], status: int) -> None:
    hub.refuse = status
    with pytest.raises(Exception, match=f"push: the hub .*{status}") as error:
        push(*made, "me/fused")
    assert "hf_secretsecret" not in str(error.value)
    with pytest.raises(UserError, match="must be owner/name"):
        push(*made, "fused")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "http://nothing.invalid", "no url", "http://["])
def test_a_hub_that_cannot_be_reached_is_told_in_one_line(
    made: tuple[RunDir, Recipe], monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
    with pytest.raises(UserError, match=f"^push: {re.escape(endpoint)} can't be reached: .*HF_ENDPOINT") as error:
        push(*made, "me/fused")
    assert "\n" not in str(error.value) and "hf_secretsecret" not in str(error.value)


def test_a_card_whose_yaml_the_hub_refuses_is_told_in_one_line(made: tuple[RunDir, Recipe], hub: type[Hub]) -> None:
    hub.refuse_card = True
    with pytest.raises(UserError, match=r"^push: the hub refused the card.*bad indentation") as error:
        push(*made, "me/fused")
    assert "\n" not in str(error.value) and not hub.files


def test_a_server_that_is_no_hub_is_told_in_one_line(
    made: tuple[RunDir, Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Page(QuietHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

    with serve(Page) as url:
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setenv("HF_TOKEN", "hf_secretsecret")
        with pytest.raises(UserError, match="or is no hub"):
            push(*made, "me/fused")
