"""What a user sees: progress lines during a run, and the table at its end."""

from __future__ import annotations

import io
import re
import threading
from pathlib import Path
from typing import Any

import pytest
from clocks import ManualClock
from rich.console import Console

from fusechat.pipeline import progress as progress_module
from fusechat.pipeline.progress import Progress
from fusechat.pipeline.report.summary import print_summary
from fusechat.pipeline.storage.run_dir import RunDir


@pytest.fixture(autouse=True)
def _tick(clock: ManualClock) -> None:
    """Each reading of the clock takes a microsecond, so that no time is exactly zero."""
    clock.tick_s = 1e-6


def lines(out: io.StringIO) -> list[str]:
    """The printed lines, without the elapsed time at the start of each."""
    found = out.getvalue().splitlines()
    assert all(re.match(r" *\d+:\d\d ", line) for line in found)
    return [line.partition(":")[2][3:] for line in found]


def test_text_of_users_is_printed_as_it_is(progress: Progress, out: io.StringIO) -> None:
    progress.log("runs/[bold]x[/bold] [/] {0}")
    assert lines(out) == ["runs/[bold]x[/bold] [/] {0}"]


def test_a_thing_under_way_has_a_first_and_a_last_line(progress: Progress, out: io.StringIO) -> None:
    progress.begin("sample a", total=10, done=4)
    progress.advance("sample a", rows=2, tokens=30)
    progress.advance("sample a", rows=4, tokens=70)
    progress.end("sample a")
    first, last = lines(out)
    assert first == "sample a: 10 rows, 4 were done before"
    assert re.fullmatch(r"sample a: 6 rows in 0 s, \d+ tokens/s", last)


def test_rows_without_tokens_have_no_rate(progress: Progress, out: io.StringIO) -> None:
    progress.begin("verify", total=1)
    progress.advance("verify", rows=1)
    progress.end("verify")
    assert lines(out) == ["verify: 1 rows", "verify: 1 rows in 0 s"]


def test_what_had_nothing_to_do_ends_without_a_line(progress: Progress, out: io.StringIO) -> None:
    progress.begin("score", total=5, done=5)
    progress.end("score")
    assert lines(out) == ["score: 5 rows, 5 were done before"]


def test_a_line_comes_only_every_few_seconds(progress: Progress, out: io.StringIO, clock: ManualClock) -> None:
    progress.begin("sample a", total=1000)
    for _ in range(100):
        progress.advance("sample a", rows=1, tokens=10)
    assert len(lines(out)) == 1
    clock.now += 6
    progress.advance("sample a", rows=1, tokens=10)
    assert len(lines(out)) == 2
    assert lines(out)[1] == "sample a: 101/1000 rows 168 tokens/s, 0:53 left"


@pytest.mark.parametrize(
    ("total", "done", "tokens", "seconds", "line"),
    [
        (100, 25, 500, 50, "25/100 rows 10 tokens/s, 2:30 left"),
        (100, 0, 0, 50, "0/100 rows"),
        (100, 100, 0, 50, "100/100 rows, 0:00 left"),
        (4000, 1, 0, 1, "1/4000 rows, 66:39 left"),
        (180, 60, 0, 59.9, "60/180 rows, 2:00 left"),
    ],
)
def test_the_time_left_follows_from_the_pace(total: int, done: int, tokens: int, seconds: float, line: str) -> None:
    bar = progress_module._Bar(total=total, unit="rows", began=1000.0, done=done, tokens=tokens)
    assert progress_module._line(bar, 1000.0 + seconds) == line


def test_many_threads_count_together(progress: Progress, out: io.StringIO) -> None:
    progress.begin("sample a", total=4000)

    def work() -> None:
        for _ in range(500):
            progress.advance("sample a", rows=1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    progress.end("sample a")
    assert lines(out)[-1].startswith("sample a: 4000 rows in ")


def test_two_things_at_the_same_time_are_kept_apart(progress: Progress, out: io.StringIO) -> None:
    progress.begin("sample a", total=3)
    progress.begin("sample b", total=5)
    progress.advance("sample a", rows=3)
    progress.advance("sample b", rows=5)
    progress.end("sample b")
    progress.end("sample a")
    assert lines(out)[2:] == ["sample b: 5 rows in 0 s", "sample a: 3 rows in 0 s"]


# --- how a run ends


def share(accuracy: float, low: float, high: float, num_items: int = 40) -> dict[str, Any]:
    return {"num_items": num_items, "accuracy": accuracy, "low": low, "high": high}


METRICS: dict[str, Any] = {
    "models": {
        "target": {"verified": share(0.05, 0.01, 0.15), "math": share(0.04, 0.0, 0.2, 25)},
        "sft": {"verified": share(0.3, 0.2, 0.45), "math": share(0.28, 0.1, 0.5, 25)},
        "dpo": {"verified": share(0.325, 0.2, 0.48), "math": share(0.32, 0.15, 0.5, 25)},
    },
    "comparisons": [
        {
            "model": "dpo",
            "baseline": "target",
            "domain": "verified",
            "num_items": 40,
            "difference": 0.275,
            "low": 0.13,
            "high": 0.42,
        },
        {
            "model": "dpo",
            "baseline": "target",
            "domain": "math",
            "num_items": 25,
            "difference": 0.28,
            "low": 0.1,
            "high": 0.5,
        },
        {
            "model": "dpo",
            "baseline": "sft",
            "domain": "verified",
            "num_items": 40,
            "difference": -0.025,
            "low": -0.1,
            "high": 0.05,
        },
    ],
}


def summary(run: RunDir) -> str:
    out = io.StringIO()
    print_summary(run, Console(file=out, highlight=False, width=120))
    return out.getvalue()


def test_a_run_ends_with_the_funnel_before_and_after_and_the_reports_path(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path / "a [bold] run"))
    run.write_json({"num_prompts": 9, "reasons": {"all_wrong": 2, "selected_sft": 7}}, "select", "funnel.json")
    run.write_json(METRICS, "evaluate", "metrics.json")
    run.write_bytes(b"<html>", "report", "report.html")
    said = summary(run).splitlines()
    assert said[1] == "9 prompts: 7 selected_sft, 2 all_wrong"
    rows = {line.split("│")[1].strip(): line for line in said if line.startswith("│")}
    assert rows.keys() == {"math + code", "math"}
    assert [c.strip() for c in rows["math + code"].split("│")[2:6]] == [
        "40",
        "5.0 (1-15)",
        "30.0 (20-45)",
        "32.5 (20-48)",
    ]
    assert "dpo against target: +27.5 points (95% interval +13.0 to +42.0, 40 prompts)" in said
    assert "dpo against sft: -2.5 points (95% interval -10.0 to +5.0, 40 prompts)" in said
    assert sum(" against " in line for line in said) == 2
    assert said[-1] == f"report: {tmp_path}/a [bold] run/report/report.html"


def test_a_run_that_got_nowhere_ends_without_a_word(tmp_path: Path) -> None:
    assert summary(RunDir(str(tmp_path))) == ""
