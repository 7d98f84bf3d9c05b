"""The report: numbers from files, hostile text harmless, and the page in a real browser."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from fusechat.pipeline.evaluation.heldout import summarise
from fusechat.pipeline.identities import digest
from fusechat.pipeline.recipe import Recipe
from fusechat.pipeline.recipe.load import load, packaged_recipes
from fusechat.pipeline.records import ANSWER, RESPONSE, SCORE
from fusechat.pipeline.report import model_card
from fusechat.pipeline.report import page as report
from fusechat.pipeline.storage.manifest import Manifest
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir

HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=alert(1)>\n```\n# heading\n```\n"
    "\u202eevil\x00\x1b[31m $x$ {{ 7*7 }}"
)
BROWSER = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return load(packaged_recipes() / "demo.yaml")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe) -> RunDir:
    """A finished run, made by hand."""
    made = RunDir(str(tmp_path_factory.mktemp("run")))
    responses, scores = [], []
    for i in range(40):
        domain = ("math", "code", "instruction", "chinese")[i % 4]
        for j in range(2):
            identity, prompt = digest("r", i, j), digest("p", i)
            responses.append(
                {
                    "response_id": identity, "prompt_id": prompt, "domain": domain, "source": "smollm2-135m",
                    "revision": "x", "sample_index": j, "seed": 1, "params": "{}", "template": "t", "text": HOSTILE,
                    "finish_reason": "length" if i % 9 == 8 else "stop", "reject": "", "prompt_tokens": 3,
                    "completion_tokens": 20 + i,
                }
            )  # fmt: skip
            scores.append(
                {
                    "response_id": identity, "prompt_id": prompt, "domain": domain, "source": "smollm2-135m",
                    "rewards": [("likelihood", -1.0 - 0.01 * i - 0.3 * j)], "reward_rejects": [],
                    "correct": (j == 0) if domain in ("math", "code") else None, "verdict": "x", "detail": HOSTILE,
                }
            )  # fmt: skip
    old = responses[0] | {"response_id": "o", "source": "old", "finish_reason": "imported", "completion_tokens": 0}
    Parts(made, "sample", RESPONSE, "response_id").write_all([*responses, old], 4)
    unscored = scores[0] | {"response_id": "o", "source": "old", "rewards": []}
    Parts(made, "score", SCORE, "response_id").write_all([*scores, unscored], 4)
    agreement = {
        "auc": 0.8,
        "num": 40,
        "num_correct": 20,
        "by_source_domain": {"smollm2-135m/math": 0.8, "x/code": None},
    }
    judge = {**agreement, "auc": None}
    points = [[20 + i, -1.0 - 0.01 * i, ("math", "code")[i % 2]] for i in range(40)]
    relations = {
        "verdicts": {"likelihood": agreement, "judge": judge},
        "lengths": {
            "likelihood": {"spearman": -1.0, "num": 40, "points": points},
            "judge": {"spearman": None, "num": 0, "points": []},
        },
        "ranks": [{"a": "likelihood", "b": "judge", "num": 33, "spearman": 0.4321, "kendall": None}],
    }
    found = {"chosen": "likelihood", "reward_models": {"likelihood": agreement, "judge": judge}, "run": relations}
    made.write_json(found, "score", "agreement.json")
    by_domain = {
        "math": {"selected_sft": 6, "all_wrong": 4},
        "code": {"selected_pair": 10},
        "unknown": {"rejected_empty": 1},
    }
    reasons = {"selected_sft": 6, "all_wrong": 4, "selected_pair": 10, "rejected_empty": 1}
    made.write_json({"num_prompts": 21, "reasons": reasons, "by_domain": by_domain}, "select", "funnel.json")
    for stage in ("sft", "dpo"):
        lines = [json.dumps({"step": s, "loss": 0.693 / s, "learning_rate": 1e-4}) for s in range(1, 9)]
        made.write_bytes("\n".join(lines).encode(), stage, "metrics.jsonl")
    rows: list[dict[str, Any]] = []
    for i in range(40):
        domain = ("math", "code", "instruction", "chinese")[i % 4]
        for model, right in (("target", i < 4), ("sft", i < 20), ("dpo", 2 < i < 26)):
            verified = domain in ("math", "code")
            rows.append(
                {
                    "answer_id": f"{model}{i}", "model": model, "prompt_id": digest(i), "id": f"<b>{i}</b>",
                    "domain": domain, "template_seen": bool(i % 3), "prompt": HOSTILE, "text": HOSTILE * 20,
                    "finish_reason": "stop", "completion_tokens": 9, "correct": right if verified else None,
                    "verdict": "correct", "rating": None if verified else 3.5,
                }
            )  # fmt: skip
    answers = pa.Table.from_pylist(rows, schema=ANSWER)
    made.write_table(answers, "evaluate", "answers.parquet")
    made.write_json(summarise(answers), "evaluate", "metrics.json")
    made.write_manifest(
        Manifest(stage="sample", config="c", inputs={}, data="d", counts={"responses": 80}, versions={"ray": "2"})
    )
    report.write(made, recipe)
    return made


def page(run: RunDir) -> str:
    return run.local_path("report", "report.html").read_text("utf-8")


def test_model_text_stays_text(run: RunDir) -> None:
    html = page(run)
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html
    assert "\u202e" not in html and "\\u202e" in html and "\x1b" not in html
    assert "{{ 7*7 }}" in html  # it is content, never a template


def test_nothing_is_fetched(run: RunDir) -> None:
    html = page(run)
    outside = (
        html.replace("http://www.w3.org", "").replace("http://purl.org", "").replace("http://creativecommons.org", "")
    )
    assert "http://" not in outside and "https://" not in outside


def test_markdown_cannot_be_broken_out_of(run: RunDir) -> None:
    text = run.local_path("report", "report.md").read_text("utf-8")
    start = text.index("## Answers side by side")
    section = text[start : text.index("## Where the numbers come from")]
    for line in section.splitlines():
        if "script" in line or "heading" in line or "```" in line:
            assert line.startswith("    "), line


def test_the_two_forms_hold_the_same_numbers(run: RunDir) -> None:
    metrics = run.read_json("evaluate", "metrics.json")
    shown = f"{100 * metrics['models']['dpo']['verified']['accuracy']:.1f}"
    assert shown in page(run)
    assert shown in run.local_path("report", "report.md").read_text("utf-8")


def test_tokens_that_nobody_counted_are_said_to_be_not_counted(run: RunDir) -> None:
    lines = run.local_path("report", "report.md").read_text("utf-8").splitlines()
    (row,) = [line for line in lines if line.startswith("| old |")]
    assert row.endswith("| 0 (not counted) |")
    assert "<td>0 (not counted)</td>" in page(run)


def test_how_the_rewards_agree_is_shown_and_is_no_must(run: RunDir, recipe: Recipe, tmp_path: Path) -> None:
    shown = page(run), run.local_path("report", "report.md").read_text("utf-8")
    for text in shown:
        assert "0.432" in text and "smollm2-135m/math" in text and "33" in text
    assert "Rank correlation between reward models" in shown[0]
    assert "Reward against the length" in shown[0]
    shutil.copytree(run.url, tmp_path / "run")
    older = RunDir(str(tmp_path / "run"))
    agreement = older.read_json("score", "agreement.json")
    del agreement["run"]
    older.write_json(agreement, "score", "agreement.json")
    report.write(older, recipe)
    assert "Reward against the length" not in page(older)
    assert "Selection used <b>likelihood</b>" in page(older)


def test_a_funnel_that_does_not_add_up_is_said_aloud(run: RunDir, recipe: Recipe, tmp_path: Path) -> None:
    shutil.copytree(run.url, tmp_path / "run")
    other = RunDir(str(tmp_path / "run"))
    funnel = other.read_json("select", "funnel.json")
    other.write_json({**funnel, "num_prompts": 22}, "select", "funnel.json")
    report.write(other, recipe)
    assert "The reasons add up to 21, not to the 22 prompts" in page(other)
    assert "add up to" not in page(run)


def test_stages_that_were_not_run_are_said(tmp_path: Path, recipe: Recipe) -> None:
    empty = RunDir(str(tmp_path / "run"))
    report.write(empty, recipe)
    assert "The models have not been evaluated" in page(empty)
    assert page(empty).count("Not run.") >= 5


def test_each_trained_model_has_a_card(run: RunDir, recipe: Recipe, sft_rows: Any, pairs: Any, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    shutil.copytree(run.url, tmp_path / "run")
    made = RunDir(str(tmp_path / "run"))
    model_card.write_all(made, recipe)  # nothing was trained: nothing is written
    made.write_table(sft_rows(12), "select", "sft.parquet")
    made.write_table(pairs(7), "select", "pairs.parquet")
    for stage in ("sft", "dpo"):
        lines = [json.dumps({"step": s, "loss": 0.693 / s, "tokens": 100}) + "\n" for s in (1, 2)]
        made.write_bytes("".join(lines).encode(), stage, "metrics.jsonl")
        made.write_json({"folder": "f"}, stage, "result.json")
    model_card.write_all(made, recipe)
    found = {s: ModelCard.load(tmp_path / "run" / s / "f" / "model" / "README.md") for s in ("sft", "dpo")}
    assert found["dpo"].data.tags == ["fusechat", "trl", "dpo"]
    accuracy = made.read_json("evaluate", "metrics.json")["models"]["dpo"]["verified"]["accuracy"]
    for text in (card.text for card in found.values()):
        assert f" {100 * accuracy:.1f} (" in text
        assert "| tokens | 200 |" in text and "0.693, 0.346" in text
        assert "12 SFT rows" in text and "Apache-2.0" in text
    assert "7 preference pairs" in found["dpo"].text and "7 preference pairs" not in found["sft"].text
    model_card.write(made, recipe, "sft", evaluated=False)  # trained anew: those figures are the old model's
    anew = (tmp_path / "run" / "sft" / "f" / "model" / "README.md").read_text()
    assert "Not evaluated yet" in anew and f" {100 * accuracy:.1f} (" not in anew
    assert "| beta |" in found["dpo"].text and "| beta |" not in found["sft"].text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [1280, 390])
def test_opens_in_a_browser(run: RunDir, width: int) -> None:
    from playwright.sync_api import sync_playwright

    problems: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=BROWSER,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"],
        )
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.on("console", lambda m: problems.append(m.text))
        tab.on("pageerror", lambda e: problems.append(str(e)))
        tab.on("request", lambda r: problems.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        tab.goto(run.local_path("report", "report.html").as_uri())
        assert tab.title() == "fusechat: demo"
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        sizes = tab.evaluate("[...document.querySelectorAll('figure svg')].map(s => s.getBoundingClientRect().height)")
        assert len(sizes) == 7 and min(sizes) > 60
        assert tab.evaluate("document.querySelectorAll('script, pre img').length") == 0
        assert tab.locator("details").count() == 12
        browser.close()
    assert not problems
