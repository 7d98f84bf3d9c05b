"""The verifier pool: runs checks in worker processes that can be killed."""

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
from queue import Queue
from typing import Literal, Self

from ..errors import FusechatError, UserError
from .code import modules
from .code.zygote import Pipes
from .frames import LateError
from .messages import CheckRequest, WorkerMessage
from .tasks import CheckTask, Verdict, unfit_reason
from .time_limits import WALL_FACTOR, ProcessTime

WORKER = ["-m", "fusechat.pipeline.verify.worker"]
ZYGOTE = ["-m", "fusechat.pipeline.verify.code.zygote"]
START_S = 60.0
"""Seconds that a new worker may take until it is ready."""
MAX_CODE = 20_000
"""Characters of the code that a verdict keeps."""


class VerifierPool:
    """Worker processes for math and code. It can be used from any thread, task or actor.

    Args:
        num_workers: number of parallel checks. Each has one process for math and pairs for code (see
            code/modules.py), started on first use.
        timeout_s: processor seconds per check. By the clock it may take five times as long. After that the verdict is
            `timeout`.
        memory_mb: address space per check, in MiB.
        sandbox: level of the sandbox for model-written code (see sandbox.py).

    Raises:
        UserError: on entering the context, if this machine lacks a layer of the sandbox; the message names it.
    """

    def __init__(
        self,
        num_workers: int = 2,
        *,
        timeout_s: float = 5.0,
        memory_mb: int = 512,
        sandbox: Literal["strict", "basic"] = "strict",
    ) -> None:
        self._workers = [
            {kind: _Worker(timeout_s, memory_mb, sandbox, kind) for kind in ("math", *modules.KINDS)}
            for _ in range(num_workers)
        ]

    def __enter__(self) -> Self:
        self._workers[0]["code"].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops all workers."""
        for workers in self._workers:
            for worker in workers.values():
                worker.stop()

    def run(self, tasks: Iterable[CheckTask]) -> Iterator[tuple[str, Verdict]]:
        """Yields (task id, verdict) as checks finish, in any order. A task is read only when a worker is free."""
        source = iter(tasks)
        source_lock, stopped = threading.Lock(), threading.Event()
        done: Queue[tuple[str, Verdict] | BaseException | None] = Queue(maxsize=8 * len(self._workers))

        def serve(workers: dict[str, _Worker]) -> None:
            try:
                while not stopped.is_set():
                    with source_lock:
                        task = next(source, None)
                    if task is None:
                        break
                    problem = unfit_reason(task)
                    verdict = Verdict(None, "error", problem) if problem else workers[_kind_for(task)].check(task)
                    done.put((task.id, verdict))
            except BaseException as error:  # noqa: BLE001 - passed to the caller's thread, which raises it
                done.put(error)
            finally:
                done.put(None)

        threads = [threading.Thread(target=serve, args=(w,), daemon=True) for w in self._workers]
        for thread in threads:
            thread.start()
        running = len(threads)
        try:
            while running:
                item = done.get()
                if item is None:
                    running -= 1
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield item
        finally:  # if the caller stops early, wait until no thread uses a worker
            stopped.set()
            while running:
                running -= done.get() is None


def _kind_for(task: CheckTask) -> str:
    return "math" if task.domain == "math" else modules.kind_for(task.response, task.tests or "", task.prompt)


def _started(arguments: list[str], descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
    env = {k: v for k, v in os.environ.items() if k in ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR")}
    return subprocess.Popen(
        [sys.executable, "-I", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=env,
        start_new_session=True,
        pass_fds=descriptors,
    )


class _Worker:
    """One worker process. It is restarted after every kill."""

    def __init__(self, timeout_s: float, memory_mb: int, sandbox: str, kind: str) -> None:
        self._timeout_s, self._memory_mb, self._sandbox, self._kind = timeout_s, memory_mb, sandbox, kind
        self._process: subprocess.Popen[bytes] | None = None
        self._zygote: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._lock = threading.Lock()

    def start(self) -> None:
        """Starts the process and waits until it is ready.

        Raises:
            UserError: this machine lacks a layer of the sandbox.
            FusechatError: the process does not start.
        """
        if self._process is not None:
            return
        self._buffer = b""
        limits = [str(self._timeout_s), str(self._memory_mb), self._sandbox]
        if self._kind == "math":
            self._process = _started([*WORKER, *limits, "math"], ())
        else:
            pipes = Pipes.new()
            try:
                fds = pipes.of_zygote
                self._zygote = _started([*ZYGOTE, *limits, self._kind, ",".join(map(str, fds)), "zygote"], fds)
                fds = pipes.of_worker
                self._process = _started([*WORKER, *limits, ",".join(map(str, fds)), self._kind], fds)
            finally:
                for fd in pipes:
                    os.close(fd)
        first_message = self._read(ProcessTime(self._process.pid, START_S, START_S * WALL_FACTOR))
        if first_message is None:
            self.stop()
            raise FusechatError("a verification worker did not start")
        if "missing" in first_message:
            self.stop()
            layers = ", ".join(first_message["missing"])
            raise UserError(
                f"score.verify.sandbox: {self._sandbox} needs {layers}, which this machine does not have; "
                "model-written code is not run without it"
            )

    def stop(self) -> None:
        """Kills the processes and their children."""
        processes = [p for p in (self._process, self._zygote) if p is not None]
        self._process = self._zygote = None
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)
        for process in processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()

    def check(self, task: CheckTask) -> Verdict:
        """Runs one check. A worker that dies or hangs affects only this check."""
        with self._lock:
            return self._check(task)

    def _check(self, task: CheckTask) -> Verdict:
        self.start()
        started = time.monotonic()  # after the start of the process, which is not part of the check
        request: CheckRequest = {
            "domain": task.domain,
            "response": task.response,
            "gold": task.gold,
            "tests": task.tests,
            "entry_point": task.entry_point,
            "prompt": task.prompt,
        }
        assert self._process is not None
        # For code, the worker itself enforces the deadline; the 2 s more are for the worker.
        more_s = 2.0 if task.domain == "code" else 0.0
        limit = ProcessTime(self._process.pid, self._timeout_s + more_s, self._timeout_s * WALL_FACTOR + 2 * more_s)
        try:
            self._send(json.dumps(request))
            reply = self._read(limit)
        except OSError:
            reply = None
        seconds = time.monotonic() - started
        if reply is None:
            died = self._died()
            self.stop()
            if died and task.domain == "code":
                return Verdict(False, "error", "the check's process died", seconds=seconds)
            exceeded = "its memory" if died else f"{self._timeout_s:g} s"
            return Verdict(False, "timeout", f"no verdict within {exceeded}", seconds=seconds)
        assert "reason" in reply
        return Verdict(
            reply["correct"],
            reply["reason"],
            reply["detail"][:1000],
            reply["extracted"][: 500 if task.domain == "math" else MAX_CODE],
            seconds,
            reply["memory"],
            tuple(reply["findings"]),
        )

    def _died(self) -> bool:
        """Whether the process ended on its own. Its pipe may close shortly before it exits."""
        assert self._process is not None
        try:
            self._process.wait(0.1 if self._process.poll() is None else 0)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _send(self, text: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        data = text.encode("utf-8", "backslashreplace")
        self._process.stdin.write(len(data).to_bytes(4, "big") + data)
        self._process.stdin.flush()

    def _read(self, limit: ProcessTime) -> WorkerMessage | None:
        """Reads one message (a line of JSON); None if it does not arrive in time."""
        assert self._process is not None and self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._buffer:
                try:
                    while not selector.select(limit.wait_s()):
                        pass  # the limit raises when the time is over
                except LateError:
                    return None
                chunk = os.read(self._process.stdout.fileno(), 1 << 16)
                if not chunk:
                    return None
                self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        message: WorkerMessage = json.loads(line)
        return message
