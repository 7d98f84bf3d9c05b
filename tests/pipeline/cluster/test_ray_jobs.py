"""Jobs on a cluster: what is refused before anything starts, and which files are uploaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from example_recipe import PROMPT, source_tree, write_jsonl, write_recipe
from http_server import QuietHandler, serve

from fusechat.pipeline.cluster.connect import free_port
from fusechat.pipeline.cluster.job_package import pack
from fusechat.pipeline.errors import InputError, RecipeError
from fusechat.pipeline.recipe.load import load


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A recipe whose prompts can be read. Its models are not read by the stage `prompts`."""
    folder = tmp_path / "ours"
    (folder / "sets").mkdir(parents=True)
    write_jsonl(folder / "sets/train.jsonl", [PROMPT | {"id": str(i)} for i in range(50)])
    model, half = {"path": "/models/a"}, {"num_cpus": 0.5}
    return write_recipe(
        folder / "recipe.yaml",
        run_dir=str(tmp_path / "run"),
        prompts={"train": ["sets/train.jsonl"]},
        sources=[source_tree(model=model, placement=half)],
        target={"model": model},
        training=half,
        evaluate={"placement": half},
    )


def fusechat(*args: str, timeout: float = 600, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs the command as a user does."""
    command = [sys.executable, "-m", "fusechat.pipeline.cli", *args]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "COLUMNS": "200", "RAY_AUTH_MODE": "disabled", **env},
    )


@contextmanager
def dashboard(answers: dict[str, Any], status: int = 200) -> Iterator[str]:
    """A stand-in for a cluster's dashboard. Yields its URL.

    Args:
        answers: JSON by route.
    """

    class Handler(QuietHandler):
        def do_GET(self) -> None:
            found = answers.get(self.path.partition("?")[0])
            self.send_response(status if found is not None else 404)
            self.end_headers()
            self.wfile.write(json.dumps(found).encode())

    with serve(Handler) as url:
        yield url


VERSION = {"version": "4", "ray_version": ray.__version__, "ray_commit": "x", "session_name": "s"}


def nodes(**resources: float) -> dict[str, Any]:
    return {"data": {"result": {"result": [{"state": "ALIVE", "resources_total": resources}]}}}


def refused(recipe: Path, address: str, *options: str) -> str:
    """Submits the recipe, which must fail. Returns the one error line."""
    done = fusechat("submit", str(recipe), "--address", address, *options)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    return done.stderr


# --- bad input


def test_an_address_where_nothing_answers_is_refused(recipe: Path) -> None:
    assert "nothing answers at http://127.0.0.1:9" in refused(recipe, "http://127.0.0.1:9")


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001", "http://"])
def test_what_is_no_dashboards_address_is_refused(recipe: Path, address: str) -> None:
    assert "must be the dashboard's address, http://HOST:8265" in refused(recipe, address)


def test_another_server_is_refused(recipe: Path) -> None:
    with dashboard({"/": {}}) as address:
        assert "is not a Ray dashboard" in refused(recipe, address)


def test_a_cluster_that_asks_for_a_token_is_told(recipe: Path) -> None:
    with dashboard({"/api/version": VERSION}, status=401) as address:
        assert "asks for a token: set RAY_AUTH_MODE=token" in refused(recipe, address)


def test_another_version_of_ray_is_refused(recipe: Path) -> None:
    with dashboard({"/api/version": VERSION | {"ray_version": "2.40.0"}}) as address:
        result = refused(recipe, address)
        assert "runs Ray 2.40.0, this is Ray" in result


def test_a_recipe_that_cannot_be_placed_is_refused(recipe: Path) -> None:
    with dashboard({"/api/version": VERSION, "/api/v0/nodes": nodes(CPU=0.1)}) as address:
        assert "a needs 0.5 CPU" in refused(recipe, address)


def test_a_run_directory_in_use_is_refused(recipe: Path) -> None:
    job = {
        "type": "SUBMISSION",
        "submission_id": "fusechat-small-1",
        "status": "RUNNING",
        "entrypoint": "x",
        "metadata": {"fusechat_run_dir": yaml.safe_load(recipe.read_text())["run_dir"]},
    }
    answers = {"/api/version": VERSION, "/api/v0/nodes": nodes(CPU=8), "/api/jobs/": [job]}
    with dashboard(answers) as address:
        assert "the job fusechat-small-1 works on it" in refused(recipe, address)
        result = fusechat("jobs", "--address", address)
        assert "fusechat-small-1  RUNNING" in result.stdout
        result = fusechat("logs", "another", "--address", address)
        assert result.returncode == 2 and "no such job; there are fusechat-small-1" in result.stderr


def test_an_unknown_stage_is_refused(recipe: Path) -> None:
    assert "--stage: must be one of run" in refused(recipe, "http://127.0.0.1:9", "--stage", "pretend")


# --- which files are uploaded


def test_the_recipe_travels_with_its_files_and_the_product(recipe: Path, tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    folder.mkdir()
    (recipe.parent / "large.bin").write_bytes(b"not named by the recipe")
    pack(recipe, load(recipe), folder)
    found = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}
    assert {
        "recipe.yaml",
        "sets/train.jsonl",
        "fusechat/pipeline/cli/main.py",
        "fusechat/services/playground.html",
    } <= found
    assert "large.bin" not in found and not [f for f in found if "__pycache__" in f]


def test_paths_that_mean_nothing_on_the_cluster_are_refused(recipe: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="run_dir: a job needs an absolute path"):
        pack(recipe, load(recipe, ("run_dir=runs/x",)), tmp_path)
    with pytest.raises(RecipeError, match=r"sources\.a\.model\.path: models are not sent with a job"):
        pack(recipe, load(recipe, ("sources.a.model.path=models/a",)), tmp_path)
    with pytest.raises(InputError, match="lies outside the recipe's folder"):
        pack(recipe, load(recipe, ("prompts.train=[../secret]",)), tmp_path)
    with pytest.raises(InputError, match="can't be read"):
        pack(recipe, load(recipe, ("prompts.train=[gone.jsonl]",)), tmp_path)


# --- following


def test_a_lost_connection_costs_no_line_and_the_exit_code_is_the_jobs() -> None:
    port = free_port()
    server = subprocess.Popen([sys.executable, str(Path(__file__).parent / "fake_dashboard.py"), str(port)])
    address = f"http://127.0.0.1:{port}"
    try:
        while fusechat("jobs", "--address", address).returncode:
            assert server.poll() is None
        done = fusechat("logs", "j", "--address", address)
    finally:
        server.kill()
        server.wait()
    assert done.stdout == "".join(f"line {i}\n" for i in range(20))
    assert (done.returncode, done.stderr) == (7, "fusechat: j: failed: it broke\n")


def test_suites_templates_and_task_folders_travel_too(recipe: Path, tmp_path: Path) -> None:
    """A job needs every file that a run reads besides its models, whichever section names it."""
    ours = recipe.parent
    row = {"id": "s", "domain": "math", "prompt": "2 + 3?", "gold": "5"}
    for name in ("suites/sums.jsonl", "suites/table.jsonl", "sets/heldout.jsonl", "sets/public.jsonl"):
        (ours / name).parent.mkdir(exist_ok=True)
        (ours / name).write_text(json.dumps(row) + "\n")
    for name in ("source.jinja", "target.jinja", "beside.jinja"):
        (ours / name).write_text("{{ messages }}")
    (ours / "tasks/deep").mkdir(parents=True)
    (ours / "tasks/deep/task.yaml").write_text("task: sums\n")
    tree = yaml.safe_load(recipe.read_text())
    tree["prompts"] |= {"heldout": ["sets/heldout.jsonl"], "contamination": {"sets": ["sets/public.jsonl"]}}
    tree["sources"][0]["chat_template"] = "source.jinja"
    tree["target"]["chat_template"] = "target.jinja"
    beside = {"name": "beside", "model": {"path": "/models/b"}, "chat_template": "beside.jinja"}
    verified = {"name": "sums", "kind": "verified", "files": ["suites/sums.jsonl", {"path": "suites/table.jsonl"}]}
    harness = {"name": "tasks", "kind": "harness", "tasks": ["sums"], "include_path": "tasks"}
    tree["evaluate"] |= {"models": ["target", beside], "suites": [verified, harness]}
    recipe.write_text(yaml.safe_dump(tree))
    folder = tmp_path / "packed"
    folder.mkdir()
    pack(recipe, load(recipe), folder)
    found = {str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()}
    there = {str(f.relative_to(ours)) for f in ours.rglob("*") if f.is_file()}
    assert there <= found

    (ours / "suites/sums.jsonl").unlink()
    (tmp_path / "again").mkdir()
    with pytest.raises(InputError, match=r"suites/sums.jsonl: can't be read"):
        pack(recipe, load(recipe), tmp_path / "again")


def test_a_model_to_evaluate_beside_the_recipe_is_refused_as_any_other(recipe: Path, tmp_path: Path) -> None:
    tree = yaml.safe_load(recipe.read_text())
    tree["evaluate"]["models"] = ["target", {"name": "beside", "model": {"path": "models/b"}}]
    recipe.write_text(yaml.safe_dump(tree))
    with pytest.raises(RecipeError, match=r"evaluate\.models\.beside\.model\.path: models are not sent with a job"):
        pack(recipe, load(recipe), tmp_path)
