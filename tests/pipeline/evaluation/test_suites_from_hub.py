"""Ready-made suites from a stand-in for the hub, at the commits that they name, read in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from example_recipe import write_recipe
from hub_server import Hub, serve_hub
from published_suites import gpqa, gsm8k, livecodebench

LOAD = """
import sys
from pathlib import Path
from fusechat.pipeline.errors import InputError
from fusechat.pipeline.evaluation import suites
from fusechat.pipeline.recipe import load
recipe = load.load(Path(sys.argv[1]))
for suite in recipe.evaluate.suites:
    try:
        found = suites.load(suite, Path(sys.argv[1]).parent, recipe.prompts)
        print(suite.name, len(found.prompts), found.prompts[0]["file"], sorted(suites.fingerprints(suite, Path())))
    except InputError as error:
        print(error)
"""
GSM8K = "cc7b047b6e5bb11b4f1af84efc572db110a51b3c"
LCB = "0fe84c3912ea0c4d4a78037083943e8f0c4dd505"
GPQA = "5233cd1db58884ed0bf678c7c6be731722a23f84"


def loaded(hub: Hub, folder: Path, token: str | None = None) -> list[str]:
    command = [sys.executable, "-c", LOAD, str(folder / "r.yaml")]
    done = subprocess.run(command, env=hub.env(folder / "home", token), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_suites_are_read_from_the_hub_at_their_commits(tmp_path: Path) -> None:
    root = tmp_path / "hub"
    math, code, gated = (root / "datasets" / n for n in (
        "openai/gsm8k", "livecodebench/code_generation_lite", "Idavidrein/gpqa",
    ))  # fmt: skip
    for folder in (math / "main", code, gated):
        folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist([gsm8k(i).row for i in range(1, 8)]), math / "main" / "test.parquet")
    card = "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: test\n    path: main/test.parquet\n---\n"
    (math / "README.md").write_text(card, "utf-8")
    (code / "code_generation_lite.py").write_text("raise RuntimeError('a loading script')\n", "utf-8")
    for name, rows in (("test4", range(1, 4)), ("test5", range(4, 9))):
        (code / f"{name}.jsonl").write_text("".join(json.dumps(livecodebench(i).row) + "\n" for i in rows), "utf-8")
    pq.write_table(pa.Table.from_pylist([gpqa(i).row for i in range(5)]), gated / "gpqa_diamond.parquet")
    card = "---\nconfigs:\n- config_name: gpqa_diamond\n  data_files: gpqa_diamond.parquet\n---\n"
    (gated / "README.md").write_text(card, "utf-8")
    write_recipe(tmp_path / "r.yaml", evaluate={"suites": ["gsm8k", "livecodebench", "gpqa_diamond"]})
    with serve_hub(root) as hub:
        for name, sha in (
            ("openai/gsm8k", GSM8K),
            ("livecodebench/code_generation_lite", LCB),
            ("Idavidrein/gpqa", GPQA),
        ):
            hub.commit(name, sha=sha)
        hub.gated["Idavidrein/gpqa"] = "secret"
        (code / "test5.jsonl").write_text("changed since\n", "utf-8")
        hub.commit("livecodebench/code_generation_lite")
        first, second, third = loaded(hub, tmp_path)
        assert first == "gsm8k 7 openai/gsm8k/main/test ['openai/gsm8k/main/test']"
        files = [f"livecodebench/code_generation_lite/test{i}.jsonl" for i in (4, 5)]
        assert second == f"livecodebench 8 {files[0]} {files}"
        assert third.startswith(f"Idavidrein/gpqa@{GPQA}: suite gpqa_diamond: the data set is gated: accept its terms")
        assert third.endswith(
            "; or put gpqa_diamond.jsonl, .parquet or .csv into a folder and set evaluate.suite_files to it"
        )
        assert loaded(hub, tmp_path, token="secret")[2].startswith("gpqa_diamond 5 Idavidrein/gpqa/gpqa_diamond/train")
