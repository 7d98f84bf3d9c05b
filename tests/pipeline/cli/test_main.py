"""The command line: what works, and mistakes, which are one line with exit code 2 and lose no finished work."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from example_recipe import PROMPT, source_tree, write_jsonl, write_model, write_recipe

from fusechat.pipeline.cli import main

HEAVY = ("torch", "ray", "vllm", "transformers", "trl", "pyarrow", "pydantic")


class Result(NamedTuple):
    code: int
    out: str
    err: str


Command = Callable[..., Result]


def process(*args: str, cwd: Path) -> Result:
    """Runs the command in a process of its own, as a user does."""
    command = [sys.executable, "-m", "fusechat.pipeline.cli", *args]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.fixture(autouse=True)
def _surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FUSECHAT_CACHE": str(tmp_path / "cache"), "COLUMNS": "200", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def fusechat(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Calls the same entry point in this process, which takes a tenth of the time."""

    def call(*args: str, cwd: Path) -> Result:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["fusechat", *args])
        with pytest.raises(SystemExit) as end:
            main.main()
        out, err = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Result(end.value.code, out, err)

    return call


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a recipe, a prompt file and a model that has no weights."""
    write(tmp_path)
    write_jsonl(tmp_path / "train.jsonl", [PROMPT])
    write_model(tmp_path / "models" / "a")
    return tmp_path


def write(folder: Path, **changes: Any) -> None:
    """Writes the recipe r.yaml; half a CPU is enough for its training and its evaluation."""
    half = {"num_cpus": 0.5}
    write_recipe(folder / "r.yaml", **{"training": half, "evaluate": {"placement": half}, **changes})


def mistake(result: Result) -> str:
    """Returns the one error line of a mistake. Progress lines may precede it."""
    assert result.code == 2, result
    lines = result.err.splitlines()
    assert "Traceback" not in result.err
    assert [line.startswith("fusechat: ") for line in lines] == [False] * (len(lines) - 1) + [True], result.err
    return lines[-1]


# --- what works


def test_help_names_every_stage(tmp_path: Path) -> None:
    result = process("--help", cwd=tmp_path)
    assert result.code == 0
    for command in ("run", "prompts", "sample", "score", "select", "sft", "dpo", "evaluate", "report"):
        assert f" {command} " in result.out


def test_the_plan_needs_neither_weights_nor_cluster(place: Path, fusechat: Command) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    (place / "models" / "a" / "config.json").write_text(json.dumps({"model_type": "llama", **sizes}))
    result = fusechat("plan", "r.yaml", cwd=place)
    assert result.code == 0, result
    head = result.out.splitlines()[0]
    assert head.startswith("prompts: 1 (1 ")
    assert "--pilot 64" in result.out
    assert "training: " in result.out
    assert "\ndisk " in result.out


def test_help_answers_at_once_since_it_imports_little(tmp_path: Path) -> None:
    code = f"""
import sys
from fusechat.pipeline.cli import main as cli
sys.argv = ["fusechat", "--help"]
try:
    cli.main()
except SystemExit as end:
    assert end.code == 0
print([m for m in {HEAVY!r} if m in sys.modules], len(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    heavy, _, num_modules = done.stdout.splitlines()[-1].rpartition(" ")
    assert heavy == "[]"
    assert int(num_modules) < 700


def test_the_demos_prompts_are_read_once_and_then_up_to_date(tmp_path: Path) -> None:
    first = process("prompts", "demo", "--set", "run_dir=here", cwd=tmp_path)
    assert first.code == 0, first
    assert "prompts: done in " in first.err
    folder = tmp_path / "here" / "prompts"
    counts = json.loads((folder / "manifest.json").read_text())["counts"]
    assert counts["train"] > 100
    assert counts["rejected"] == 0
    before = {f.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in folder.iterdir()}
    second = process("prompts", "demo", "--set", "run_dir=here", cwd=tmp_path)
    assert second.code == 0
    assert f"prompts: up to date ({counts['train']} train, " in second.err
    assert {f.name: (f.stat().st_ino, f.stat().st_mtime_ns) for f in folder.iterdir()} == before


def test_a_dry_run_prints_every_source_and_touches_nothing(tmp_path: Path, fusechat: Command) -> None:
    from fusechat.pipeline.recipe.load import load, packaged_recipes

    result = fusechat("run", "demo", "--dry-run", cwd=tmp_path)
    assert result.code == 0
    recipe = load(packaged_recipes() / "demo.yaml")
    for source in recipe.sources:
        assert f"  {source.name}: " in result.out
    for reward in recipe.rewards:
        assert f"  {reward.name}: {reward.kind}" in result.out
    assert list(tmp_path.iterdir()) == []


# --- keys


def test_a_key_is_printed_once_and_stored_as_a_hash(tmp_path: Path, fusechat: Command) -> None:
    from fusechat.services.auth import KeyRing

    result = fusechat("keys", "add", "keys.yaml", "ci", "--role", "sample", cwd=tmp_path)
    assert (result.code, result.err) == (0, "")
    assert re.fullmatch(r"fc-[A-Za-z0-9_-]{43}\n", result.out)
    options = ("--requests-per-minute", "60", "--tokens-per-minute", "900", "--max-in-flight", "4")
    other = fusechat(
        "keys", "add", "keys.yaml", "bob@lab", "--role", "score", "--expires", "2999-01-31", *options, cwd=tmp_path
    )
    ring = KeyRing(tmp_path / "keys.yaml")
    assert [ring.find(s.out.strip()).name for s in (result, other)] == ["ci", "bob@lab"]
    listed = fusechat("keys", "list", "keys.yaml", cwd=tmp_path)
    assert listed.out == (
        "ci  sample\n"
        "bob@lab  score  expires=2999-01-31T00:00:00Z  requests_per_minute=60  tokens_per_minute=900  max_in_flight=4\n"
    )
    assert fusechat("keys", "remove", "keys.yaml", "ci", cwd=tmp_path) == Result(0, "", "")
    assert fusechat("keys", "list", "keys.yaml", cwd=tmp_path).out.startswith("bob@lab  score  ")
    (tmp_path / "keys.yaml").chmod(0o620)
    line = mistake(fusechat("keys", "list", "keys.yaml", cwd=tmp_path))
    assert line == "fusechat: keys.yaml: is writable by others than its owner: chmod go-w"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (
            ["add", "keys.yaml", "ci", "--role", "score"],
            "fusechat: keys.yaml: there is a key named ci; remove it first",
        ),
        (["add", "keys.yaml", "a b", "--role", "score"], "fusechat: name: String should match pattern"),
        (["add", "keys.yaml", "b", "--role", "root"], "fusechat: role: Input should be 'sample', 'score' or 'admin'"),
        (["add", "keys.yaml", "b", "--role", "score", "--expires", "soon"], "fusechat: expires: must be a date, or "),
        (
            ["add", "keys.yaml", "b", "--role", "score", "--max-in-flight", "0"],
            "fusechat: max_in_flight: Input should be greater than or equal to 1",
        ),
        (["add", "nosuch/keys.yaml", "b", "--role", "score"], "fusechat: nosuch/keys.yaml: can't be written: "),
        (["remove", "keys.yaml", "b"], "fusechat: keys.yaml: there is no key named 'b'"),
        (["list", "absent.yaml"], "fusechat: absent.yaml: can't be read: No such file or directory"),
    ],
)
def test_a_mistake_with_keys_is_one_line_and_changes_nothing(
    tmp_path: Path, args: list[str], says: str, fusechat: Command
) -> None:
    assert fusechat("keys", "add", "keys.yaml", "ci", "--role", "sample", cwd=tmp_path).code == 0
    before = (tmp_path / "keys.yaml").read_bytes()
    result = fusechat("keys", *args, cwd=tmp_path)
    assert mistake(result).startswith(says)
    assert result.out == ""
    assert (tmp_path / "keys.yaml").read_bytes() == before


# --- mistakes


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sede": 1}, "fusechat: r.yaml: sede: unknown key; allowed here: cluster, dataset, dpo, "),
        ({"seed": "many"}, "fusechat: r.yaml: seed: Input should be a valid integer"),
        (
            {"rewards": [{"name": "judge", "kind": "likelihood", "source": "b"}]},
            "fusechat: r.yaml: rewards: judge uses source 'b', which is not one of ['a'] (given: ",
        ),
        ({"prompts": {"train": ["absent.jsonl"]}}, "absent.jsonl: "),
        ({"run_dir": "train.jsonl/run"}, "fusechat: train.jsonl/run: can't be written: Not a directory"),
        ({"run_dir": "nosuch://run"}, "fusechat: nosuch://run: no file system handles this URL"),
        (
            {"sources": [source_tree(chat_template="absent.jinja")]},
            "absent.jinja: chat template can't be read: ",
        ),
        (
            {"sources": [source_tree(model={"path": "models/absent"})]},
            "models/absent: contains no model: config.json is missing",
        ),
    ],
)
def test_a_mistake_in_the_recipe_is_one_line(
    place: Path, changes: dict[str, Any], says: str, fusechat: Command
) -> None:
    write(place, **changes)
    assert says in mistake(fusechat("run", "r.yaml", cwd=place))


def test_a_recipe_that_does_not_exist_is_one_line_with_those_that_ship(tmp_path: Path, fusechat: Command) -> None:
    line = mistake(fusechat("run", "nosuch", cwd=tmp_path))
    said, _, names = line.partition("the recipes that ship are ")
    assert said == "fusechat: nosuch: no such recipe file; "
    assert {"begin-with-pairs", "demo", "fusechat3-gemma2-9b"} < set(names.split(", "))


def test_a_bad_change_is_one_line(place: Path, fusechat: Command) -> None:
    line = mistake(fusechat("prompts", "r.yaml", "--set", "sft.learning_rate=fast", cwd=place))
    assert line.startswith("fusechat: r.yaml: sft.learning_rate: Input should be a valid number")


def test_a_bad_prompt_line_is_one_line_and_what_was_done_before_stays(place: Path, fusechat: Command) -> None:
    assert fusechat("prompts", "r.yaml", cwd=place).code == 0
    done = {f.name: f.read_bytes() for f in (place / "run" / "prompts").rglob("*") if f.is_file()}
    with (place / "train.jsonl").open("a") as file:
        file.write('{"id": "x", "domain": "ma\n')
    line = mistake(fusechat("prompts", "r.yaml", cwd=place))
    assert f"{place / 'train.jsonl'}:2: not JSON: " in line
    assert {f.name: f.read_bytes() for f in (place / "run" / "prompts").rglob("*") if f.is_file()} == done
    result = fusechat("prompts", "r.yaml", "--set", "prompts.invalid=reject", cwd=place)
    assert result.code == 0
    assert "1 train, 0 heldout, 1 rejected" in result.err


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"sources": [source_tree("huge-70b", placement={"num_cpus": 500})]},
            "fusechat: huge-70b needs 500 CPU beside the batch workers (0.2 CPU), the cluster has 2 CPU; "
            "change sources.huge-70b.placement or sources.huge-70b.engine",
        ),
        (
            {"training": {"num_workers": 3, "num_cpus": 1}},
            "fusechat: training needs 3 x (1 CPU), the cluster has 2 CPU; "
            "change training.num_workers, num_cpus, num_gpus or accelerator_type",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_ray_starts(place: Path, changes: dict[str, Any], line: str) -> None:
    name = changes.get("sources", [source_tree()])[0]["name"]
    rewards = [{"name": "likelihood", "kind": "likelihood", "source": name}]
    write(place, rewards=rewards, cluster={"num_cpus": 2}, **changes)
    result = process("run", "r.yaml", cwd=place)
    assert re.sub(r", [\d.]+ GiB memory", "", mistake(result)) == line  # memory differs from machine to machine
    assert "ray: " not in result.err


def test_another_recipe_on_the_same_run_directory_is_one_line(place: Path, fusechat: Command) -> None:
    assert fusechat("prompts", "r.yaml", cwd=place).code == 0
    write(place, name="other")
    line = mistake(fusechat("prompts", "r.yaml", cwd=place))
    assert line == "fusechat: run: belongs to another recipe (recipe was small, now other); give another run_dir"


def test_a_stage_before_its_inputs_is_a_failure_in_one_line(place: Path, fusechat: Command) -> None:
    result = fusechat("select", "r.yaml", cwd=place)
    assert result.code == 1
    assert result.err == (
        "fusechat: stage prompts, run: has not been run; `fusechat run` runs all stages, `fusechat prompts` this one\n"
    )


def test_debug_shows_the_trace(place: Path) -> None:
    result = process("--debug", "run", "nosuch", cwd=place)
    assert result.code == 1
    assert "Traceback" in result.err
    assert "InputError: nosuch: no such recipe file" in result.err


def test_an_unknown_command_is_exit_code_2(tmp_path: Path, fusechat: Command) -> None:
    result = fusechat("frobnicate", cwd=tmp_path)
    assert result.code == 2
    assert "No such command 'frobnicate'" in result.err


ABORTS = """
import atexit, os, sys, types
from fusechat.pipeline.cli import main as cli
from fusechat.pipeline.errors import UserError

class Thread:
    def __del__(self):  # while the interpreter shuts down
        os.abort()

def app():
    sys.modules["library"] = types.ModuleType("library")
    sys.modules["library"].thread = Thread()
    atexit.register(print, "tidied up")
    print("done")
    end = sys.argv[1]
    raise {"0": SystemExit(0), "3": SystemExit(3), "2": UserError("no"), "1": ValueError("a trace")}[end]

cli.app = app
cli.entry()
"""


@pytest.mark.parametrize("code", [0, 1, 2, 3])
def test_a_process_ends_with_its_own_code_whatever_threads_of_libraries_do(code: int) -> None:
    found = subprocess.run([sys.executable, "-c", ABORTS, str(code)], capture_output=True, text=True, check=False)
    assert found.returncode == code, found.stderr
    assert found.stdout == "done\ntidied up\n"
    assert ("Traceback" in found.stderr) == (code == 1)
