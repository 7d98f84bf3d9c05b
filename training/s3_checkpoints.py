"""Checkpoints on S3 beside the training's folder: sent while training goes on, fetched where the folder has none."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.storage.s3 import S3, reason

from . import checkpoints as files

CHUNK = 8 << 20
ATTEMPTS, WAIT_S = 5, 2.0
"""Tries of an upload, beside those of the S3 client for each request, and the seconds before the second; then twice
as many each time."""


class Offsite:
    """A training's checkpoints under one prefix; the last two stay there.

    Args:
        url: `s3://bucket/prefix`, for this training alone.
    """

    def __init__(self, stage: str, url: str, *, attempts: int = ATTEMPTS, wait_s: float = WAIT_S) -> None:
        self._stage, self._url, self._prefix = stage, url, url.removeprefix("s3://").rstrip("/")
        self._attempts, self._wait_s = attempts, wait_s
        self._store = S3(max_attempts=3)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._newest = 0
        self._sent: Future[None] | None = None

    def send(self, checkpoint: Path) -> None:
        """Sends a whole checkpoint, in a thread; of several that wait, the newest alone.

        Hard links hold its files until then, since the Trainer removes old checkpoints.
        """
        held = checkpoint.with_name(f"sending-{checkpoint.name}")
        shutil.rmtree(held, ignore_errors=True)
        shutil.copytree(checkpoint, held, copy_function=os.link)
        self._newest = files.step_of(checkpoint)
        self._sent = self._thread.submit(self._send, held, checkpoint.name)

    def check(self) -> None:
        """Raises:
        StageError: the last upload failed for good.
        """
        if self._sent is not None and self._sent.done() and (error := self._sent.exception()):
            cause = reason(error) if isinstance(error, OSError) else str(error)
            raise StageError(
                self._stage,
                self._url,
                f"a checkpoint can't be sent after {self._attempts} tries: {cause}; mend it or leave out "
                "training.checkpoints. The same command then goes on from the last checkpoint",
            ) from error

    def stop(self) -> None:
        """Ends after what is being sent; the model is durable, and what waits is not needed any more."""
        self._newest = -1
        self._thread.shutdown(wait=True, cancel_futures=True)

    def wait(self) -> None:
        """Until what was given last is sent, or has failed."""
        if self._sent is not None:
            self._sent.exception()

    def fetch(self, checkpoints: Path) -> Path | None:
        """Brings the newest whole checkpoint that is newer than those of the folder.

        Raises:
            OSError: the store can't be read.
        """
        here = files.step_of(files.last_whole(checkpoints))
        for name in reversed(self._names()):
            if int(name.rpartition("-")[2]) <= here:
                return None
            partial = checkpoints / f"fetching-{name}"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for path in self._store.find(f"{self._prefix}/{name}"):
                with self._store.fs.open_input_stream(path) as source, open(partial / Path(path).name, "wb") as target:
                    shutil.copyfileobj(source, target, CHUNK)
            if files.is_whole(partial):
                files.settle(partial, checkpoints / name)
                return checkpoints / name
            shutil.rmtree(partial)
        return None

    def _names(self) -> list[str]:
        """Checkpoints that were begun, oldest first."""
        found = {path.removeprefix(f"{self._prefix}/").split("/")[0] for path in self._store.find(self._prefix)}
        return sorted(found, key=lambda name: int(name.rpartition("-")[2]))

    def _send(self, held: Path, name: str) -> None:
        try:
            for attempt in range(self._attempts):
                if files.step_of(held) < self._newest or self._newest < 0:
                    return
                try:
                    self._put(held, name)
                    return
                except OSError:
                    if attempt + 1 == self._attempts:
                        raise
                    time.sleep(self._wait_s * 2**attempt)
        finally:
            shutil.rmtree(held, ignore_errors=True)

    def _put(self, held: Path, name: str) -> None:
        parts = sorted((p for p in held.iterdir() if p.is_file()), key=lambda p: p.name == files.WHOLE)  # it goes last
        for part in parts:
            with (
                open(part, "rb") as source,
                self._store.fs.open_output_stream(f"{self._prefix}/{name}/{part.name}", compression=None) as target,
            ):
                shutil.copyfileobj(source, target, CHUNK)
        for old in self._names()[:-2]:
            self._store.fs.delete_dir(f"{self._prefix}/{old}")
