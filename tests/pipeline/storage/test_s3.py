"""Run directories on S3, against moto's server, a process on this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pickle
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
import stores
from example_recipe import make_run
from numbered_rows import parts, row
from pyarrow.fs import AwsStandardS3RetryStrategy, FileSelector, S3FileSystem

from fusechat.pipeline.errors import RunDirectoryError, StageError
from fusechat.pipeline.identities import digest
from fusechat.pipeline.records import PROMPT, RESPONSE
from fusechat.pipeline.stages.walk import walk
from fusechat.pipeline.storage import s3
from fusechat.pipeline.storage.lease import Lease
from fusechat.pipeline.storage.manifest import Manifest
from fusechat.pipeline.storage.parts import Parts
from fusechat.pipeline.storage.run_dir import RunDir
from fusechat.pipeline.storage.s3 import S3

pytestmark = pytest.mark.skipif(importlib.util.find_spec("moto") is None, reason="moto, the S3 server, is missing")

REFUSED = "http://127.0.0.1:9"  # the discard port: nobody listens


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of an S3 server that lives as long as this module's tests."""
    with stores.served() as (endpoint, _):
        yield endpoint


@pytest.fixture
def url(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run directory's URL in a new bucket. The environment points this process and its children to the server."""
    settings = stores.environment(server, tmp_path) | {"FUSECHAT_CACHE": str(tmp_path / "cache")}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{digest(str(tmp_path))[:16]}"
    httpx.put(f"{server}/{bucket}").raise_for_status()
    return f"s3://{bucket}/runs/small"


def keys(url: str) -> list[str]:
    """Every object in the URL's bucket, as the server lists them."""
    bucket = url.split("/")[2]
    listed = httpx.get(f"{os.environ['AWS_ENDPOINT_URL']}/{bucket}?list-type=2").raise_for_status()
    return re.findall("<Key>(.*?)</Key>", listed.text)


# --- files


def test_tables_come_back_and_go(url: str) -> None:
    run = RunDir(url)
    parts(run).write_all([row(n, n) for n in range(20)], 4)
    assert parts(run).read().column("value").to_pylist() == list(range(20))
    assert run.files("stage") == sorted(k.removeprefix("runs/small/") for k in keys(url))
    assert {f.split("/")[1] for f in run.files("stage")} == {f"bucket-{b:04d}" for b in range(4)}
    run.write_json({"ä": 1}, "stage", "notes.json")
    run.remove_tables("stage")
    assert run.files("stage") == run.files("nowhere") == []
    assert parts(run).ids() == set()
    assert run.read_json("stage", "notes.json") == {"ä": 1}
    assert run.exists("stage", "notes.json")
    assert not run.exists("stage", "other.json")


def test_what_one_process_writes_another_lists_at_once(url: str) -> None:
    mine, theirs = RunDir(url), pickle.loads(pickle.dumps(RunDir(url)))
    for num in range(3):
        parts(theirs).write(0, [row(num)])
        assert len(mine.files("stage")) == num + 1
    assert parts(mine).ids() == {"r000", "r001", "r002"}


def test_a_listing_of_several_pages_is_whole(url: str) -> None:
    run, names = RunDir(url), sorted(f"stage/{num}.parquet" for num in range(1001))  # a page holds 1000
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda name: run.write_bytes(b"x", name), names))
    assert run.files("stage") == names


def test_a_bucket_without_a_prefix_is_a_run_directory_too(url: str) -> None:
    run = RunDir(url.removesuffix("runs/small"))
    parts(run).write(0, [row(1)])
    assert [f.split("/")[0] for f in run.files()] == ["stage"]
    assert parts(run).ids() == {"r001"}


def test_a_table_of_several_uploads_is_one_object(url: str) -> None:
    run, noise = RunDir(url), pa.table({"x": pa.array([os.urandom(1 << 20) for _ in range(24)])})
    run.write_table(noise, "big.parquet")
    assert keys(url) == ["runs/small/big.parquet"]
    assert run.read_table("big.parquet") == noise


@pytest.mark.parametrize(("size", "sign"), [(8 << 20, "0.parquet"), (200 << 20, "begun")])  # PUTs; a multipart upload
def test_a_writer_killed_in_the_middle_leaves_whole_files_alone(url: str, size: int, sign: str) -> None:
    write = """
import os, sys
from fusechat.pipeline.storage.run_dir import RunDir
run, data = RunDir(sys.argv[1]), os.urandom(int(sys.argv[2]))
run.write_bytes(b"", "begun")
for num in range(1000):
    run.write_bytes(data, f"{num}.parquet")
"""
    with subprocess.Popen([sys.executable, "-c", write, url, str(size)]) as writer:
        wait_for(lambda: f"runs/small/{sign}" in keys(url))
        time.sleep(0.2)
        writer.kill()
    assert writer.returncode == -signal.SIGKILL
    run = RunDir(url)
    found = run.files()
    assert found or sign == "begun"
    assert {len(run._fs.cat_file(run.path(f))) for f in found} <= {size}


def test_an_interrupt_while_writing_leaves_a_whole_object_or_none(url: str) -> None:
    """Interrupts at many moments: every object that exists afterwards is complete."""
    run, data, seen = RunDir(url), b"x" * 1000, 0
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    try:
        for num in range(150):
            timer = threading.Timer(0.00002 * num, signal.raise_signal, (signal.SIGINT,))
            try:
                timer.start()
                run.write_bytes(data, f"{num}.bin")
                timer.join()
            except KeyboardInterrupt:
                seen += 1
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen
    assert {len(run._fs.cat_file(run.path(k.rsplit("/", 1)[1]))) for k in keys(url)} <= {len(data)}


@pytest.mark.parametrize("keep", [0, 3, 200, -1])
def test_a_broken_shard_is_an_error_that_names_the_file(url: str, keep: int) -> None:
    run = RunDir(url)
    parts(run).write(3, [row(n) for n in range(50)])
    (shard,) = run.files("stage")
    run.write_bytes(run._fs.cat_file(run.path(shard))[:keep], shard)
    with pytest.raises(StageError, match="can't be read") as caught:
        parts(run).read()
    assert caught.value.place == shard


def test_stages_that_write_folders_say_what_they_need(url: str) -> None:
    with pytest.raises(RunDirectoryError, match="this stage needs a run directory on a file system"):
        RunDir(url).local_path("sft")


# --- manifests and a whole stage


def test_a_manifest_comes_back_as_it_was(url: str) -> None:
    manifest = Manifest(stage="sample", config="c", inputs={"prompts": "p"}, data="d", counts={"rows": 3}, tokens=5)
    run = RunDir(url)
    assert run.manifest("sample") is None
    run.write_manifest(manifest)
    assert run.valid_manifest("sample", "c", {"prompts": "p"}) == manifest
    assert run.valid_manifest("sample", "other", {"prompts": "p"}) is None


def test_the_prompts_stage_runs_and_then_is_up_to_date(url: str, tmp_path: Path) -> None:
    for worked in (True, False):
        assert walk(make_run(tmp_path, run_dir=url), ("prompts",)) == {"prompts": worked}
    assert Parts(RunDir(url), "prompts/train", PROMPT, "prompt_id").read().num_rows == 1
    assert not [k for k in keys(url) if "/.lock/" in k and not k.endswith("/")]


def test_finished_samples_are_durable_soon_and_one_shard_takes_their_parts_place(url: str) -> None:
    import asyncio

    from fusechat.pipeline.sampling.batch_worker import ResponseWriter

    parts = Parts(RunDir(url), "sample", RESPONSE, "response_id")
    rows = [
        {
            **{f.name: "x" for f in RESPONSE if f.type == "string"},
            **{f.name: 1 for f in RESPONSE if f.type in ("int32", "int64")},
            "prompt_id": f"{i:08x}",
            "response_id": str(i),
            "flags": ["empty"],
        }
        for i in range(4)
    ]

    async def main() -> None:
        ledger = ResponseWriter(parts, 1)
        for finished in rows:
            ledger.add(finished)
            await ledger.wait_until_durable()

    asyncio.run(main())
    assert len(RunDir(url).files("sample")) == 4
    there = parts.read(0).to_pylist()
    parts.compact(0, there)
    assert len(RunDir(url).files("sample")) == 1
    assert parts.read().to_pylist() == there
    assert parts.ids() == {r["response_id"] for r in rows}


# --- leases


def claim(url: str, **times: float) -> Lease:
    return Lease(S3(), f"{url.removeprefix('s3://')}/.lock", **times)


def test_a_second_process_is_refused_and_told_by_whom_and_a_killed_one_is_succeeded(url: str) -> None:
    hold = """
import sys
from fusechat.pipeline.storage.lease import Lease
from fusechat.pipeline.storage.s3 import S3
assert Lease(S3(), sys.argv[1], renew_s=1).acquire() is None
print(1, flush=True)
input()
"""
    command = [sys.executable, "-c", hold, f"{url.removeprefix('s3://')}/.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "1\n"
        says = f"^{url}: in use by process {holder.pid} on {socket.gethostname()}; wait for it or stop it"
        with pytest.raises(RunDirectoryError, match=says), RunDir(url).lock():
            pass
        (first,) = claims(url)
        wait_for(lambda: claims(url)[0] > first)  # it renews its claim
        assert claim(url).acquire() == f"process {holder.pid} on {socket.gethostname()}"
        holder.kill()
    with pytest.raises(RunDirectoryError, match=says), RunDir(url).lock():  # killed just now
        pass
    time.sleep(2.1)  # the store's times are whole seconds
    successor = claim(url, stale_s=1)
    assert successor.acquire() is None
    assert len([k for k in keys(url) if not k.endswith("/")]) == 1  # the killed process's claim is gone
    successor.release()


def claims(url: str) -> list[datetime]:
    """When each claim was written, by the store's clock."""
    found = S3().fs.get_file_info(FileSelector(f"{url.removeprefix('s3://')}/.lock"))
    return [f.mtime for f in found if f.is_file]


def test_a_lock_is_free_again_once_it_is_released(url: str) -> None:
    for _ in range(2):
        with RunDir(url).lock():
            assert len([k for k in keys(url) if "/.lock/" in k and not k.endswith("/")]) == 1
    with contextlib.suppress(ZeroDivisionError), RunDir(url).lock():
        1 / 0  # noqa: B018
    with RunDir(url).lock():
        pass


def test_of_many_that_claim_at_once_one_holds(url: str) -> None:
    leases, results = [claim(url) for _ in range(4)], dict[int, str | None]()
    threads = [threading.Thread(target=lambda n=n: results.update({n: leases[n].acquire()})) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [n for n, refused in results.items() if refused is None]
    assert len(held) <= 1
    for n in held:
        leases[n].release()


def test_a_process_that_lost_its_lease_writes_no_more(url: str) -> None:
    run = RunDir(url)
    with run.lock():
        run.write_json(1, "a.json")
        assert run._lease is not None
        run._lease.lost = True
        for write in (lambda: run.write_json(2, "a.json"), lambda: run.remove_tables("stage")):
            with pytest.raises(RunDirectoryError, match=f"^{url}: another process took it over"):
                write()
    assert run.read_json("a.json") == 1
    run.write_json(3, "a.json")


class Watched(S3):
    """A store in which a lease looks for its claim only when the test allows it."""

    def __init__(self) -> None:
        super().__init__()
        self.turns, self.written = threading.Semaphore(0), 0

    def exists(self, path: str) -> bool:
        self.turns.acquire()
        return bool(super().exists(path))

    def write(self, path: str, data: bytes) -> None:
        super().write(path, data)
        self.written += 1


def test_a_lease_notices_that_its_claim_is_gone(url: str) -> None:
    store = Watched()
    lease = Lease(store, f"{url.removeprefix('s3://')}/.lock", renew_s=0.01)
    assert lease.acquire() is None
    for _ in range(3):
        store.turns.release()
    wait_for(lambda: store.written == 4)  # once when taken, and once per turn
    assert not lease.lost
    (held,) = (k for k in keys(url) if not k.endswith("/"))
    store.rm_file(f"{url.split('/')[2]}/{held}")
    store.turns.release()
    lease._thread.join()
    assert lease.lost
    assert not [k for k in keys(url) if not k.endswith("/")]  # and is not written again
    lease.release()


# --- mistakes, each one line after a bounded number of tries


def refused(url: str) -> str:
    """Takes the lock, as every run does first, which must fail. Returns the message."""
    with pytest.raises(RunDirectoryError) as caught, RunDir(url).lock():
        pass
    message = str(caught.value)
    assert message.startswith(f"{url}: ")
    assert "\n" not in message
    return message.removeprefix(f"{url}: ")


@pytest.mark.usefixtures("url")
def test_no_such_bucket() -> None:
    assert refused("s3://nobodys-bucket/run") == "can't be written: there is no such bucket"
    with pytest.raises(RunDirectoryError, match="can't be written: there is no such bucket"):
        RunDir("s3://nobodys-bucket/run").write_bytes(b"x", "a")


@pytest.mark.parametrize("nowhere", ["s3://", "s3:///run/"])
def test_no_bucket_named(nowhere: str) -> None:
    assert refused(nowhere) == "no file system handles this URL: it names no bucket"


@contextlib.contextmanager
def guarded(server: str) -> Iterator[None]:
    """A server that checks keys and their permissions."""
    httpx.post(f"{server}/moto-api/reset-auth", content=b"0").raise_for_status()
    try:
        yield
    finally:
        httpx.post(f"{server}/moto-api/reset-auth", content=b"inf").raise_for_status()


def test_no_credentials(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server where anonymous clients may write new objects, but neither read nor change existing ones."""
    RunDir(url).write_json(1, "a.json")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    run, says = RunDir(url), "access denied: there are no credentials, or they don't allow it$"
    with pytest.raises(RunDirectoryError, match=f"^{url}: can't be written: {says}"):
        run.write_json(2, "a.json")
    with pytest.raises(RunDirectoryError, match=f"^{url}: can't be read: {says}"):
        run.read_json("a.json")


def test_an_unknown_key(url: str, server: str) -> None:
    with guarded(server):
        assert refused(url) == "can't be written: the access key (AWS_ACCESS_KEY_ID) is unknown"


def test_a_key_without_permission(url: str, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import boto3

    run = RunDir(url)
    parts(run).write(0, [row(1)])
    (shard,) = run.files("stage")
    iam = boto3.client("iam", endpoint_url=server, region_name="us-east-1")
    iam.create_user(UserName="reader")
    key = iam.create_access_key(UserName="reader")["AccessKey"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    says = "access denied: there are no credentials, or they don't allow it"
    with guarded(server):
        assert refused(url) == f"can't be written: {says}"
        run = RunDir(url)
        for read in (lambda: run.exists("a"), lambda: run.files("stage"), lambda: run.read_table(shard)):
            with pytest.raises(RunDirectoryError, match=f"can't be read: {says}"):
                read()


def test_an_endpoint_that_is_down(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", REFUSED)
    assert refused(url).startswith("can't be written: the endpoint can't be reached: Failed to connect to 127.0.0.1:9")


def test_an_endpoint_that_never_answers(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    once = AwsStandardS3RetryStrategy(max_attempts=1)  # a try is ten seconds
    monkeypatch.setattr(s3.pafs, "S3FileSystem", lambda **options: S3FileSystem(**options | {"retry_strategy": once}))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert refused(url).startswith("can't be written: the endpoint can't be reached: Operation too slow")


def test_an_endpoint_that_drops_every_connection_is_asked_three_times(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = 0

    class Drop(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            nonlocal tries
            tries += 1

    with socketserver.TCPServer(("127.0.0.1", 0), Drop) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
        assert refused(url).startswith("can't be written: the endpoint can't be reached: ")
        server.shutdown()
    assert tries == 3


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
