"""A lease on a run directory in an object store, which has no locks: a claim that is renewed while its process lives.

Each process writes its own claim, then lists all claims. It holds the lease if no other claim is alive. If two
processes claim at the same time, at least one sees the other's claim, so they never both hold the lease. The store must
only guarantee that a listing shows everything written before it. Conditional writes, which some stores accept and
ignore, are not needed. Ages are differences between the store's own times, so the machines' clocks don't matter.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import uuid
from contextlib import suppress

import pyarrow.fs as pafs

from .s3 import S3

RENEW_S, STALE_S = 20.0, 60.0


class Lease:
    """This process's lease on a folder, until it is released.

    Args:
        renew_s: seconds between renewals.
        stale_s: age at which a claim's process counts as dead.
    """

    def __init__(self, fs: S3, folder: str, *, renew_s: float = RENEW_S, stale_s: float = STALE_S) -> None:
        self._fs, self._folder, self._renew_s, self._stale_s = fs, folder, renew_s, stale_s
        self._claim = f"{folder}/{uuid.uuid4().hex}"
        self._holder = f"process {os.getpid()} on {socket.gethostname()}"
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self.lost = False
        """Whether another process took over the lease, because this one did not renew it in time."""

    def acquire(self) -> str | None:
        """Takes the lease. Returns None, or the process that holds it.

        Raises:
            OSError: the store can't be reached, refuses, or does not list what was just written.
        """
        holder = None
        for pause_s in (0.0, 1.0, 2.0):  # two processes that claim at once both retreat, and retry at random times
            time.sleep(random.uniform(0, pause_s))
            self._fs.write(self._claim, self._holder.encode())
            alive, dead = self._others()
            if not alive:
                for claim in dead:
                    self._remove(claim)
                self._thread.start()
                return None
            holder = self._read(alive[0])
            self._remove(self._claim)
        return holder

    def release(self) -> None:
        """Ends the lease.

        Raises:
            OSError: the store can't be reached. The claim expires anyway.
        """
        self._released.set()
        self._thread.join()
        self._remove(self._claim)

    def _renew(self) -> None:
        while not self.lost and not self._released.wait(self._renew_s):
            with suppress(OSError):  # the next round retries; one that comes too late finds its claim removed
                self.lost = not self._fs.exists(self._claim)
                if not self.lost:
                    self._fs.write(self._claim, self._holder.encode())

    def _others(self) -> tuple[list[str], list[str]]:
        """The other processes' claims: alive ones and dead ones."""
        files = self._fs.fs.get_file_info(pafs.FileSelector(self._folder))
        times = {f.path: f.mtime.timestamp() for f in files if f.is_file}
        if self._claim not in times:
            raise OSError(f"the store's listing does not show {self._claim}, which was written before it")
        now = times.pop(self._claim)
        alive = [claim for claim, renewed in sorted(times.items()) if now - renewed < self._stale_s]
        return alive, sorted(times.keys() - set(alive))

    def _read(self, claim: str) -> str:
        try:
            return self._fs.cat_file(claim).decode() or "another process"
        except OSError:  # it was just removed, which Arrow reports in several ways
            return "another process"

    def _remove(self, claim: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.rm_file(claim)
