"""The end of the sample stage: carried responses are imported, duplicates flagged, each bucket is one shard."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from example_recipe import make_run, source_tree
from example_rows import make_generated

from fusechat.pipeline.records import RESPONSE
from fusechat.pipeline.run import Run
from fusechat.pipeline.sampling import generate
from fusechat.pipeline.sampling.messages import rejected
from fusechat.pipeline.sampling.plan import requests, response
from fusechat.pipeline.stages.walk import walk
from fusechat.pipeline.storage.parts import Parts


def run(
    folder: Path,
    carried: list[str],
    domain: str = "chinese",
    samples: Mapping[str, int] = MappingProxyType({"chinese": 2}),
) -> Run:
    """A run whose prompts have been read; the first of six carries responses of the source `old`."""
    more = {"tests": "assert f() == 1", "entry_point": "f"} if domain == "code" else {}
    rows: list[dict[str, Any]] = [{"id": str(i), "domain": domain, "prompt": f"question {i}", **more} for i in range(6)]
    rows[0]["responses"] = {"old": carried}
    sources = [source_tree(samples=dict(samples)), {"name": "old", "kind": "imported"}]
    made = make_run(folder, rows, sources=sources, sample={"buckets": 2})
    walk(made, ("prompts",))
    return made


def sample(work: Run, text: str = "same") -> None:
    """Writes what the source would: a part for each sample; the last sample is a reject."""
    parts = Parts(work.dir, "sample", RESPONSE, "response_id")
    rows = [r for _, found in requests(work.pinned_sources[0], work.train_prompts, set()) for r in found]
    for r in rows[:-1]:
        parts.write_all([response(r, make_generated(r["response_id"], text, finish_reason="length"))], 2)
    parts.write_all([response(rows[-1], rejected(rows[-1]["response_id"], "prompt_too_long: 9"))], 2)


def test_the_stage_ends_with_one_shard_a_bucket_and_counts_everything(tmp_path: Path) -> None:
    work = run(tmp_path, ["Red.", "Red.", "  "])
    sample(work)
    generate.import_carried(work)
    outcome = generate.finish(work, 0)
    assert outcome.counts == {
        "responses": 12 + 3,
        "rejected": 1,
        "truncated": 11,
        "empty": 1,
        "refused": 0,
        "duplicate": 5 + 1,
    }
    assert len(work.dir.files("sample")) == 2
    old = [r for r in generate.responses(work) if r["source"] == "old"]
    assert [(r["sample_index"], r["text"], r["flags"]) for r in sorted(old, key=lambda r: r["sample_index"])] == [
        (0, "Red.", []),
        (1, "Red.", ["duplicate"]),
        (2, "  ", ["empty"]),
    ]
    again = generate.finish(work, 0)
    assert again == outcome  # finishing twice changes nothing


def test_what_it_made_hangs_on_the_texts_alone(tmp_path: Path) -> None:
    digests = []
    for name, text in (("one", "same"), ("two", "same"), ("three", "other")):
        (tmp_path / name).mkdir()
        work = run(tmp_path / name, ["Red."])
        sample(work, text)
        generate.import_carried(work)
        digests.append(generate.finish(work, 0).data)
    assert digests[0] == digests[1] != digests[2]


def test_carried_responses_that_were_changed_are_other_responses(tmp_path: Path) -> None:
    work = run(tmp_path, ["Red."])
    generate.import_carried(work)
    work = run(tmp_path, ["Blue."])
    generate.import_carried(work)
    generate.finish(work, 0)
    assert [r["text"] for r in generate.responses(work)] == ["Blue."]
    assert len(Parts(work.dir, "sample", RESPONSE, "response_id").read()) == 2  # nothing was deleted


@pytest.mark.parametrize("stored", ["instruction", "code"])
def test_a_corrected_domain_counts_for_responses_that_are_stored(tmp_path: Path, stored: str) -> None:
    both = {"chinese": 2, stored: 2}
    work = run(tmp_path, ["Red."], stored, both)
    sample(work)
    generate.import_carried(work)
    generate.finish(work, 0)
    work = run(tmp_path, ["Red."], "chinese", both)
    generate.import_carried(work)
    ids = {r["response_id"] for r in generate.responses(work)}
    assert {r["domain"] for r in generate.responses(work)} == {"chinese"}
    generate.finish(work, 0)
    table = Parts(work.dir, "sample", RESPONSE, "response_id").read().to_pylist()
    assert [r["domain"] for r in table if r["response_id"] in ids] == ["chinese"] * 13
