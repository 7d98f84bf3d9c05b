"""`fusechat evaluate`: how models are named, and one-line errors for mistakes in the recipe's evaluation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from example_recipe import source_tree, write_recipe

from fusechat.pipeline.cli import main
from fusechat.pipeline.cli.evaluate import entry
from fusechat.pipeline.errors import RecipeError, UserError
from fusechat.pipeline.recipe import Recipe
from fusechat.pipeline.recipe.load import load

JUDGED = {"name": "j", "kind": "judged", "files": ["j.jsonl"], "judge": "a", "baseline": "target"}
VERIFIED = {"name": "v", "kind": "verified", "files": ["v.jsonl"]}
OWN = {"name": "other", "model": {"hub": "o/n", "revision": "main"}}


def read(folder: Path, **evaluate: Any) -> Recipe:
    """Writes a recipe with this evaluation and loads it. Its source `a` is served, its source `old` is not."""
    sources = [source_tree(), {"name": "old", "kind": "imported"}]
    return load(write_recipe(folder / "r.yaml", sources=sources, evaluate=evaluate))


def test_what_models_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "My Model").mkdir()
    known = {"mine": {"name": "mine", "model": {"path": "x"}}}

    def meant(text: str) -> Any:
        return entry(text, known, ["qwen"])

    assert [meant(t) for t in ("target", "dpo", "qwen")] == ["target", "dpo", "qwen"]
    assert meant("mine") == known["mine"]
    assert meant("./My Model") == {"name": "my-model", "model": {"path": str(tmp_path / "My Model")}}
    assert meant("Qwen/Qwen2.5-7B") == {"name": "qwen2.5-7b", "model": {"hub": "Qwen/Qwen2.5-7B", "revision": "main"}}
    assert meant("o/n@abc")["model"] == {"hub": "o/n", "revision": "abc"}
    for wrong in ("nobody", "./missing/folder", "/missing", "a/b/c", ""):
        with pytest.raises(UserError, match="is not a folder and not one of target, sft, dpo, qwen, mine"):
            meant(wrong)


def test_models_and_suites_load(tmp_path: Path) -> None:
    recipe = read(
        tmp_path,
        models=["target", "a", OWN],
        suites=[VERIFIED, {**JUDGED, "judge": "gpt", "baseline": "reference"}],
        judges=[{"name": "gpt", "url": "https://h/v1", "model": "m"}],
    )
    assert recipe.evaluate.names == ("target", "a", "other")
    assert read(tmp_path).evaluate.names == ("target", "sft", "dpo")


@pytest.mark.parametrize(
    ("evaluate", "line"),
    [
        ({"models": ["target", "b"]}, "evaluate.models: 'b' is not one of target, sft, dpo, a; other models need"),
        ({"models": ["old"]}, "evaluate.models: 'old' is not one of"),
        ({"models": []}, "evaluate.models: Tuple should have at least 1 item"),
        ({"models": ["sft", "sft"]}, "evaluate.models: names must differ"),
        ({"models": [{**OWN, "name": "a"}]}, "evaluate.models: 'a' is a reserved name or a source"),
        ({"models": [{**OWN, "modl": 1}]}, "evaluate.models.0.modl: unknown key; allowed here: chat_template, engine"),
        ({"suites": [{**VERIFIED, "kind": "odd"}]}, "evaluate.suites.0.kind: must be one of 'verified', 'judged'"),
        ({"suites": [{**VERIFIED, "judge": "a"}]}, "evaluate.suites.0.judge: unknown key; allowed here: ask, files"),
        ({"suites": [VERIFIED, VERIFIED]}, "evaluate.suites: names must differ"),
        ({"suites": [{**VERIFIED, "form": "gsm9k"}]}, "evaluate.suites.0.form: Input should be 'rows', 'gsm8k'"),
        ({"suites": [{**VERIFIED, "form": "arena_hard"}]}, "evaluate.suites.0: form arena_hard cannot be verified"),
        ({"suites": [{**JUDGED, "form": "math"}]}, "evaluate.suites.0: form math is verified, not judged"),
        ({"suites": [{**VERIFIED, "ask": "Go."}]}, "evaluate.suites.0: ask must contain {prompt}"),
        ({"suites": [{**JUDGED, "judge": "gpt"}]}, "evaluate.suites.0.judge: 'gpt' is not one of a (given: 'gpt')"),
        (
            {"suites": [VERIFIED, {**JUDGED, "baseline": "b"}]},
            "evaluate.suites.1.baseline: 'b' is not one of target, sft",
        ),
        ({"suites": [{**JUDGED, "instruction": "{prompt} {first}"}]}, "instruction must contain {second}"),
        ({"judges": [{"name": "a", "url": "https://h", "model": "m"}]}, "evaluate.judges: 'a' is the name of another"),
        (
            {"suites": [{**VERIFIED, "samples": 4, "sampling": {"temperature": 0}}]},
            "evaluate.suites.0.samples: must be 1 at sampling.temperature 0: all answers are the same (given: 4)",
        ),
        ({"suites": [{**VERIFIED, "samples": 2}]}, "evaluate.suites.0.samples: must be 1 at sampling.temperature 0"),
        ({"suites": [{**VERIFIED, "files": []}]}, "evaluate.suites.0.files: Tuple should have at least 1 item"),
    ],
)
def test_mistakes_of_the_recipe(tmp_path: Path, evaluate: dict[str, Any], line: str) -> None:
    with pytest.raises(RecipeError) as error:
        read(tmp_path, **evaluate)
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def error_line(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: str) -> str:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["fusechat", *args])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert end.value.code in (1, 2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("fusechat: ")
    return lines[-1]


def test_mistakes_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read(tmp_path, placement={"num_cpus": 0.5})
    assert "--models: 'nobody' is not a folder" in error_line(
        tmp_path, capsys, monkeypatch, "evaluate", "r.yaml", "--models", "nobody"
    )
    twice = error_line(tmp_path, capsys, monkeypatch, "evaluate", "r.yaml", "--models", "target, target")
    assert "evaluate.models: names must differ" in twice
