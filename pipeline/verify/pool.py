"""Verification in worker processes that can be killed: tasks in, verdicts out, in any order."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from queue import Queue
from typing import Any, Literal, Self

from fusechat.pipeline.errors import FusechatError, UserError

WORKER = ["-m", "fusechat.pipeline.verify.worker"]
START_S = 60.0
"""Seconds that a fresh worker may take to say that it is there."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verification found.

    Reasons of math: correct, wrong, no_answer, ambiguous, timeout, error. Of code: passed, failed, error, timeout,
    memory, forbidden, no_code. `correct` is none where nothing can be said.
    """

    correct: bool | None
    reason: str
    detail: str = ""
    extracted: str = ""
    seconds: float = 0.0
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CheckTask:
    """One response to verify: `gold` for math, `tests` and `entry_point` for code."""

    id: str
    domain: str
    response: str
    gold: str | None = None
    tests: str | None = None
    entry_point: str | None = None
    prompt: str = ""


class VerifierPool:
    """Worker processes for math and code; usable from any thread, task or actor.

    Args:
        num_workers: processes at the same time.
        timeout_s: wall-clock seconds a check; past them its worker is killed and the verdict is `timeout`.
        memory_mb: address space of a check.
        sandbox: layers that must hold before model-written code runs (see sandbox.py).

    Raises:
        UserError: on entering, if a layer of the sandbox is missing on this machine; it is named.
    """

    def __init__(
        self,
        num_workers: int = 2,
        *,
        timeout_s: float = 5.0,
        memory_mb: int = 512,
        sandbox: Literal["strict", "basic"] = "strict",
    ) -> None:
        self._workers = [_Worker(timeout_s, memory_mb, sandbox) for _ in range(num_workers)]

    def __enter__(self) -> Self:
        self._workers[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all workers."""
        for worker in self._workers:
            worker.stop()

    def run(self, tasks: Iterable[CheckTask]) -> Iterator[tuple[str, Verdict]]:
        """Verdicts as they come, in any order; at most a few tasks a worker are read ahead."""
        todo: Queue[CheckTask | None] = Queue(maxsize=2 * len(self._workers))
        done: Queue[tuple[str, Verdict] | BaseException | None] = Queue()

        def serve(worker: _Worker) -> None:
            try:
                while (task := todo.get()) is not None:
                    done.put((task.id, worker.check(task)))
            except BaseException as error:  # noqa: BLE001 - handed to the caller's thread, which raises it
                done.put(error)
            finally:
                done.put(None)

        threads = [threading.Thread(target=serve, args=(w,), daemon=True) for w in self._workers]
        for thread in threads:
            thread.start()
        feeder = threading.Thread(target=self._fill, args=(todo, list(tasks)), daemon=True)
        feeder.start()
        running = len(threads)
        while running:
            item = done.get()
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item

    def _fill(self, todo: Queue[CheckTask | None], tasks: list[CheckTask]) -> None:
        for task in tasks:
            todo.put(task)
        for _ in self._workers:
            todo.put(None)


class _Worker:
    """One process; restarted after every kill."""

    def __init__(self, timeout_s: float, memory_mb: int, sandbox: str) -> None:
        self._timeout_s, self._memory_mb, self._sandbox = timeout_s, memory_mb, sandbox
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""

    def start(self) -> None:
        """Starts the process and waits until it is ready.

        Raises:
            UserError: the sandbox refuses.
            FusechatError: it does not start.
        """
        if self._process is not None:
            return
        env = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR")}
        self._buffer = b""
        self._process = subprocess.Popen(
            [sys.executable, "-I", *WORKER, str(self._timeout_s), str(self._memory_mb), self._sandbox],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            start_new_session=True,
        )
        hello = self._read(START_S)
        if hello is None:
            self.stop()
            raise FusechatError("a verification worker did not start")
        if "missing" in hello:
            self.stop()
            raise UserError(
                f"score.verify.sandbox: {self._sandbox} needs {', '.join(hello['missing'])}, which this machine does "
                "not have; code of models is not run without it"
            )

    def stop(self) -> None:
        """Kills the process and its children."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def check(self, task: CheckTask) -> Verdict:
        """One verdict; a worker that dies or hangs costs only the check it was at."""
        if task.domain == "math" and task.gold is None:
            return Verdict(None, "error", "there is no gold answer")
        if task.domain == "code" and not task.tests:
            return Verdict(None, "error", "there are no tests")
        began = time.monotonic()
        self.start()
        request = {"domain": task.domain, "response": task.response, "gold": task.gold, "entry_point": task.entry_point}
        try:
            self._send(json.dumps(request))
            # The worker keeps the deadline of code itself; this one is for the worker.
            reply = self._read(self._timeout_s + (2.0 if task.domain == "code" else 0.0))
            if reply is not None and "tests" in reply:
                self._send(task.tests or "")
                reply = self._read(self._timeout_s + 2.0)
        except OSError:
            reply = None
        seconds = time.monotonic() - began
        if reply is None:
            died = self._process is not None and self._process.poll() is not None
            self.stop()
            if died:
                return Verdict(False, "memory", "the check's process died", seconds=seconds)
            return Verdict(False, "timeout", f"no verdict within {self._timeout_s:g} s", seconds=seconds)
        if reply["reason"] in ("timeout", "memory") or "no verdict" in reply["detail"]:
            self.stop()
        return Verdict(
            reply["correct"], reply["reason"], reply["detail"][:500], reply["extracted"][:500], seconds, reply["memory"]
        )

    def _send(self, text: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        data = text.encode("utf-8", "backslashreplace")
        self._process.stdin.write(len(data).to_bytes(4, "big") + data)
        self._process.stdin.flush()

    def _read(self, timeout_s: float) -> dict[str, Any] | None:
        """One line of JSON; none if it doesn't come in time."""
        assert self._process is not None and self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    return None
                chunk = os.read(self._process.stdout.fileno(), 1 << 16)
                if not chunk:
                    return None
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        reply: dict[str, Any] = json.loads(line)
        return reply
