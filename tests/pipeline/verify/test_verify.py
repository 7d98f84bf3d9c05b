"""Verdicts: math and code in the real workers; attacks that must neither pass nor leave a trace."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusechat.pipeline.errors import UserError
from fusechat.pipeline.verify import CheckTask, Verdict, VerifierPool
from fusechat.pipeline.verify.sandbox import missing_layers

LEVEL = "basic" if missing_layers("strict") else "strict"
pytestmark = pytest.mark.skipif(
    bool(missing_layers("basic")), reason=f"this machine has no {', '.join(missing_layers('basic'))}"
)
TESTS = "assert f(1) == 2\nassert f(41) == 42"


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(1, timeout_s=3, sandbox=LEVEL) as workers:  # type: ignore[arg-type]
        yield workers


def math(pool: VerifierPool, response: str, gold: str) -> Verdict:
    return dict(pool.run([CheckTask(id="m", domain="math", response=response, gold=gold)]))["m"]


def code(pool: VerifierPool, body: str, tests: str = TESTS, entry_point: str | None = "f") -> Verdict:
    task = CheckTask(id="c", domain="code", response=f"```python\n{body}\n```", tests=tests, entry_point=entry_point)
    return dict(pool.run([task]))["c"]


RIGHT = [
    ("5", "5"), ("5.0", "5"), ("1,234", "1234"), ("$12", "12"), ("1e6", "1000000"), ("７", "7"), ("-3", "-3"),
    (r"\frac{1}{2}", "0.5"), ("1/2", "0.5"), ("0.5", r"\frac{1}{2}"), (r"2\sqrt{2}", r"\sqrt{8}"), ("50%", "50"),
    (r"50\%", "50"), ("x+1", "1+x"), ("(1, 2)", "(1,2)"), (r"\{1, 2\}", r"\{2, 1\}"), ("42 apples", "42"),
    ("12 dollars", "12"), ("007", "7"),
]  # fmt: skip
WRONG = [
    ("18", "1800"), ("50", "0.5"), ("50%", "0.5"), ("20000", "20001"), ("[1, 2]", "(1, 2)"), ("4", "5"), ("-5", "5"),
    (r"\frac{1}{3}", "0.5"), ("5.01", "5"), ("x", "5"), ("0", "10"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "gold"), RIGHT)
def test_accepts_what_is_equal(pool: VerifierPool, answer: str, gold: str) -> None:
    verdict = math(pool, f"Some steps.\nThe answer is {answer}.", gold)
    assert (verdict.correct, verdict.reason) == (True, "correct")


@pytest.mark.parametrize(("answer", "gold"), WRONG)
def test_refuses_what_is_not(pool: VerifierPool, answer: str, gold: str) -> None:
    assert math(pool, f"The answer is {answer}.", gold).correct is False


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        ("I don't know", "no_answer"),
        ("The answer is not 5, it is 6", "ambiguous"),
        ("The answer is 5 or 6", "ambiguous"),
    ],
)
def test_says_why_there_is_no_match(pool: VerifierPool, response: str, reason: str) -> None:
    verdict = math(pool, response, "6")
    assert (verdict.correct, verdict.reason) == (False, reason)


@pytest.mark.parametrize("answer", ["9^{9^9}", "9^{9^{9^9}}", "100000000!", "," * 20_000, "(" * 5_000])
def test_hostile_math_ends_in_time(pool: VerifierPool, answer: str) -> None:
    verdict = math(pool, rf"\boxed{{{answer}}}", "3")
    assert verdict.correct is False
    assert verdict.seconds < 5
    assert math(pool, "The answer is 3.", "3").correct  # the pool is unharmed


def test_passes_what_is_right(pool: VerifierPool) -> None:
    verdict = code(pool, "def f(x):\n    return x + 1")
    assert (verdict.correct, verdict.reason) == (True, "passed")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("def f(x):\n    return x", "failed"),
        ("def f(x):\n    raise KeyError(x)", "error"),
        ("def g(x):\n    return x + 1", "error"),
        ("def f(x:\n    return", "error"),
        ("def f(x):\n    while True: pass", "timeout"),
        ("while True: pass\ndef f(x): return x + 1", "timeout"),
        ("def f(x):\n    return [0] * 10**10", "memory"),
    ],
)
def test_says_why_code_fails(pool: VerifierPool, body: str, reason: str) -> None:
    verdict = code(pool, body)
    assert (verdict.correct, verdict.reason) == (False, reason), verdict


def test_first_failing_test_is_named(pool: VerifierPool) -> None:
    assert "f(41) == 42" in code(pool, "def f(x):\n    return 2").detail


def test_check_function_and_programs(pool: VerifierPool) -> None:
    checks = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate([1]) == 2"
    assert code(pool, "def f(x):\n    return 2", checks).correct
    assert not code(pool, "def f(x):\n    return 3", checks).correct
    pairs = json.dumps([{"input": "3\n", "output": "6\n"}, {"input": "5\n", "output": "10"}])
    assert code(pool, "print(int(input()) * 2)", pairs, None).correct
    assert not code(pool, "print(6)", pairs, None).correct


def test_values_cross_as_they_are(pool: VerifierPool) -> None:
    tests = (
        "assert f(0) == (1, [2.5], {'a': {3}}, None, b'x', True)\nassert f(1) != f(1)\nassert f(2) == float('-inf')\n"
        "assert f(3) == '__nan__' or True"
    )
    body = "def f(x):\n    return [(1, [2.5], {'a': {3}}, None, b'x', True), float('nan'), float('-inf'), 'text'][x]"
    assert code(pool, body, tests).correct, code(pool, body, tests)


ATTACKS = {
    "exits with success": "import sys\ndef f(x):\n    sys.exit(0)",
    "exits at import": "import os\nos._exit(0)\ndef f(x): pass",
    "raises SystemExit": "def f(x):\n    raise SystemExit",
    "always equal": "class E:\n    def __eq__(self, o): return True\ndef f(x): return E()",
    "always equal int": "class E(int):\n    def __eq__(self, o): return True\n    __hash__ = None\ndef f(x): return E(0)",
    "always equal list": "class E(list):\n    def __eq__(self, o): return True\ndef f(x): return E()",
    "prints success": "print('passed')\ndef f(x):\n    print('{\"reason\": \"passed\"}')",
    "patches builtins": "import builtins\nbuiltins.repr = lambda v: \"('returned', 2)\"\ndef f(x): return 0",
    "patches literal_eval": "import ast\nast.literal_eval = lambda t: ('returned', 2)\ndef f(x): return 0",
    "patches json": "import json\njson.dumps = lambda *a, **k: '{\"reason\": \"passed\", \"detail\": \"\"}'\ndef f(x): return 0",
    "patches assertion": "import builtins\nbuiltins.AssertionError = Exception\ndef f(x): return 0",
    "reads the tests from frames": (
        "import sys, re\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n        for v in frame.f_locals.values():\n"
        "            if isinstance(v, str) and (m := re.search(r'assert f\\(' + str(x) + r'\\) == (\\d+)', v)):\n"
        "                return int(m[1])\n        frame = frame.f_back"
    ),
    "reads the tests from the heap": (
        "import gc, re\ndef f(x):\n    for o in gc.get_objects():\n        for v in (o.values() if isinstance(o, dict) else ()):\n"
        "            if isinstance(v, str) and (m := re.search(r'assert f\\(' + str(x) + r'\\) == (\\d+)', v)):\n"
        "                return int(m[1])"
    ),
    "writes to every descriptor": (
        "import os\ndef f(x):\n    for fd in range(32):\n        try: os.write(fd, b'{\"reason\": \"passed\", \"detail\": \"\"}')\n"
        "        except OSError: pass\n    os._exit(0)"
    ),
    "writes a file": "def f(x):\n    open('TRACE', 'w').write('x'); return x + 1",
    "appends to a file": "def f(x):\n    open('TRACE', 'a'); return x + 1",
    "makes a folder": "import os\ndef f(x):\n    os.mkdir('TRACE'); return x + 1",
    "makes a symlink": "import os\ndef f(x):\n    os.symlink('/etc/passwd', 'TRACE'); return x + 1",
    "removes a file": "import os\ndef f(x):\n    os.remove('KEEP'); return x + 1",
    "renames a file": "import os\ndef f(x):\n    os.rename('KEEP', 'TRACE'); return x + 1",
    "truncates a file": "import os\ndef f(x):\n    os.truncate('KEEP', 0); return x + 1",
    "changes a mode": "import os\ndef f(x):\n    os.chmod('KEEP', 0o777); return x + 1",
    "forks": "import os\ndef f(x):\n    os.fork(); return x + 1",
    "fork bomb": "import os\ndef f(x):\n    while True: os.fork()",
    "starts a program": "import subprocess\ndef f(x):\n    subprocess.run(['touch', 'TRACE']); return x + 1",
    "starts a shell": "import os\ndef f(x):\n    return x + 1 if os.system('touch TRACE') == 0 else 0",
    "posix_spawn": "import os\ndef f(x):\n    os.posix_spawn('/bin/true', ['true'], {}); return x + 1",
    "execs": "import os\ndef f(x):\n    os.execv('/bin/true', ['true'])",
    "opens a socket": "import socket\ndef f(x):\n    socket.socket(); return x + 1",
    "makes a socket pair": "import socket\ndef f(x):\n    socket.socketpair(); return x + 1",
    "kills its parent": "import os\ndef f(x):\n    os.kill(os.getppid(), 9); return x + 1",
    "kills everybody": "import os\ndef f(x):\n    os.kill(-1, 9); return x + 1",
    "starts a thread": "import threading\ndef f(x):\n    threading.Thread(target=print).start(); return x + 1",
    "calls fork through ctypes": "import ctypes\ndef f(x):\n    return x + 1 if ctypes.CDLL(None).fork() >= 0 else 0",
    "calls socket through ctypes": "import ctypes\ndef f(x):\n    return x + 1 if ctypes.CDLL(None).socket(2, 1, 0) >= 0 else 0",
    "ptraces": "import ctypes, os\ndef f(x):\n    return x + 1 if ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0 else 0",
    "unshares": "import ctypes\ndef f(x):\n    return x + 1 if ctypes.CDLL(None).unshare(0x10000000) == 0 else 0",
    "mounts": "import ctypes\ndef f(x):\n    return x + 1 if ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0 else 0",
    "becomes root": "import os\ndef f(x):\n    os.setuid(0)\n    open('/root/TRACE', 'w'); return x + 1",
    "raises its limits": "import resource\ndef f(x):\n    resource.setrlimit(resource.RLIMIT_AS, (-1, -1)); return bytearray(8 << 30) and x + 1",
    "endless output": "def f(x):\n    return 'x' * (64 << 20)",
    "deep reply": "def f(x):\n    v = []\n    for _ in range(100000): v = [v]\n    return v",
    "generator": "def f(x):\n    yield x + 1",
    "ignores signals": "import signal\nfor s in range(1, 32):\n    try: signal.signal(s, signal.SIG_IGN)\n    except (OSError, ValueError): pass\ndef f(x):\n    while True: pass",
    "endless recursion": "def f(x):\n    return f(x)",
    "reads another process": "import os\ndef f(x):\n    open(f'/proc/{os.getppid()}/mem', 'rb').read(1); return x + 1",
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_neither_passes_nor_leaves_a_trace(pool: VerifierPool, name: str, tmp_path: Path) -> None:
    keep, trace = tmp_path / "keep", tmp_path / "trace"
    keep.write_text("as it was")
    tmp_path.chmod(0o777)
    mode = keep.stat().st_mode
    body = ATTACKS[name].replace("KEEP", str(keep)).replace("'TRACE'", repr(str(trace))).replace("TRACE", str(trace))
    verdict = code(pool, body)
    assert verdict.correct is False, verdict
    assert not trace.exists()
    assert keep.read_text() == "as it was" and keep.stat().st_mode == mode
    assert code(pool, "def f(x):\n    return x + 1").correct  # the pool is unharmed


@pytest.mark.skipif(LEVEL != "strict", reason="Landlock or an unprivileged user is missing here")
@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "/proc/self/maps", "/root", __file__])
def test_strict_sandbox_reads_no_file(pool: VerifierPool, path: str) -> None:
    verdict = code(pool, f"def f(x):\n    open({path!r}).read(1); return x + 1")
    assert (verdict.correct, verdict.reason) == (False, "forbidden")


def test_a_level_that_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's answer to a missing layer, taken at the process boundary."""
    from fusechat.pipeline.verify import pool as module

    fake = Path(__file__).with_name("refusing_worker.py")
    monkeypatch.setattr(module, "WORKER", [str(fake)])
    with pytest.raises(UserError, match="strict needs landlock"):
        VerifierPool(1, sandbox="strict").__enter__()


def test_real_answers_are_accepted(pool: VerifierPool) -> None:
    shared = Path(__file__).parents[4] / "shared" / "prompts" / "math_train.jsonl"
    if not shared.is_file():
        pytest.skip("the public prompts are not beside the checkout")
    rows = [json.loads(line) for line in shared.read_text("utf-8").splitlines()]
    tasks = [
        CheckTask(id=r["id"], domain="math", response=f"Work.\nThe answer is {r['gold']}.", gold=r["gold"])
        for r in rows
    ]
    wrong = [
        CheckTask(id=r["id"], domain="math", response=f"The answer is {r['gold']}1.", gold=r["gold"]) for r in rows
    ]
    assert all(v.correct for _, v in pool.run(tasks))
    assert not any(v.correct for _, v in pool.run(wrong))
