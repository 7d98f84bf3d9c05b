"""The progress of a whole run, shown beside a stage's: the share that is done and the time left."""

from __future__ import annotations

import io

from clocks import ManualClock

from fusechat.pipeline.progress import Progress


def last(out: io.StringIO) -> str:
    return out.getvalue().splitlines()[-1]


def work(progress: Progress, clock: ManualClock, what: str, seconds: float, done: int, total: int) -> None:
    """Reports `done` of `total` rows after these seconds."""
    progress.begin(what, total)
    clock.now += seconds
    progress.advance(what, done)


def test_a_run_that_was_foreseen_in_seconds_has_a_figure_from_its_first_line(
    progress: Progress, clock: ManualClock, out: io.StringIO
) -> None:
    progress.plan_stages({"sample": 100, "sft": 80, "evaluate": 20}, in_seconds=True)
    progress.start_stage("sample")
    work(progress, clock, "sample a", seconds=50, done=5, total=10)
    assert last(out).endswith("sample a: 5/10 rows, 0:50 left; run 25%, about 2:30 left")


def test_a_slow_machine_is_noticed(progress: Progress, clock: ManualClock, out: io.StringIO) -> None:
    progress.plan_stages({"sample": 100, "sft": 80}, in_seconds=True)
    progress.start_stage("sample")
    clock.now += 260  # twice as long as foreseen, counting the minute in which the forecast is trusted
    progress.finish_stage("sample")
    progress.start_stage("sft")
    work(progress, clock, "sft", seconds=40, done=1, total=4)
    assert last(out).endswith("run 71%, about 2:00 left")


def test_stages_that_are_up_to_date_are_no_part_of_it(progress: Progress, clock: ManualClock, out: io.StringIO) -> None:
    progress.plan_stages({"sample": 1000, "sft": 100, "evaluate": 100}, in_seconds=True)
    progress.skip_stage("sample")
    progress.start_stage("sft")
    work(progress, clock, "sft", seconds=50, done=1, total=2)
    assert last(out).endswith("run 25%, about 2:30 left")


def test_without_a_foreseen_time_the_first_stages_pace_is_the_runs(
    progress: Progress, clock: ManualClock, out: io.StringIO
) -> None:
    progress.plan_stages({"sample": 30, "sft": 30}, in_seconds=False)
    progress.start_stage("sample")
    work(progress, clock, "sample a", seconds=10, done=1, total=4)
    assert last(out).endswith("sample a: 1/4 rows, 0:30 left; run 12%, about 1:10 left")


def test_nothing_is_said_while_nothing_is_known(progress: Progress, clock: ManualClock, out: io.StringIO) -> None:
    progress.plan_stages({"sample": 30, "sft": 30}, in_seconds=False)
    progress.start_stage("sample")
    work(progress, clock, "sample a", seconds=10, done=0, total=4)
    assert last(out).endswith("sample a: 0/4 rows")


def test_the_slower_of_two_sources_decides(progress: Progress, clock: ManualClock, out: io.StringIO) -> None:
    progress.plan_stages({"sample": 30, "sft": 30}, in_seconds=False)
    progress.start_stage("sample")
    progress.begin("sample slow", 10)
    work(progress, clock, "sample fast", seconds=10, done=5, total=10)
    progress.advance("sample slow", 1)
    assert last(out).endswith("sample slow: 1/10 rows, 1:30 left; run 5%, about 3:10 left")


def test_a_stage_by_itself_has_no_figure_of_a_run(progress: Progress, clock: ManualClock, out: io.StringIO) -> None:
    progress.plan_stages({"sample": 30}, in_seconds=True)
    progress.start_stage("sample")
    work(progress, clock, "sample a", seconds=10, done=1, total=2)
    assert last(out).endswith("sample a: 1/2 rows, 0:10 left")


def test_what_is_shown_outside_a_plan_is_as_before(progress: Progress, clock: ManualClock, out: io.StringIO) -> None:
    work(progress, clock, "verify", seconds=10, done=1, total=2)
    assert last(out).endswith("verify: 1/2 rows, 0:10 left")


def test_the_first_rows_of_an_engine_that_warms_up_frighten_nobody(
    progress: Progress, clock: ManualClock, out: io.StringIO
) -> None:
    progress.plan_stages({"sample": 100, "sft": 80}, in_seconds=True)
    progress.start_stage("sample")
    work(progress, clock, "sample a", seconds=30, done=1, total=100)
    assert last(out).endswith("sample a: 1/100 rows, 49:30 left; run 17%, about 2:30 left")
