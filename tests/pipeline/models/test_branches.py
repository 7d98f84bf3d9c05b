"""Hub branches become commits when a run begins, and stay what they were when it goes on."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import yaml
from http_server import QuietHandler, serve
from huggingface_hub import constants
from rich.console import Console

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.models.branches import ALL, PROMPTS, Part
from fusechat.pipeline.progress import Progress
from fusechat.pipeline.recipe import EvaluatedModel
from fusechat.pipeline.recipe.load import load
from fusechat.pipeline.run import Run

FIRST, SECOND, BY_HAND = "a" * 40, "b" * 40, "c" * 40


class Hub(QuietHandler):
    """The hub's answer to what a branch is."""

    branches: ClassVar[dict[str, str]] = {}
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        name = self.path.split("?")[0].removeprefix("/api/models/").removeprefix("/api/")
        repository, _, revision = name.partition("/revision/")
        self.asked.append(f"{repository}@{revision}")
        commit = self.branches.get(f"{repository}@{revision}")
        body = json.dumps({"id": repository, "sha": commit, "siblings": []}).encode() if commit else b""
        self.send_response(200 if commit else 404)
        self.send_header("Content-Length", str(len(body)))
        if not commit:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[str]:
    Hub.branches = {"org/source@main": FIRST, "org/target@v1": FIRST, "org/beside@main": FIRST}
    Hub.asked = []
    with serve(Hub) as url:
        yield url


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    tree = {
        "name": "hub",
        "run_dir": str(tmp_path / "run"),
        "prompts": {"train": ["p.jsonl"]},
        "sources": [
            {"name": "a", "model": {"hub": "org/source", "revision": "main"}, "samples": {"math": 1}},
            {"name": "b", "model": {"hub": "org/source", "revision": BY_HAND}, "samples": {"math": 1}},
        ],
        "rewards": [{"name": "likelihood", "kind": "likelihood", "source": "a"}],
        "target": {"model": {"hub": "org/target", "revision": "v1"}},
        "sft": {"learning_rate": 1e-5, "num_epochs": 1},
        "dpo": {"learning_rate": 1e-6, "beta": 10},
        "evaluate": {"models": ["target", {"name": "beside", "model": {"hub": "org/beside", "revision": "main"}}]},
    }
    (tmp_path / "p.jsonl").write_text('{"id": "1", "domain": "math", "prompt": "1 + 1?", "gold": "2"}\n')
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path / "recipe.yaml"


@dataclass
class Opened:
    """What a run takes its models to be, and what it says."""

    sources: list[str]
    models: list[str | None]
    beside: str
    said: str


@pytest.fixture
def opened(recipe: Path, hub: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Opened]:
    """Opens the recipe's run, as the walk does."""

    def open_run(address: str = hub, *, resolve: tuple[Part, ...] = ALL) -> Opened:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(recipe.parent / "hub"))
        out = io.StringIO()
        run = Run(load(recipe), recipe.parent, Progress(Console(file=out, soft_wrap=True)))
        run.claim()
        run.pin_branches(resolve)
        beside, written = run.recipe.evaluate.models[1], run.original_recipe.evaluate.models[1]
        assert isinstance(beside, EvaluatedModel) and isinstance(written, EvaluatedModel)
        found = [run.recipe.source("a").model, run.recipe.target.model, beside.model]
        return Opened(
            sources=[s.revision.removesuffix("/float32") for s in run.pinned_sources],
            models=[model.revision for model in found],
            beside=run.evaluated_revision(written).removesuffix("/float32"),
            said=out.getvalue(),
        )

    return open_run


NOBODY = "http://127.0.0.1:9"


def test_a_branch_is_its_commit_in_every_identity(recipe: Path, opened: Callable[..., Opened]) -> None:
    found = opened()
    assert found.sources == [f"org/source@{FIRST}", f"org/source@{BY_HAND}"]
    assert found.models == [FIRST, FIRST, FIRST]
    assert found.beside == f"org/beside@{FIRST}"
    kept = json.loads((recipe.parent / "run/run.json").read_text())
    assert kept["commits"] == {"org/source@main": FIRST, "org/target@v1": FIRST, "org/beside@main": FIRST}
    assert kept["settings"]["target"]["model"]["revision"] == "v1"  # the recipe as it is written
    assert f"org/source@{BY_HAND}" not in Hub.asked


def test_a_run_stays_with_its_commit_and_says_that_the_branch_has_moved(opened: Callable[..., Opened]) -> None:
    before = opened()
    Hub.branches["org/source@main"] = SECOND
    after = opened()
    assert (after.sources, after.models) == (before.sources, before.models)
    assert f"org/source@main: has moved to {SECOND}; this run stays with {FIRST}" in after.said
    assert "org/target" not in after.said


def test_a_run_that_has_begun_needs_no_hub(opened: Callable[..., Opened]) -> None:
    before, after = opened(), opened(NOBODY)
    assert (after.sources, after.models) == (before.sources, before.models)
    assert "moved" not in after.said


def test_reading_prompts_asks_nobody_and_takes_what_is_kept(opened: Callable[..., Opened]) -> None:
    assert opened(resolve=()).models == ["main", "v1", "main"] and not Hub.asked
    resolved = opened()
    Hub.asked.clear()
    assert opened(resolve=()).models == resolved.models and not Hub.asked


def test_a_branch_that_cannot_be_looked_up_is_one_line(opened: Callable[..., Opened]) -> None:
    del Hub.branches["org/target@v1"]
    with pytest.raises(StageError, match=r"^stage models, target: org/target@v1 can't be fetched from the hub: .+$"):
        opened()
    with pytest.raises(StageError, match=r"^stage models, a: org/source@main can't be fetched from the hub: .+$"):
        opened(NOBODY)


def test_without_the_hub_its_cache_knows_the_branch(recipe: Path, opened: Callable[..., Opened]) -> None:
    for name in ("source", "target", "beside"):
        folder = recipe.parent / f"hub/models--org--{name}"
        (folder / f"snapshots/{SECOND}").mkdir(parents=True)
        (folder / f"snapshots/{SECOND}/config.json").write_text("{}")
        (folder / "refs").mkdir()
        for branch in ("main", "v1"):
            (folder / "refs" / branch).write_text(SECOND)
    assert opened(NOBODY).models == [SECOND, SECOND, SECOND]


def test_a_run_directory_without_commits_keeps_the_names_of_its_branches(
    recipe: Path, opened: Callable[..., Opened]
) -> None:
    """Version 0.1.0 wrote such ones: its identities contain the branch."""
    opened(resolve=())
    file = recipe.parent / "run/run.json"
    kept = json.loads(file.read_text())
    del kept["commits"]
    file.write_text(json.dumps(kept))
    assert opened().models == ["main", "v1", "main"] and not Hub.asked
    assert "commits" not in json.loads(file.read_text())


def test_the_branch_of_a_data_set_becomes_its_commit_too(recipe: Path, opened: Callable[..., Opened]) -> None:
    tree = yaml.safe_load(recipe.read_text())
    (recipe.parent / "set").mkdir()
    tree["prompts"]["train"] += [
        {"hub": "org/set", "revision": "main", "columns": {"prompt": "q"}},
        {"hub": "set", "revision": "main", "columns": {"prompt": "q"}},  # a folder has no commit
    ]
    recipe.write_text(yaml.safe_dump(tree))
    Hub.branches["datasets/org/set@main"] = SECOND
    assert opened(resolve=PROMPTS).models == ["main", "v1", "main"]
    kept = json.loads((recipe.parent / "run/run.json").read_text())
    assert kept["commits"] == {"datasets/org/set@main": SECOND}
    assert Hub.asked == ["datasets/org/set@main"]
    Hub.branches["datasets/org/set@main"] = BY_HAND
    assert f"datasets/org/set@main: has moved to {BY_HAND}; this run stays with {SECOND}" in opened().said


def test_the_branch_of_a_suite_s_answers_becomes_its_commit_too(recipe: Path, opened: Callable[..., Opened]) -> None:
    far = {"hub": "org/answers", "revision": "main"}
    suite = {"name": "s", "kind": "judged", "judge": "a", "baseline": "reference", "files": ["p.jsonl"], "answers": far}
    tree = yaml.safe_load(recipe.read_text())
    tree["evaluate"]["suites"] = [suite]
    recipe.write_text(yaml.safe_dump(tree))
    says = r"^stage evaluate, org/answers/train: datasets/org/answers@main can't be fetched from the hub: .+$"
    with pytest.raises(StageError, match=says):
        opened()
    Hub.branches["datasets/org/answers@main"] = SECOND
    opened()
    kept = json.loads((recipe.parent / "run/run.json").read_text())
    assert kept["commits"]["datasets/org/answers@main"] == SECOND
