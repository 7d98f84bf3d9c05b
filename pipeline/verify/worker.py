"""The worker process: reads tasks as frames, answers with JSON lines. `python -m fusechat.pipeline.verify.worker`."""

from __future__ import annotations

import json
import os
import resource
import sys
from typing import Any


def main() -> None:
    """Arguments: seconds a check, MiB of address space a check, name of the sandbox level, math or code.

    What checks code forks for each of them, so it imports little beyond `code.PRELOADED`: no sympy.
    """
    timeout_s, memory_mb, level, domain = float(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    # Nothing that a library prints may look like a verdict.
    answers = os.fdopen(os.dup(1), "w")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    from fusechat.pipeline.verify.frames import MAX_TESTS, receive

    # What sympy makes of an answer, and what the parser makes of code, grows in this process.
    resource.setrlimit(resource.RLIMIT_AS, ((memory_mb + 2048) << 20, resource.RLIM_INFINITY))
    if domain == "math":
        import logging

        import math_verify  # noqa: F401 - takes a while, which no check should pay for

        logging.disable(logging.CRITICAL)  # it logs the response
    else:
        from fusechat.pipeline.verify import code, sandbox

        missing = sandbox.missing_layers(level)
        if missing:
            _say(answers, {"missing": missing})
            return
        statm = os.open("/proc/self/statm", os.O_RDONLY)
        limits = sandbox.ResourceLimits(level, timeout_s, memory_mb, statm)
        code.preload()
        sandbox.confine_worker(level)
    _say(answers, {"ready": True})
    while True:
        try:
            task = json.loads(receive(0, MAX_TESTS))
        except EOFError:
            return
        if task["domain"] == "math":
            _say(answers, _math(task))
            continue
        verdict = code.check(
            task["response"],
            task["entry_point"],
            task["prompt"],
            0,
            lambda: _say(answers, {"tests": True}),
            limits,
        )
        _say(answers, verdict)
        if verdict["reason"] in ("timeout", "memory") or "no verdict" in verdict["detail"]:
            return  # the judge may have been killed before it read its tests; a fresh worker has a clean pipe


def _math(task: dict[str, Any]) -> dict[str, Any]:
    from fusechat.pipeline.verify import math

    try:
        correct, reason, extracted, detail = math.check(task["response"], task["gold"])
    except (Exception, MemoryError, RecursionError) as error:  # noqa: BLE001 - a parser's failure is a verdict
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


def _say(out: Any, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
