"""The table in its three forms, the pictures, and the suites' section of the report, with hostile text in all of it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fusechat.pipeline.cli.evaluate import print_suites
from fusechat.pipeline.evaluation import item_tables
from fusechat.pipeline.evaluation.suite_scores import suite_results
from fusechat.pipeline.recipe.load import load, packaged_recipes
from fusechat.pipeline.report import benchmarks, suite_plots
from fusechat.pipeline.report import page as report
from fusechat.pipeline.storage.run_dir import RunDir

HOSTILE = "<script>document.title='owned'</script>\n```\n# heading\n\u202eevil\x00\x1b[31m $x$ {{ 7*7 }} & 5% _a_"
MODELS = {"target": {"revision": "content:1", "template": "t"}, "x_1": {"revision": "b", "template": "t"}}


def told(name: str, group: str, kind: str = "verified", **changes: Any) -> dict[str, Any]:
    return {
        "name": name, "kind": kind, "group": group, "form": "rows", "num_items": 60,
        "files": {f"{HOSTILE}.jsonl": "ab" * 32},
        "identity": "i", "unusable": 1, "contaminated": 0, "samples": 1, "seed": 0, "ask": "{prompt}", "baseline": None,
        "sampling": {"temperature": 0.0, "top_p": 1.0, "max_tokens": 64}, "control": None, "judging": None,
        "more_samplings": [], "tasks": None, **changes,
    }  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    made = RunDir(str(tmp_path_factory.mktemp("run")))
    items = []
    suites = [
        told("gsm_8k", "math", contaminated=3),
        told("math", "math"),
        told("code", ""),
        told(
            "talk", "open", "judged", control="length", baseline="target",
            judging={"judge": "j", "judgements": 120, "prompt_tokens": 1234, "completion_tokens": 56},
        ),
        told("silent", "open", "judged", control="none", baseline="target"),
    ]  # fmt: skip
    for suite in suites:
        for i in range(60):
            for model in MODELS:
                score: float | None = float(i % 3 == 0 or (model == "x_1" and i % 2 == 0))
                if suite["kind"] == "judged":
                    score = 0.5 if model == "target" else None if suite["name"] == "silent" else score
                items.append(
                    {
                        "suite": suite["name"], "model": model, "prompt_id": f"p{i}", "id": f"<b>{i}</b>",
                        "domain": ("math", "chinese")[i % 2], "score": score, "why": HOSTILE, "prompt": HOSTILE,
                        "text": HOSTILE * 30, "answers": 1, "rejected": 0, "truncated": 0, "completion_tokens": 9.0,
                        "chars": 1200.0 + i, "style": [1200 + 7 * (i % 5), 0, 0, 0],
                    }
                )  # fmt: skip
    table = item_tables.items_table(items, {"gsm_8k": {"p0", "p1", "p2"}})
    made.write_table(table, "evaluate", "items.parquet")
    made.write_json(suite_results(table, suites, MODELS, {}), "evaluate", "suites.json")
    report.write(made, load(packaged_recipes() / "demo.yaml"))
    return made


def test_the_table_has_a_line_a_suite_and_means(run: RunDir) -> None:
    table = json.loads(run.local_path("report", "benchmarks.json").read_text())
    assert table["columns"] == ["target", "x_1"]
    assert [(line["title"], line["kind"], line["what"]) for line in table["lines"]] == [
        ("gsm_8k", "suite", "% right"),
        ("math", "suite", "% right"),
        ("mean of math", "group", ""),
        ("talk", "suite", "length-controlled win rate"),
        ("silent", "suite", "win rate"),
        ("mean of open", "group", ""),
        ("code", "suite", "% right"),
        ("mean of all", "all", ""),
    ]
    first, second, mean = (line["cells"] for line in table["lines"][:3])
    assert first["target"]["value"] == pytest.approx(100 / 3)
    assert first["x_1"]["value"] == pytest.approx(200 / 3)
    assert (first["x_1"]["sure"], first["target"]["sure"]) == (True, False)
    assert mean["x_1"]["value"] == pytest.approx((first["x_1"]["value"] + second["x_1"]["value"]) / 2)
    assert table["lines"][4]["cells"]["x_1"] is None
    assert table["lines"][5]["cells"] == {"target": {"value": 50.0}, "x_1": None}


def test_the_table_as_markdown_and_latex(run: RunDir) -> None:
    text = run.local_path("report", "benchmarks.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {6}
    assert re.search(r"\| gsm_8k \| % right \| 60 \| 33.3 \(22.7 to 45.9\)! \| 66.7 \(54.1 to 77.3\)\*! \|", text)
    assert re.search(r"\| talk \| .* to [\d.]+\)\*?, 1230 chars \|", text)
    source = run.local_path("report", "benchmarks.tex").read_text()
    assert r"Benchmark & Items & target & x\_1 \\" in source
    assert r"gsm\_8k & 60 & 33.3 $\pm$ 11.6$^{!}$ & 66.7 $\pm$ 11.6$^{*!}$ \\" in source
    rows = [line for line in source.splitlines() if line.endswith(r"\\")]
    assert {line.replace(r"\&", "").count("&") for line in rows} == {3}
    assert benchmarks.escape_latex("a_b & 5% {x} \\ ~ ^ # $") == (
        r"a\_b \& 5\% \{x\} \textbackslash{} \textasciitilde{} \textasciicircum{} \# \$"
    )


def test_the_section_of_the_report(run: RunDir) -> None:
    page = run.local_path("report", "report.html").read_text("utf-8")
    assert "<script" not in page
    assert "<b>0</b>" not in page
    assert "\u202e" not in page
    assert "{{ 7*7 }}" in page
    section = page[page.index("<h2>Benchmarks") : page.index("<h2>From prompts")]
    assert section.count("<svg") == 2  # bars and radar
    for told_there in (
        "Holm",
        "length-controlled",
        "120 judgements, 1234 tokens read, 56 written",
        "content:1",
        "1230",
    ):
        assert told_there in section
    assert "60 " in section[section.index("without a preference") :]  # the silent judge's pairs are counted
    assert section.count("<details>") == 3 * benchmarks.EXAMPLES_PER_KIND  # both domains got better, Chinese also worse
    text = run.local_path("report", "report.md").read_text("utf-8")
    assert "## Benchmarks" in text
    assert "\n# heading" not in text


def test_one_suite_has_bars_and_no_radar(run: RunDir) -> None:
    found = run.read_json("evaluate", "suites.json")
    found["suites"], found["groups"] = found["suites"][:1], {}
    found["suites"][0]["group"] = ""
    lines = benchmarks.table_rows(found)
    assert [line.kind for line in lines] == ["suite"]
    assert not suite_plots.has_radar(lines, list(MODELS))
    assert suite_plots.bars(lines, list(MODELS)).startswith("<svg")


def test_without_suites_there_is_no_table(tmp_path: Path) -> None:
    empty = RunDir(str(tmp_path))
    report.write(empty, load(packaged_recipes() / "demo.yaml"))
    assert "The recipe names no suites." in empty.local_path("report", "report.html").read_text()
    assert not empty.exists("report", "benchmarks.json")


def test_the_table_on_the_terminal(
    run: RunDir, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    print_suites(run)
    out = capsys.readouterr().out
    assert "66.7 (54.1 to 77.3)*!" in out
    assert "mean of math" in out
    assert "differs from target" in out
