"""Verification: checks a second, and what a pool still holds after very many.

    python tests/bench/verify.py                     # math and code, two workers, half a minute each
    python tests/bench/verify.py --checks 100000     # a mix in one pool: what it holds before and after

Math is the file of cases beside the tests; code is the tasks below, in the form of HumanEval and of MBPP.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import psutil

from fusechat.pipeline.verify import CheckTask, VerifierPool

CASES = Path(__file__).parents[1] / "pipeline" / "verify" / "math_cases.jsonl"
TASKS: list[tuple[str, str, str]] = [
    (
        "has_close_elements",
        "from typing import List\n\ndef has_close_elements(numbers: List[float], threshold: float) -> bool:\n"
        "    s = sorted(numbers)\n    return any(b - a < threshold for a, b in zip(s, s[1:]))",
        "def check(candidate):\n    assert candidate([1.0, 2.0, 3.9, 4.0], 0.3) == True\n"
        "    assert candidate([1.0, 2.0, 5.9, 4.0, 5.0], 0.5) == False\n    assert candidate([], 1) == False\n"
        "    assert candidate([1.1, 2.2, 3.1, 4.1, 5.1], 1.0) == True\n    assert candidate([1.0, 1.0], 0.5) == True\n",
    ),
    (
        "gcd",
        "def gcd(a, b):\n    while b:\n        a, b = b, a % b\n    return a",
        "def check(candidate):\n    assert candidate(3, 7) == 1\n    assert candidate(10, 15) == 5\n"
        "    assert candidate(49, 14) == 7\n    assert candidate(144, 60) == 12\n",
    ),
    (
        "word_counts",
        "from collections import Counter\n\ndef word_counts(text):\n    return dict(Counter(text.lower().split()))",
        "assert word_counts('a b A') == {'a': 2, 'b': 1}\nassert word_counts('') == {}\n"
        "assert word_counts('x  y') == {'x': 1, 'y': 1}\n",
    ),
    (
        "primes",
        "def primes(n):\n    sieve = [True] * (n + 1)\n    found = []\n    for p in range(2, n + 1):\n"
        "        if sieve[p]:\n            found.append(p)\n            for m in range(p * p, n + 1, p):\n"
        "                sieve[m] = False\n    return found",
        "assert primes(10) == [2, 3, 5, 7]\nassert primes(1) == []\nassert len(primes(1000)) == 168\n",
    ),
    (
        "is_balanced",
        "def is_balanced(s):\n    stack = []\n    pairs = {')': '(', ']': '[', '}': '{'}\n    for c in s:\n"
        "        if c in pairs.values():\n            stack.append(c)\n        elif c in pairs:\n"
        "            if not stack or stack.pop() != pairs[c]:\n                return False\n    return not stack",
        "def check(candidate):\n    assert candidate('([]{})')\n    assert not candidate('([)]')\n"
        "    assert candidate('')\n    assert not candidate('((')\n",
    ),
    (
        "roman",
        "import re\n\ndef roman(n):\n    out = ''\n    for v, s in [(1000, 'M'), (900, 'CM'), (500, 'D'), (400, 'CD'),"
        " (100, 'C'), (90, 'XC'), (50, 'L'), (40, 'XL'), (10, 'X'), (9, 'IX'), (5, 'V'), (4, 'IV'), (1, 'I')]:\n"
        "        while n >= v:\n            out += s\n            n -= v\n    return out",
        "assert roman(1994) == 'MCMXCIV'\nassert roman(4) == 'IV'\nassert roman(3999) == 'MMMCMXCIX'\n",
    ),
    (
        "merge",
        "def merge(intervals):\n    out = []\n    for a, b in sorted(intervals):\n        if out and a <= out[-1][1]:\n"
        "            out[-1] = (out[-1][0], max(out[-1][1], b))\n        else:\n            out.append((a, b))\n"
        "    return out",
        "def check(candidate):\n    assert candidate([(1, 3), (2, 6), (8, 10)]) == [(1, 6), (8, 10)]\n"
        "    assert candidate([]) == []\n    assert candidate([(1, 4), (4, 5)]) == [(1, 5)]\n",
    ),
    (
        "similar_elements",
        "def similar_elements(a, b):\n    return tuple(sorted(set(a) & set(b)))",
        "assert similar_elements((3, 4, 5, 6), (5, 7, 4, 10)) == (4, 5)\n"
        "assert similar_elements((1, 2), (3,)) == ()\n",
    ),
]  # fmt: skip
HOSTILE = [
    CheckTask(id="tower", domain="math", response=r"\boxed{9^{9^{9^9}}}", gold="3"),
    CheckTask(
        id="loop", domain="code", response="def f(x):\n    while True: pass", tests="assert f(1)", entry_point="f"
    ),
    CheckTask(
        id="memory", domain="code", response="def f(x):\n    return [0] * 10**10", tests="assert f(1)", entry_point="f"
    ),
    CheckTask(
        id="exit", domain="code", response="import os\nos._exit(0)\ndef f(x): 0", tests="assert f(1)", entry_point="f"
    ),
]


def math_tasks() -> Iterator[tuple[CheckTask, bool]]:
    """The cases again and again, each with the verdict it must get."""
    cases = [json.loads(line) for line in CASES.read_text("utf-8").splitlines()]
    for c in cycle(cases):
        yield CheckTask(id="math", domain="math", response=c["response"], gold=c["gold"]), c["correct"]


def code_tasks() -> Iterator[tuple[CheckTask, bool]]:
    """The tasks with a right answer, and every fourth with one that returns nothing."""
    for i, (name, body, tests) in enumerate(cycle(TASKS)):
        right = i % 4 != 3
        code = body if right else f"def {name}(*args):\n    return None"
        response = f"Here is the function:\n```python\n{code}\n```\nIt does what was asked for."
        yield CheckTask(id="code", domain="code", response=response, tests=tests, entry_point=name), right


def timed(name: str, tasks: Iterator[tuple[CheckTask, bool]], num: int, workers: int) -> None:
    """Prints checks a second, after a warm-up."""
    with VerifierPool(workers) as pool:
        list(pool.run([t for t, _ in islice(tasks, 50 * workers)]))
        wanted = list(islice(tasks, num))
        numbered = [CheckTask(**{**_fields(t), "id": str(i)}) for i, (t, _) in enumerate(wanted)]
        began, used = time.perf_counter(), cpu_seconds()
        found = dict(pool.run(numbered))
        seconds, used = time.perf_counter() - began, cpu_seconds() - used
    wrong = sum(bool(found[str(i)].correct) is not right for i, (_, right) in enumerate(wanted))
    rate = f"{workers} workers, {seconds:.1f} s, {num / seconds:.0f} checks/s, {1000 * used / num:.1f} ms of CPU each"
    print(f"{name}: {num} checks, {rate}, {wrong} not as expected")


def cpu_seconds() -> float:
    """Of this process, its workers and what they reaped: what a check costs, however busy the machine is."""
    here = psutil.Process()
    return sum(sum(p.cpu_times()[:4]) for p in (here, *here.children(recursive=True))) - sum(here.cpu_times()[2:4])


def _fields(task: CheckTask) -> dict[str, object]:
    return {name: getattr(task, name) for name in CheckTask.__slots__}


def endure(num: int, workers: int, hostile_every: int) -> None:
    """Prints what the pool's processes hold, idle, after the first two thousand checks and after all."""
    with VerifierPool(workers, timeout_s=2.0) as pool:
        reasons: Counter[str] = Counter()
        began = time.perf_counter()
        done = 0
        before: dict[str, float] = {}
        # The first and the last two thousand are honest, so that each side is measured on warm workers.
        for part, hostile in ((2000, 0), (num - 4000, hostile_every), (2000, 0)):
            for _, verdict in pool.run(mixed(part, hostile)):
                reasons[verdict.reason] += 1
                done += 1
                if done % 5000 == 0:
                    print(f"{done} checks, {time.perf_counter() - began:.0f} s: {dict(reasons)}", flush=True)
            before = before or held()
        after = held()
        print(f"{done} checks in {time.perf_counter() - began:.0f} s, a hostile one every {hostile_every}")
        for what, value in after.items():
            print(f"{what}: {before[what]:.1f} -> {value:.1f} ({100 * (value / before[what] - 1):+.1f}%)")
    print(f"after closing: {len(psutil.Process().children(recursive=True))} processes below this one")


def mixed(num: int, hostile_every: int) -> Iterator[CheckTask]:
    """Three math answers to two programs, and now and then what must be killed."""
    math, code, hostile = math_tasks(), code_tasks(), cycle(HOSTILE)
    for i in range(num):
        if hostile_every and i % hostile_every == hostile_every - 1:
            yield next(hostile)
        else:
            yield next(math if i % 5 < 3 else code)[0]


def held() -> dict[str, float]:
    """Processes, descriptors and memory (unique set size) of this process and all below it, while none is at work."""
    here = psutil.Process()
    workers = here.children(recursive=True)
    return {
        "processes": 1 + len(workers),
        "descriptors of the pool": here.num_fds(),
        "descriptors of the workers": sum(w.num_fds() for w in workers),
        "memory of the pool, MiB": here.memory_full_info().uss / 2**20,
        "memory of the workers, MiB": sum(w.memory_full_info().uss for w in workers) / 2**20,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checks", type=int, default=0, help="so many checks of a mix instead of the two timings")
    parser.add_argument("--hostile-every", type=int, default=2000)
    parser.add_argument("--num", type=int, default=4000, help="checks a timing")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    if args.checks:
        endure(args.checks, args.workers, args.hostile_every)
    else:
        timed("math", math_tasks(), args.num, args.workers)
        timed("code", code_tasks(), args.num, args.workers)
