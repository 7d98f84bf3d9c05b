"""The run directory: atomic files, full and read-only disks, locks, manifests, and which recipe owns it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from example_recipe import make_run
from fsspec.implementations.memory import MemoryFileSystem
from numbered_rows import SCHEMA, parts, row

from fusechat.pipeline.errors import RunDirectoryError, StageError
from fusechat.pipeline.identities import bucket_of
from fusechat.pipeline.stages.walk import walk
from fusechat.pipeline.storage.manifest import Manifest, versions
from fusechat.pipeline.storage.parts import drop_duplicate_keys
from fusechat.pipeline.storage.run_dir import RunDir

Mount = Callable[..., Path]


def files(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file under a folder with its inode and content: a rewrite changes the inode."""
    found = (f for f in sorted(folder.rglob("*")) if f.is_file())
    return {str(f.relative_to(folder)): (f.stat().st_ino, f.read_bytes()) for f in found}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FUSECHAT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts a small file system. Skips the test where mounting is not permitted."""
    mounted: list[Path] = []

    def on(name: str, options: str) -> Path:
        place = tmp_path / name
        place.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        if place in mounted:
            command = ["mount", "-o", f"remount,{options}", str(place)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("may not mount file systems here")
        if place not in mounted:
            mounted.append(place)
        return place

    yield on
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


class FullDisk(MemoryFileSystem):  # type: ignore[misc]
    """An object store that accepts at most 1000 bytes per file."""

    protocol = "fulldisk"

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        if len(value) > 1000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().pipe_file(path, value, mode, **kwargs)


# --- Parts


def test_a_part_that_is_written_twice_is_one_part(tmp_path: Path) -> None:
    table = parts(RunDir(str(tmp_path)))
    table.write(0, [row(1), row(2)])
    table.write(0, [row(2), row(1)])
    assert len(list(tmp_path.rglob("*.parquet"))) == 1
    assert table.read().column("id").to_pylist() == ["r001", "r002"]


def test_a_key_that_two_parts_hold_counts_once(tmp_path: Path) -> None:
    table = parts(RunDir(str(tmp_path)))
    table.write(0, [row(2), row(1)])
    table.write(0, [row(3), row(2)])
    assert len(list(tmp_path.rglob("*.parquet"))) == 2
    assert table.read().column("id").to_pylist() == ["r001", "r002", "r003"]
    assert table.ids() == {"r001", "r002", "r003"}


def test_rows_lie_in_their_prompts_bucket(tmp_path: Path) -> None:
    table, rows = parts(RunDir(str(tmp_path))), [row(n) for n in range(40)]
    table.write_all(rows, 4)
    for bucket in range(4):
        there = set(table.read(bucket).column("id").to_pylist())
        assert there == {r["id"] for r in rows if bucket_of(r["prompt_id"], 4) == bucket}
        assert there
    assert table.read().num_rows == 40


def test_no_rows_make_no_part_and_an_absent_folder_reads_as_empty(tmp_path: Path) -> None:
    table = parts(RunDir(str(tmp_path)))
    table.write(0, [])
    assert files(tmp_path) == {}
    assert table.read().schema == SCHEMA
    assert table.read(columns=["value"]).num_rows == 0


def test_some_columns_come_with_the_key(tmp_path: Path) -> None:
    table = parts(RunDir(str(tmp_path)))
    table.write(0, [row(1, 7)])
    assert table.read(columns=["value"]).to_pylist() == [{"id": "r001", "value": 7}]


@pytest.mark.parametrize("keep", [0, 3, 200, -1])
def test_a_half_written_shard_is_an_error_that_names_the_file(tmp_path: Path, keep: int) -> None:
    table = parts(RunDir(str(tmp_path)))
    table.write(3, [row(n) for n in range(50)])
    (shard,) = tmp_path.rglob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(StageError) as caught:
        table.read()
    assert caught.value.place == f"stage/bucket-0003/{shard.name}"
    assert "can't be read" in str(caught.value)


def test_a_shard_with_other_columns_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    run.write_table(pa.table({"id": ["a"]}), "stage", "bucket-0000", "other.parquet")
    with pytest.raises(StageError, match=r"stage/bucket-0000/other\.parquet: the shard can't be read"):
        parts(run).read()


def test_parts_work_on_an_object_store_too() -> None:
    run = RunDir("memory://runs/parts")
    parts(run).write_all([row(n) for n in range(9)], 3)
    assert parts(run).read().num_rows == 9
    run.remove_tables("stage")
    assert parts(run).ids() == set()
    with pytest.raises(RunDirectoryError, match="needs a run directory on a file system"):
        run.local_path("sft")


# --- disks


def test_a_full_object_store_is_a_clear_error_and_what_was_there_stays() -> None:
    fsspec.register_implementation("fulldisk", FullDisk, clobber=True)
    run = RunDir("fulldisk://run")
    run.write_json({"rows": 1}, "stage", "manifest.json")
    with pytest.raises(RunDirectoryError, match=r"^fulldisk://run: no space left; free some and run the same command"):
        run.write_json("x" * 2000, "stage", "manifest.json")
    assert run.read_json("stage", "manifest.json") == {"rows": 1}


def test_a_full_disk_is_a_clear_error_and_what_was_there_stays(mount: Mount) -> None:
    disk = mount("disk", "size=128k")
    run, kept = RunDir(str(disk / "run")), bytes(range(256)) * 64
    run.write_bytes(kept, "stage", "kept.bin")
    for name in ("kept.bin", "more.bin"):
        with pytest.raises(RunDirectoryError, match="no space left; free some and run the same command again"):
            run.write_bytes(os.urandom(200_000), "stage", name)
    assert {k: v for k, (_, v) in files(disk).items()} == {"run/stage/kept.bin": kept}
    run.write_bytes(kept, "stage", "more.bin")


def test_a_full_disk_stops_the_lock_with_a_clear_error(mount: Mount) -> None:
    disk = mount("disk", "size=64k")
    filler = disk / "filler"
    with pytest.raises(OSError, match="No space left"):
        filler.write_bytes(b"x" * 100_000)
    run = RunDir(str(disk))
    with pytest.raises(RunDirectoryError, match="no space left"), run.lock():
        pass
    filler.unlink()
    with run.lock():
        pass


def test_a_read_only_run_directory_is_a_clear_error_and_can_still_be_read(mount: Mount) -> None:
    disk = mount("disk", "size=64k")
    run = RunDir(str(disk))
    run.write_json([1], "a.json")
    mount("disk", "ro")
    with pytest.raises(RunDirectoryError, match="can't be written: Read-only file system"):
        run.write_json([2], "a.json")
    with pytest.raises(RunDirectoryError, match="can't be written: Read-only file system"), run.lock():
        pass
    assert run.read_json("a.json") == [1]


def test_a_run_directory_below_a_file_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = RunDir(str(tmp_path / "file" / "run"))
    with pytest.raises(RunDirectoryError, match="can't be written: Not a directory"):
        run.write_bytes(b"", "a")
    with pytest.raises(RunDirectoryError, match="can't be written: Not a directory"), run.lock():
        pass


@pytest.mark.parametrize("url", ["nosuch://bucket/run", "s3://"])
def test_a_place_that_no_file_system_serves_is_a_clear_error(url: str) -> None:
    with pytest.raises(RunDirectoryError, match=f"^{url}: "):
        RunDir(url).write_bytes(b"", "a")


def test_a_write_that_fails_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "inside").write_text("")
    with pytest.raises(RunDirectoryError, match="can't be written: "):
        RunDir(str(tmp_path)).write_bytes(b"x", "a")
    assert list(files(tmp_path)) == ["a/inside"]


# --- locks


def test_the_lock_removes_what_killed_writers_left(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    parts(run).write(0, [row(1)])
    leftover = tmp_path / "stage" / "bucket-0000" / ".x.tmp"
    leftover.write_bytes(b"half")
    assert parts(run).ids() == {"r001"}
    with run.lock():
        assert not leftover.exists()
        assert parts(run).ids() == {"r001"}


def test_a_second_process_on_the_same_directory_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    hold = """
import sys
from fusechat.pipeline.storage.run_dir import RunDir
with RunDir(sys.argv[1]).lock():
    print(1, flush=True)
    input()
"""
    command = [sys.executable, "-c", hold, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "1\n"
        (tmp_path / ".half.tmp").write_text("the holder writes this just now")
        with pytest.raises(RunDirectoryError, match=f"in use by process {holder.pid}; wait for it or stop it"):
            walk(make_run(tmp_path, run_dir=str(tmp_path)), ("prompts",))
        assert (tmp_path / ".half.tmp").exists()
        holder.kill()
    with RunDir(str(tmp_path)).lock():  # a killed holder's lock is free at once
        pass


# --- manifests


MANIFEST = Manifest(stage="sample", config="c", inputs={"prompts": "p"}, data="d", counts={"rows": 3}, tokens=5)


def test_a_manifest_comes_back_as_it_was(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    assert run.manifest("sample") is None
    run.write_manifest(MANIFEST)
    assert run.manifest("sample") == MANIFEST


@pytest.mark.parametrize(
    ("config", "inputs", "holds"),
    [
        ("c", {"prompts": "p"}, True),
        ("other", {"prompts": "p"}, False),
        ("c", {"prompts": "other"}, False),
        ("c", {}, False),
        ("c", {"prompts": "p", "score": "s"}, False),
    ],
)
def test_a_manifest_holds_for_the_settings_and_inputs_that_made_it(
    tmp_path: Path, config: str, inputs: dict[str, str], holds: bool
) -> None:
    run = RunDir(str(tmp_path))
    run.write_manifest(MANIFEST)
    assert (run.valid_manifest("sample", config, inputs) == MANIFEST) is holds
    assert run.valid_manifest("score", config, inputs) is None


def test_a_fingerprint_hangs_on_the_data_and_not_on_time() -> None:
    def like(**changes: Any) -> str:
        fields = {n: getattr(MANIFEST, n) for n in Manifest.__slots__}
        return Manifest(**{**fields, **changes}).fingerprint

    assert like(seconds=9.0, tokens=1, versions={"ray": "0"}) == MANIFEST.fingerprint
    changed = [like(data="x"), like(config="x"), like(inputs={"prompts": "x"}), like(stage="score")]
    assert len({*changed, MANIFEST.fingerprint}) == 5


def test_a_file_digest_is_that_of_its_bytes(tmp_path: Path) -> None:
    run = RunDir(str(tmp_path))
    run.write_bytes(b"abc", "a", "file")
    assert run.file_digest("a", "file").startswith("ba7816bf8f01cfea")


def test_of_two_rows_with_one_key_the_first_counts() -> None:
    table = pa.Table.from_pylist([row(2, 1), row(1, 1), row(2, 2), row(1, 2), row(3, 1)], schema=SCHEMA)
    assert drop_duplicate_keys(table, "id").to_pylist() == [row(1, 1), row(2, 1), row(3, 1)]
    assert drop_duplicate_keys(table.slice(0, 0), "id").num_rows == 0
    assert drop_duplicate_keys(table.slice(0, 1), "id").num_rows == 1


def test_versions_name_what_a_result_hangs_on() -> None:
    assert {"fusechat", "torch", "ray", "trl"} <= versions().keys()


# --- which recipe owns it


def test_a_second_walk_finds_the_stage_up_to_date_and_rewrites_nothing(tmp_path: Path) -> None:
    assert walk(make_run(tmp_path), ("prompts",)) == {"prompts": True}
    before = files(tmp_path / "run" / "prompts")
    assert {"rejects.parquet", "manifest.json"} < set(before)
    assert walk(make_run(tmp_path), ("prompts",)) == {"prompts": False}
    assert files(tmp_path / "run" / "prompts") == before


def test_a_changed_prompt_file_makes_the_stage_work_again(tmp_path: Path) -> None:
    work = make_run(tmp_path)
    walk(work, ("prompts",))
    first = work.fingerprint("prompts")
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"id": "j", "domain": "instruction", "prompt": "Name a bird."}\n')
    assert walk(work, ("prompts",)) == {"prompts": True}
    assert work.fingerprint("prompts") != first


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({"name": "other"}, "recipe was small, now other"),
        ({"target": {"model": {"path": "models/other"}}}, "target was "),
    ],
)
def test_a_run_directory_of_another_recipe_is_refused_and_left_alone(
    tmp_path: Path, other: dict[str, Any], says: str
) -> None:
    work = tmp_path / "run"
    walk(make_run(tmp_path), ("prompts",))
    before = {k: v for k, v in files(work).items() if k != ".lock"}
    with pytest.raises(RunDirectoryError, match=f"belongs to another recipe \\({says}.*; give another run_dir"):
        walk(make_run(tmp_path, **other), ("prompts",))
    assert {k: v for k, v in files(work).items() if k != ".lock"} == before


def test_a_stage_before_its_inputs_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"stage prompts, .*has not been run; `fusechat run` runs all stages"):
        walk(make_run(tmp_path), ("select",))


def test_a_full_disk_stops_a_stage_and_the_same_walk_ends_it_later(mount: Mount, tmp_path: Path) -> None:
    disk = mount("disk", "size=64k")
    work = make_run(disk)
    filler = disk / "filler"
    filler.write_bytes(b"x" * 48_000)
    with pytest.raises(RunDirectoryError, match="no space left"):
        walk(work, ("prompts",))
    assert work.dir.manifest("prompts") is None
    filler.unlink()
    assert walk(work, ("prompts",)) == {"prompts": True}
    assert work.train_prompts.num_rows == 1
