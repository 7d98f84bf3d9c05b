"""The paper's figures beside the run's: true to their source, only where they belong, and safe to show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from fusechat.pipeline.evaluation import item_tables
from fusechat.pipeline.evaluation.suite_scores import suite_results
from fusechat.pipeline.recipe.load import load, packaged_recipes
from fusechat.pipeline.report import page as report
from fusechat.pipeline.report.paper_table import PaperTable, paper_table, published
from fusechat.pipeline.storage.run_dir import RunDir

HUB = "meta-llama/Llama-3.1-8B-Instruct"
FOURTEEN = (
    "alpaca_eval_2", "arena_hard", "mt_bench", "align_bench", "livebench", "mmlu_pro", "mmlu_redux", "gpqa_diamond",
    "gsm8k", "math", "amc23", "humaneval", "mbpp", "livecodebench",
)  # fmt: skip
RATED = ("mt_bench", "align_bench")
HOSTILE = "<script>document.title='owned'</script>\n```\n# heading\n\u202eevil {{ 7*7 }} & 5%"


def results(names: tuple[str, ...], models: tuple[str, ...] = ("target", "sft", "dpo"), **changes: Any) -> Any:
    """Scores of 50, 60 and 70%, or ratings of 5, 6 and 7."""
    items, suites = [], []
    for name in names:
        method = "rating" if name in RATED else None
        suites.append(
            {
                "name": name, "kind": "judged" if method else "verified", "group": "", "form": "rows", "num_items": 10,
                "files": {"<b>f</b>": "ab" * 32}, "identity": "i", "unusable": 0, "contaminated": 0, "samples": 1,
                "seed": 0, "ask": "{prompt}", "baseline": None, "more_samplings": [], "tasks": None, "control": None,
                "sampling": {"temperature": 0.0, "top_p": 1.0, "max_tokens": 64}, "judging": None, "method": method,
                **changes,
            }
        )  # fmt: skip
        for k, model in enumerate(models):
            for i in range(10):
                items.append(
                    {
                        "suite": name, "model": model, "prompt_id": f"p{i}", "id": str(i), "domain": "math",
                        "score": 5.0 + k if method else float(i < 5 + k), "why": "x", "prompt": "?", "text": "!",
                        "answers": 1, "rejected": 0, "truncated": 0, "completion_tokens": 9.0, "chars": 12.0,
                        "style": [12, 0, 0, 0],
                    }
                )  # fmt: skip
    versions = {model: {"revision": model, "template": "t"} for model in models}
    table = item_tables.items_table(items, {})
    return table, suite_results(table, suites, versions, {})


def made(names: tuple[str, ...] = FOURTEEN, hub: str | None = HUB, **changes: Any) -> PaperTable:
    found = paper_table(results(names, **changes)[1], hub)
    assert found is not None
    return found


def test_the_figures_agree_with_the_abstract_and_with_their_own_means() -> None:
    figures = published()
    assert list(figures["benchmarks"]) == list(figures["targets"][0]["figures"])
    assert sorted(figures["benchmarks"]) == sorted(FOURTEEN)
    llama = figures["targets"][0]
    gains = {n: each[2] - each[0] for n, each in llama["figures"].items() if each is not None}
    assert gains["alpaca_eval_2"] == pytest.approx(37.1)  # the abstract of arXiv 2503.04222
    assert gains["arena_hard"] == pytest.approx(30.1)
    assert llama["mean"][2] - llama["mean"][0] == pytest.approx(6.8)
    for target in figures["targets"]:
        known = [each for each in target["figures"].values() if each is not None]
        if len(known) == 14:  # a mean of ratings as they are, beside percentages
            for i, mean in enumerate(target["mean"]):
                assert sum(each[i] for each in known) / 14 == pytest.approx(mean, abs=0.051)
        else:
            assert "not MMLU-redux" in target["note"]


@pytest.mark.parametrize("recipe", sorted(packaged_recipes().glob("fusechat3-*.yaml")), ids=lambda p: p.stem)
def test_every_target_of_the_shipped_recipes_has_figures(recipe: Path) -> None:
    assert made(hub=load(recipe).target.model.hub)["rows"][0]["paper"][0] is not None


def test_all_fourteen_stand_beside_the_run() -> None:
    table = made()
    assert table["columns"] == ["before", "SFT", "DPO", "difference"]
    rows = {row["title"]: row for row in table["rows"]}
    assert len(rows) == 15
    talk = rows["MT-Bench, 1 to 10"]
    assert talk["paper"] == pytest.approx([8.4, 8.5, 9.0, 0.6])
    assert (talk["here"], talk["metric"]) == (pytest.approx([5, 6, 7, 2]), "rating, 1 to 10")
    assert rows["GSM8K"]["here"] == pytest.approx([50, 60, 70, 20])
    assert rows["mean"]["paper"] == pytest.approx([40.5, 43.2, 47.3, 6.8])
    assert rows["mean"]["here"][0] == pytest.approx((12 * 50 + 2 * 5) / 14)


def test_what_was_not_evaluated_or_not_found_is_none() -> None:
    table = made(("gsm8k",), models=("target", "sft"), hub="meta-llama/Llama-3.2-1B-Instruct")
    rows = {row["title"]: row for row in table["rows"]}
    assert rows["GSM8K"]["here"] == [pytest.approx(50), pytest.approx(60), None, None]
    assert rows["MATH"]["here"] == [None] * 4
    assert rows["MATH"]["metric"] == "not evaluated"
    assert rows["MMLU-redux"]["paper"] == [None] * 4
    assert rows["mean"]["here"] == [None] * 4


def test_there_is_no_table_for_other_targets_or_suites() -> None:
    _, found = results(("gsm8k",))
    assert paper_table(found, "owner/other") is None
    assert paper_table(found, None) is None
    assert paper_table(results(("own",))[1], HUB) is None
    assert paper_table(None, HUB) is None
    assert paper_table(found, "meta-llama/llama-3.1-8b-instruct") is not None  # the hub knows no case


def test_what_a_judge_says_is_shown_safely(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    table, found = results(("mt_bench", "gsm8k"))
    rows = [{**row, "why": HOSTILE, "text": HOSTILE, "prompt": HOSTILE} for row in table.to_pylist()]
    for row in rows[::7]:
        row["score"] = None
    table = item_tables.items_table(rows, {})
    found = suite_results(table, found["suites"], found["models"], {})
    run.write_table(table, "evaluate", "items.parquet")
    run.write_json(found, "evaluate", "suites.json")
    report.write(run, load(packaged_recipes() / "fusechat3-llama3.1-8b.yaml"))
    page = run.local_path("report", "report.html").read_text("utf-8")
    section = page[page.index("Ratings by the judge") : page.index("Sampling and judging")]
    assert "<script" not in page
    assert "&lt;script&gt;" in section
    assert "\u202e" not in page


def test_the_report_prints_it_as_html_and_as_text(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    table, found = results(FOURTEEN)
    run.write_table(table, "evaluate", "items.parquet")
    run.write_json(found, "evaluate", "suites.json")
    report.write(run, load(packaged_recipes() / "fusechat3-llama3.1-8b.yaml"))
    page = run.local_path("report", "report.html").read_text("utf-8")
    assert "<td>MT-Bench, 1 to 10</td><td>8.4</td><td>8.5</td><td>9.0</td><td>+0.6</td><td>5.0</td>" in page
    assert "The figures of the FuseChat-3.0 paper (arXiv 2503.04222) for Llama-3.1-8B-Instruct" in page
    assert "The models were evaluated on 14 benchmarks. There are no held-out prompts." in page
    assert "<b>f</b>" not in page
    assert "5af2badba59fc4561202e19a7311ec119a19a73b" in page
    assert ">5.00 (5.00 to 5.00), 12 chars<" in page
    assert "a rating of 1 to 10 counts as that many percent" in page
    text = run.local_path("report", "report.md").read_text("utf-8")
    lines = [line for line in text.splitlines() if line.startswith(("| |", "| MT-Bench", "| mean |"))]
    assert len({line.count("|") for line in lines}) == 1
    assert re.search(
        r"\| MT-Bench, 1 to 10 \| 8.4 \| 8.5 \| 9.0 \| \+0.6 \| 5.0 \| 6.0 \| 7.0 \| \+2.0 \| rating", text
    )
    assert re.search(r"\| mt_bench \| dpo \| target \| 10 \| \+2.00 \|", text)  # no percent of a rating
    other = RunDir(str(tmp_path / "other"))
    other.write_table(table, "evaluate", "items.parquet")
    other.write_json(found, "evaluate", "suites.json")
    report.write(other, load(packaged_recipes() / "demo.yaml"))
    assert "FuseChat-3.0 paper" not in other.local_path("report", "report.html").read_text("utf-8")
