"""The worker process: reads requests as frames, writes JSON lines. `python -m fusechat.pipeline.verify.worker`."""

from __future__ import annotations

import io
import json
import os
import resource
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from .messages import CheckRequest, CheckResult, WorkerMessage


def main() -> None:
    """Command-line arguments: seconds per check, MiB of address space per check, sandbox level, for code the
    descriptors `zygote.Pipes.of_worker`, and the kind of worker: math, or one of `modules.KINDS`.
    """
    timeout_s, memory_mb, level, kind = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[-1]
    # Redirected so that nothing a library prints can look like a verdict.
    answers = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    sys.stdin = io.StringIO()  # `input` of the tests must not read the pool's requests
    from .frames import MAX_TESTS, receive

    # sympy's expressions and parsed code are allocated in this process.
    resource.setrlimit(resource.RLIMIT_AS, ((memory_mb + 2048) << 20, resource.RLIM_INFINITY))
    if kind == "math":
        import logging

        import math_verify  # noqa: F401 - slow to import, so not during a check

        logging.disable(logging.CRITICAL)  # it logs the response
    else:
        from . import sandbox
        from .code.checker import Checker
        from .code.modules import preload
        from .code.zygote import Zygote, inherited

        missing = sandbox.missing_layers(level)
        if missing:
            _send(answers, {"missing": missing})
            return
        import pyflakes.checker  # noqa: F401 - slow to import, so not during a check

        preload(kind)
        zygote = Zygote(inherited(sys.argv[4]))
        statm = os.open("/proc/self/statm", os.O_RDONLY)
        limits = sandbox.ResourceLimits(level, timeout_s, memory_mb, statm)
        sandbox.confine_worker(level)
        sandbox.require_confinement(level)
        if level == "strict" or os.geteuid() == 0:
            sandbox.drop_privileges()
        checker = Checker(zygote, limits)
    _send(answers, {"ready": True})
    while True:
        try:
            task = json.loads(receive(0, MAX_TESTS))
        except EOFError:
            return
        if task["domain"] == "math":
            _send(answers, _check_math(task))
            continue
        _send(answers, checker.check(task))


def _check_math(task: CheckRequest) -> CheckResult:
    from . import math

    try:
        correct, reason, extracted, detail = math.check(task["response"], task["gold"] or "")
    except (Exception, MemoryError, RecursionError) as error:  # noqa: BLE001 - if the parser fails, the answer is wrong
        correct, reason, extracted = False, "wrong", ""
        detail = f"could not be compared: {type(error).__name__}: {error}"
    return {
        "correct": correct,
        "reason": reason,
        "detail": detail,
        "extracted": extracted,
        "findings": [],
        "memory": 0,
    }


def _send(out: TextIO, message: WorkerMessage) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
