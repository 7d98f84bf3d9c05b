"""Checkpoints on S3, against a server process on this machine: sent in the background, retried, downloaded whole."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import stores

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.storage.s3 import S3
from fusechat.training import checkpoints
from fusechat.training.s3_checkpoints import S3CheckpointStore

pytestmark = pytest.mark.skipif(importlib.util.find_spec("moto") is None, reason="moto, the S3 server, is missing")


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """An S3 server's address and process."""
    with stores.served() as found:
        yield found


@pytest.fixture
def url(server: tuple[str, subprocess.Popen[bytes]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in a bucket that is there."""
    settings = stores.environment(server[0], tmp_path)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    bucket = tmp_path.name.replace("_", "-")
    httpx.put(f"{server[0]}/{bucket}").raise_for_status()
    return f"s3://{bucket}/checkpoints/sft-0"


def checkpoint(folder: Path, step: int, size: int = 1000) -> Path:
    made = folder / f"checkpoint-{step}"
    made.mkdir(parents=True)
    for name in ("model.safetensors", "optimizer.pt", checkpoints.METRICS_FILE):
        (made / name).write_bytes(os.urandom(size))
    checkpoints.mark_complete(made)
    return made


def content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_what_was_sent_comes_back_whole_on_a_new_disk(url: str, tmp_path: Path) -> None:
    store = S3CheckpointStore("sft", url)
    made = [checkpoint(tmp_path / "here", step) for step in (10, 20, 100)]
    for one in made:
        store.upload(one)
        store.wait()
    store.raise_if_failed()
    there = {Path(p).parent.name for p in S3().find(url.removeprefix("s3://"))}
    assert there == {"checkpoint-20", "checkpoint-100"}  # the last two

    downloaded = S3CheckpointStore("sft", url).download_newer(tmp_path / "new")
    assert downloaded == tmp_path / "new" / "checkpoint-100"
    assert content(downloaded) == content(made[-1])
    assert S3CheckpointStore("sft", url).download_newer(tmp_path / "new") is None  # it is here already
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == ["checkpoint-10", "checkpoint-100", "checkpoint-20"]


def test_half_an_upload_gives_way_to_the_one_before(url: str, tmp_path: Path) -> None:
    store = S3CheckpointStore("sft", url)
    for step in (10, 20):
        store.upload(checkpoint(tmp_path / "here", step))
        store.wait()
    S3().fs.delete_file(f"{url.removeprefix('s3://')}/checkpoint-20/{checkpoints.COMPLETE_MARKER}")  # sent last
    downloaded = store.download_newer(tmp_path / "new")
    assert downloaded is not None and downloaded.name == "checkpoint-10"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["checkpoint-10"]


def counted(store: S3CheckpointStore, monkeypatch: pytest.MonkeyPatch) -> threading.Semaphore:
    """Released whenever an upload is begun."""
    tries, put = threading.Semaphore(0), store.put_files

    def count(held: Path, name: str) -> None:
        tries.release()
        put(held, name)

    monkeypatch.setattr(store, "put_files", count)
    return tries


def test_a_store_that_hangs_does_not_stop_training(
    server: tuple[str, subprocess.Popen[bytes]], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = S3CheckpointStore("sft", url, attempts=1000, wait_s=0)  # what hangs is never given up here
    tries = counted(store, monkeypatch)
    made = [checkpoint(tmp_path / "here", step) for step in (10, 20, 30)]
    server[1].send_signal(signal.SIGSTOP)
    try:
        for one in made:
            store.upload(one)
            store.raise_if_failed()
            tries.acquire()  # the first is under way
            tries.release()
        assert store.pending is not None and not store.pending.done()  # nothing waited for it
        for file in made[0].iterdir():  # as the Trainer removes old checkpoints
            file.unlink()
        made[0].rmdir()
    finally:
        server[1].send_signal(signal.SIGCONT)
    store.wait()
    store.raise_if_failed()
    downloaded = store.download_newer(tmp_path / "new")
    assert downloaded is not None and downloaded.name == "checkpoint-30"
    # the first was under way, the second was overtaken by the third
    assert {Path(p).parent.name for p in S3().find(url.removeprefix("s3://"))} == {"checkpoint-10", "checkpoint-30"}


def test_an_upload_is_tried_again_before_it_is_fatal(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = url.replace("s3://", "s3://not-yet-")
    store = S3CheckpointStore("sft", missing, attempts=20, wait_s=0.01)
    tries = counted(store, monkeypatch)
    store.upload(checkpoint(tmp_path / "here", 10))
    for _ in range(2):
        tries.acquire()
    store.raise_if_failed()  # nothing is fatal yet
    httpx.put(f"{os.environ['AWS_ENDPOINT_URL']}/{missing.split('/')[2]}").raise_for_status()
    store.wait()
    store.raise_if_failed()
    assert store.download_newer(tmp_path / "new") is not None

    refused = S3CheckpointStore("sft", url.replace("s3://", "s3://never-"), attempts=2, wait_s=0.01)
    refused.upload(checkpoint(tmp_path / "here", 20))
    refused.wait()
    with pytest.raises(StageError, match=r"after 2 tries: there is no such bucket.*training\.checkpoints"):
        refused.raise_if_failed()
    assert not list((tmp_path / "here").glob("sending-*"))
