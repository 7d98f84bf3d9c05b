"""Progress on a clock that the test moves."""

from __future__ import annotations

import io

import pytest
from clocks import ManualClock
from rich.console import Console

from fusechat.pipeline import progress as progress_module
from fusechat.pipeline.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    """The clock of fusechat.pipeline.progress."""
    manual = ManualClock()
    monkeypatch.setattr(progress_module, "time", manual)
    return manual


@pytest.fixture
def out() -> io.StringIO:
    """What the progress prints."""
    return io.StringIO()


@pytest.fixture
def progress(out: io.StringIO, clock: ManualClock) -> Progress:
    return Progress(Console(file=out, soft_wrap=True, highlight=False, width=200))
