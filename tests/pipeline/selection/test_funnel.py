"""The funnel: every prompt in one reason, on the terminal and as the report's flow picture."""

from __future__ import annotations

import io
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from rich.console import Console

from fusechat.pipeline.recipe import DOMAINS, VERIFIED_DOMAINS, Domain, DomainRule
from fusechat.pipeline.records import OUTCOME, REJECT
from fusechat.pipeline.report import plots
from fusechat.pipeline.report.summary import print_funnel
from fusechat.pipeline.selection.funnel import NO_SOURCE, REMOVED, UNKNOWN_DOMAIN, funnel
from fusechat.pipeline.selection.rule import REASONS, CandidateResponse, decide
from fusechat.pipeline.storage.run_dir import RunDir

SELECTED = ("selected_sft", "selected_pair", "selected_sft_fallback")
INTAKE = (*REMOVED, "empty", "too_long", "no_gold")


def every_reason(num_sources: int = 3) -> dict[str, Any]:
    """A funnel that holds every reason there is, each a different number of times."""
    ends, rejects = [], []
    for i, reason in enumerate(REASONS):
        for k in range(i + 1 + num_sources * (reason in SELECTED)):
            source = f"source-number-{k % num_sources}" if reason in SELECTED else None
            end = {"prompt_id": f"{reason}-{k}", "domain": DOMAINS[k % 4], "reason": reason, "source": source}
            ends.append(end)
    for i, reason in enumerate(INTAKE):
        for k in range(2 * i + 1):
            domain = None if reason == "empty" else DOMAINS[k % 4]
            reject = {"stage": "prompts", "id": f"p.jsonl:{i}{k}", "reason": reason, "detail": "", "domain": domain}
            rejects.append(reject)
    outcomes = pa.Table.from_pylist(ends, schema=OUTCOME)
    aside = Counter({"repeated": 7})
    found: dict[str, Any] = funnel(outcomes, pa.Table.from_pylist(rejects, schema=REJECT), len(ends), Counter(), aside)
    return found


def printed(found: dict[str, Any], folder: Path, width: int) -> list[dict[str, list[str]]]:
    """The printed tables: name of the row -> cells; the row of the head is `reason`."""
    run = RunDir(str(folder / "run"))
    run.write_json(found, "select", "funnel.json")
    out = io.StringIO()
    print_funnel(run, Console(file=out, width=width, highlight=False))
    tables: list[dict[str, list[str]]] = []
    for line in out.getvalue().splitlines():
        if " prompts by reason and " in line:
            tables.append({})
        elif cells := [c.strip() for c in re.split("[│┃]", line)[1:-1]]:
            tables[-1][cells[0]] = cells[1:]
    assert "set aside: 7 repeated" in out.getvalue()
    return tables


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_printed_funnel_names_every_reason_and_adds_up_to_all_prompts(tmp_path: Path, width: int) -> None:
    found = every_reason(num_sources=9)
    total = found["num_prompts"]
    domains, sources = printed(found, tmp_path, width)
    assert domains["reason"] == [*sorted([*DOMAINS, UNKNOWN_DOMAIN]), "all", "%"]
    assert sources["reason"] == [NO_SOURCE, *(f"source-number-{i}" for i in range(9)), "all", "%"]
    told = {*REASONS, *REMOVED, "rejected_empty", "rejected_too_long", "rejected_no_gold"}
    for table, by in ((domains, found["by_domain"]), (sources, found["by_source"])):
        rows = {name: cells for name, cells in table.items() if name not in ("reason", "all")}
        assert set(rows) == told == set(found["reasons"])
        for name, cells in rows.items():
            assert [int(c) for c in cells[:-2]] == [counts.get(name, 0) for counts in by.values()]
            assert int(cells[-2]) == found["reasons"][name] == sum(int(c) for c in cells[:-2])
        assert [int(c) for c in table["all"][:-1]] == [*(sum(counts.values()) for counts in by.values()), total]
        assert sum(float(cells[-1]) for cells in rows.values()) == pytest.approx(100, abs=0.05 * len(rows))
        assert table["all"][-1] == "100.0"


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("sft_share", [True, False])
def test_no_prompt_ends_by_the_split_alone(domain: Domain, sft_share: bool) -> None:
    """A prompt of the SFT share gives its row or says why it can't; one of the DPO share gives its pair or says why."""
    verified = domain in VERIFIED_DOMAINS
    rule = DomainRule(sft_fraction=0.4)
    for right in (True, False, None):
        for wrong in (False, None):
            answers = [
                CandidateResponse(
                    response_id=f"r{i}", source="a", text=f"{i}", tokens=1, correct=correct, reward=i / 10
                )
                for i, correct in enumerate((wrong, right))
            ]
            for candidates in ([], answers[:1], answers):
                decision = decide(candidates, verified=verified, rule=rule, sft_share=sft_share)
                usable = [c for c in candidates if c.correct or not verified]
                assert (decision.reason == "selected_sft") is (sft_share and bool(usable))
                if not sft_share and not decision.pair:
                    assert decision.reason not in SELECTED and not decision.sfts


def test_the_flow_picture_holds_every_prompt_in_one_band() -> None:
    found = every_reason()
    laid = plots.layout_flow(found["by_domain"])
    assert sum(num for _, _, num, _, _ in laid.bands) == found["num_prompts"]
    assert {(d, r): num for d, r, num, _, _ in laid.bands} == {
        (d, r): num for d, counts in found["by_domain"].items() for r, num in counts.items()
    }
    assert {reason: num for reason, (_, num) in laid.reasons.items()} == found["reasons"]
    # Bands fill their domain on the left and their reason on the right, without holes or overlaps.
    for ends, name, side in ((laid.domains, 0, 3), (laid.reasons, 1, 4)):
        after = 0.0
        for end, (begin, num) in ends.items():
            assert begin >= after
            mine = sorted((band[side], band[2]) for band in laid.bands if band[name] == end)
            places = [begin + sum(n for _, n in mine[:i]) for i in range(len(mine))]
            assert [at for at, _ in mine] == pytest.approx(places)
            assert sum(n for _, n in mine) == num
            after = begin + num
    picture = plots.funnel(found["by_domain"])
    assert picture.startswith("<svg") and picture == plots.funnel(found["by_domain"])


@pytest.mark.parametrize("by_domain", [{}, {"math": {}}, {"math": {"selected_sft": 1}}])
def test_a_flow_of_little_or_nothing_can_be_drawn(by_domain: dict[str, dict[str, int]]) -> None:
    assert plots.funnel(by_domain).startswith("<svg")
