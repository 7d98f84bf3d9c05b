"""Copies of a training's checkpoints on S3: uploaded during training, downloaded if the local folder has none."""

from __future__ import annotations

import os
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from fusechat.pipeline.errors import StageError
from fusechat.pipeline.storage.s3 import S3, reason

from . import checkpoints as files

CHUNK_BYTES = 8 << 20
ATTEMPTS, WAIT_S = 5, 2.0
"""Attempts of an upload, and the seconds before the second attempt; the wait doubles each time. The S3 client also
retries each request."""


class S3CheckpointStore:
    """The checkpoints of one training under one S3 prefix. It keeps the last two.

    Args:
        url: `s3://bucket/prefix`, used by this training alone.
    """

    def __init__(self, stage: str, url: str, *, attempts: int = ATTEMPTS, wait_s: float = WAIT_S) -> None:
        self._stage, self._url, self._prefix = stage, url, url.removeprefix("s3://").rstrip("/")
        self._attempts, self._wait_s = attempts, wait_s
        self._s3 = S3(max_attempts=3)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._newest_step = 0
        self.pending: Future[None] | None = None
        """The upload that was requested last."""

    def upload(self, checkpoint: Path) -> None:
        """Uploads a complete checkpoint in a background thread. If several wait, only the newest is uploaded.

        Hard links keep the files until then, because the Trainer deletes old checkpoints.
        """
        linked = checkpoint.with_name(f"sending-{checkpoint.name}")
        shutil.rmtree(linked, ignore_errors=True)
        shutil.copytree(checkpoint, linked, copy_function=os.link)
        self._newest_step = files.step_of(checkpoint)
        self.pending = self._thread.submit(self._upload, linked, checkpoint.name)

    def raise_if_failed(self) -> None:
        """Raises:
        StageError: the last upload failed on every attempt.
        """
        if self.pending is not None and self.pending.done() and (error := self.pending.exception()):
            cause = reason(error) if isinstance(error, OSError) else str(error)
            raise StageError(
                self._stage,
                self._url,
                f"a checkpoint upload failed after {self._attempts} tries: {cause}; fix this or remove "
                "training.checkpoints. The same command then resumes from the last checkpoint",
            ) from error

    def stop(self) -> None:
        """Finishes the running upload and drops those that wait: the model is on disk and no longer needs them."""
        self._newest_step = -1
        self._thread.shutdown(wait=True, cancel_futures=True)

    def wait(self) -> None:
        """Waits until the last requested upload has finished or failed."""
        if self.pending is not None:
            self.pending.exception()

    def download_newer(self, checkpoints: Path) -> Path | None:
        """Downloads the newest complete checkpoint, if it is newer than those in the folder.

        Raises:
            OSError: the store can't be read.
        """
        local_step = files.step_of(files.latest_complete(checkpoints))
        for name in reversed(self._names()):
            if int(name.rpartition("-")[2]) <= local_step:
                return None
            partial = checkpoints / f"fetching-{name}"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            for path in self._s3.find(f"{self._prefix}/{name}"):
                with self._s3.fs.open_input_stream(path) as source, open(partial / Path(path).name, "wb") as target:
                    shutil.copyfileobj(source, target, CHUNK_BYTES)
            if files.is_complete(partial):
                files.commit_folder(partial, checkpoints / name)
                return checkpoints / name
            shutil.rmtree(partial)
        return None

    def _names(self) -> list[str]:
        """Names of the checkpoints on S3, complete or not, oldest first."""
        names = {path.removeprefix(f"{self._prefix}/").split("/")[0] for path in self._s3.find(self._prefix)}
        return sorted(names, key=lambda name: int(name.rpartition("-")[2]))

    def _upload(self, linked: Path, name: str) -> None:
        try:
            for attempt in range(self._attempts):
                if files.step_of(linked) < self._newest_step or self._newest_step < 0:
                    return
                try:
                    self.put_files(linked, name)
                    return
                except OSError:
                    if attempt + 1 == self._attempts:
                        raise
                    time.sleep(self._wait_s * 2**attempt)
        finally:
            shutil.rmtree(linked, ignore_errors=True)

    def put_files(self, folder: Path, name: str) -> None:
        """One attempt: uploads the files of `folder` as checkpoint `name`, then deletes all but the last two."""
        # The marker goes last.
        parts = sorted((p for p in folder.iterdir() if p.is_file()), key=lambda p: p.name == files.COMPLETE_MARKER)
        for part in parts:
            with (
                open(part, "rb") as source,
                self._s3.fs.open_output_stream(f"{self._prefix}/{name}/{part.name}", compression=None) as target,
            ):
                shutil.copyfileobj(source, target, CHUNK_BYTES)
        for old in self._names()[:-2]:
            self._s3.fs.delete_dir(f"{self._prefix}/{old}")
