"""The sandbox: attacks that must neither pass nor leave a trace, and layers that are lost."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
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
    with VerifierPool(1, timeout_s=1, sandbox=LEVEL) as workers:  # type: ignore[arg-type]
        yield workers


def code(pool: VerifierPool, body: str) -> Verdict:
    task = CheckTask(id="c", domain="code", response=f"```python\n{body}\n```", tests=TESTS, entry_point="f")
    return dict(pool.run([task]))["c"]


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
    "patches int": "import builtins\nbuiltins.int = lambda *a: 2\ndef f(x): return int(x)",
    "patches isinstance": "import builtins\nbuiltins.isinstance = lambda *a: True\ndef f(x): return 0",
    "patches exec": "import builtins\nbuiltins.exec = builtins.compile = lambda *a, **k: None\ndef f(x): return 0",
    "patches the pipe": "import os\nos.write = lambda fd, data: len(data)\nos.read = lambda fd, n: b'\\0' * n\ndef f(x): return 0",
    "patches the values": "import sys\nm = sys.modules['fusechat.pipeline.verify.values']\nm.encode = lambda v: '2'\nm.decode = lambda v: ((1,), {})\ndef f(x): return 0",
    "patches the candidate": "import sys\nm = sys.modules['fusechat.pipeline.verify.candidate']\nm._call = lambda *a: ('passed', 'passed')\ndef f(x): return 0",
    "forges a verdict": "import os, json\nfor fd in range(3, 32):\n    try: os.write(fd, b'\\0\\0\\0\\x02=2')\n    except OSError: pass\ndef f(x): return 0",
    "answers before it is asked": "import os\nfor fd in range(3, 32):\n    try: os.write(fd, b'\\0\\0\\0\\x03=42' * 50)\n    except OSError: pass\ndef f(x): return 0",
    "forges a tagged value": "def f(x): return {'\\0value': ('iterator', [2])}",
    "forges a builder": "def f(x): return {'\\0value': ('__import__', 'os')}",
    "always equal dict": "class E(dict):\n    def __eq__(self, o): return True\n    __hash__ = None\ndef f(x): return E()",
    "always equal float": "class E(float):\n    def __eq__(self, o): return True\n    __hash__ = None\ndef f(x): return E(0)",
    "always equal str": "class E(str):\n    def __eq__(self, o): return True\n    __hash__ = None\n    def __repr__(self): return '2'\ndef f(x): return E('2')",
    "reprs as code": "class E(int):\n    def __repr__(self): return '__import__(\"os\").system(\"touch TRACE\")'\ndef f(x): return E(0)",
    "metaclass equality": "class M(type):\n    def __eq__(c, o): return True\n    __hash__ = None\n    def __instancecheck__(c, o): return True\nclass E(metaclass=M): pass\ndef f(x): return E",
    "an exception's text": "class E(Exception):\n    def __str__(self): raise SystemExit(0)\ndef f(x): raise E",
    "an exception that forges": "def f(x): raise Exception(\"', ''), ('returned', '2\")",
    "raises what the tests raise": "def f(x): raise AssertionError('passed')",
    "raises KeyboardInterrupt": "def f(x): raise KeyboardInterrupt",
    "raises GeneratorExit": "def f(x): raise GeneratorExit",
    "quits by quit": "def f(x): quit()",
    "aborts": "import os\ndef f(x): os.abort()",
    "crashes by ctypes": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "writes native code": "import ctypes, mmap\ndef f(x):\n    m = mmap.mmap(-1, 4096, prot=7)\n    m.write(b'\\xb8\\x39\\0\\0\\0\\x0f\\x05\\xc3')  # fork\n    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\n    return x + 1 if call() >= 0 else 0",
    "calls 32 bit": "import ctypes, mmap\ndef f(x):\n    m = mmap.mmap(-1, 4096, prot=7)\n    m.write(b'\\xb8\\x02\\0\\0\\0\\xcd\\x80\\xc3')  # int 0x80: fork\n    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\n    return x + 1 if call() >= 0 else 0",
    "calls x32": "import ctypes\ndef f(x):\n    return x + 1 if ctypes.CDLL(None).syscall(0x40000000 + 57) >= 0 else 0",
    "clones through ctypes": "import ctypes\ndef f(x):\n    return x + 1 if ctypes.CDLL(None).syscall(435, 0, 0) >= 0 else 0",
    "uses io_uring": "import ctypes\ndef f(x):\n    b = ctypes.create_string_buffer(256)\n    return x + 1 if ctypes.CDLL(None).syscall(425, 8, b) >= 0 else 0",
    "makes memory files": "import os\ndef f(x):\n    os.memfd_create('m'); return x + 1",
    "connects to a socket file": "import socket\ndef f(x):\n    socket.socket(socket.AF_UNIX).connect('/run/TRACE'); return x + 1",
    "asks for an address": "import socket\ndef f(x):\n    socket.getaddrinfo('localhost', 80); return x + 1",
    "kills its group": "import os, signal\ndef f(x):\n    os.killpg(0, signal.SIGKILL); return x + 1",
    "kills by pidfd": "import os, signal\ndef f(x):\n    signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9); return x + 1",
    "leaves a process behind": "import os\ndef f(x):\n    if os.fork() == 0:\n        os.setsid()\n        while True: pass\n    return x + 1",
    "multiprocessing": "import multiprocessing\ndef f(x):\n    multiprocessing.Process(target=print).start(); return x + 1",
    "a pool of threads": "from concurrent.futures import ThreadPoolExecutor\ndef f(x):\n    return ThreadPoolExecutor().submit(lambda: x + 1).result()",
    "an alarm": "import signal\nsignal.signal(signal.SIGALRM, lambda *a: None)\nsignal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)\ndef f(x):\n    while True: pass",
    "reads the parent's environment": "import os\ndef f(x):\n    open(f'/proc/{os.getppid()}/environ').read(); return x + 1",
    "lists processes": "import os\ndef f(x):\n    return x + 1 if os.listdir('/proc') else 0",
    "reads its own memory": "def f(x):\n    open('/proc/self/mem', 'rb').read(1); return x + 1",
    "reads another's memory by call": "import ctypes, os\ndef f(x):\n    return x + 1 if ctypes.CDLL(None).process_vm_readv(os.getppid(), 0, 0, 0, 0, 0) >= 0 else 0",
    "reads through a symlink": "import os\ndef f(x):\n    os.symlink('/etc/shadow', 'TRACE'); return x + 1 if open('TRACE').read() else 0",
    "makes a hard link": "import os\ndef f(x):\n    os.link('KEEP', 'TRACE'); return x + 1",
    "makes a fifo": "import os\ndef f(x):\n    os.mkfifo('TRACE'); return x + 1",
    "writes beside the library": "import os\ndef f(x):\n    open(os.path.dirname(os.__file__) + '/trace_of_an_attack.py', 'w'); return x + 1",
    "temporary file": "import tempfile\ndef f(x):\n    tempfile.NamedTemporaryFile(); return x + 1",
    "writes extended attributes": "import os\ndef f(x):\n    os.setxattr('KEEP', b'user.trace', b'1'); return x + 1",
    "changes times": "import os\ndef f(x):\n    os.utime('KEEP', (0, 0)); return x + 1",
    "changes folder and root": "import os\ndef f(x):\n    os.chroot('/'); return x + 1",
    "maps memory without end": "import mmap\nkept = []\ndef f(x):\n    while True: kept.append(mmap.mmap(-1, 1 << 28))",
    "doubles a list": "def f(x):\n    v = [0]\n    while True: v += v",
    "doubles a text": "def f(x):\n    v = 'x'\n    while True: v += v",
    "a huge power": "def f(x):\n    return len(str(9 ** 9 ** 9))",
    "an endless iterator": "import itertools\ndef f(x):\n    return itertools.repeat('x' * 10**6)",
    "an iterator that hangs": "def f(x):\n    while True: pass\n    yield 2",
    "catastrophic expression": "import re\ndef f(x):\n    return re.match('(a+)+$', 'a' * 64 + 'b')",
    "opens without end": "import os\ndef f(x):\n    return [os.pipe() for _ in range(10**6)] and x + 1",
    "looks for the judge in modules": "import sys\ndef f(x):\n    for m in list(sys.modules.values()):\n        for v in vars(m).values():\n            if isinstance(v, str) and 'assert f(' in v: return int(v.split('==')[1].split()[0])",
    "reads the tests from descriptors": "import os\ndef f(x):\n    for fd in range(3, 32):\n        try: data = os.read(fd, 1 << 16)\n        except OSError: continue\n        if b'assert' in data: return x + 1",
    "reads the tests from raw memory": "import ctypes, re\ndef f(x):\n    for o in range(id('a') - (1 << 16), id('a') + (1 << 16), 1 << 12):\n        if b'assert f(' in ctypes.string_at(o, 1 << 12): return x + 1",
    "sets a trace in other frames": "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame.f_back: frame = frame.f_back\n    return 2 if 'tests' in frame.f_locals and isinstance(frame.f_locals['tests'], str) else 0",
    "signals by a pipe's owner": "import ctypes, os\ndef f(x):\n    r, w = os.pipe()\n    call = ctypes.CDLL(None).fcntl\n    return x + 1 if call(r, 8, os.getppid()) == 0 or call(r, 10, 9) == 0 else 0",
    "slows its parent": "import ctypes, os\ndef f(x):\n    return x + 1 if ctypes.CDLL(None).setpriority(0, os.getppid(), 19) == 0 else 0",
    "takes the worker's descriptors": "import os\ndef f(x):\n    for fd in range(3, 1024):\n        try: os.pread(fd, 64, 0)\n        except OSError: continue\n        return x + 1",
    "becomes root again": "import ctypes\ndef f(x):\n    return x + 1 if ctypes.CDLL(None).setuid(0) == 0 else 0",
    "reads another process": "import os\ndef f(x):\n    open(f'/proc/{os.getppid()}/mem', 'rb').read(1); return x + 1",
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_neither_passes_nor_leaves_a_trace(pool: VerifierPool, name: str, tmp_path: Path) -> None:
    keep, trace = tmp_path / "keep", tmp_path / "trace"
    keep.write_text("as it was")
    tmp_path.chmod(0o777)
    before = keep.stat()
    body = ATTACKS[name].replace("KEEP", str(keep)).replace("'TRACE'", repr(str(trace))).replace("TRACE", str(trace))
    verdict = code(pool, body)
    assert verdict.correct is False, verdict
    assert verdict.reason in ("failed", "error", "timeout", "memory", "forbidden"), verdict
    assert verdict.seconds < 60  # the deadline was kept, on a busy machine too
    assert not trace.exists() and not Path(os.__file__).with_name("trace_of_an_attack.py").exists()
    assert keep.read_text() == "as it was"
    after = keep.stat()
    assert (after.st_mode, after.st_mtime, after.st_nlink) == (before.st_mode, before.st_mtime, 1)
    workers = psutil.Process().children()
    assert not [child for worker in workers for child in worker.children(recursive=True)]  # nobody stayed behind
    assert code(pool, "def f(x):\n    return x + 1").correct  # the pool is unharmed


def test_there_are_attacks_enough() -> None:
    assert len(ATTACKS) >= 60


@pytest.mark.skipif(LEVEL != "strict", reason="Landlock or an unprivileged user is missing here")
@pytest.mark.parametrize("path", ["/etc/passwd", "/proc/self/environ", "/proc/self/maps", "/root", __file__])
def test_strict_sandbox_reads_no_file(pool: VerifierPool, path: str) -> None:
    verdict = code(pool, f"def f(x):\n    open({path!r}).read(1); return x + 1")
    assert (verdict.correct, verdict.reason) == (False, "forbidden")


def test_the_worker_itself_is_behind_the_walls_that_checks_share(pool: VerifierPool) -> None:
    assert code(pool, "def f(x):\n    return x + 1").correct
    (worker,) = [p for p in psutil.Process().children() if p.cmdline()[-1] == "code"]
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{worker.pid}/status").read_text().splitlines())
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    limits = Path(f"/proc/{worker.pid}/limits").read_text().splitlines()
    assert next(line for line in limits if line.startswith("Max file size")).split()[3:5] == ["0", "0"]


def test_what_checks_code_imports_little_since_each_fork_costs_what_it_holds() -> None:
    heavy = "{'multiprocessing', 'asyncio', 'sympy', 'pydantic', 'pyarrow', 'torch'}"
    lines = (
        "import sys, fusechat.pipeline.verify.worker",
        "from fusechat.pipeline.verify import code, sandbox",
        f"code.preload(); print(*{heavy} & sys.modules.keys())",
    )
    done = subprocess.run([sys.executable, "-I", "-c", "\n".join(lines)], capture_output=True, text=True, timeout=600)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_a_level_that_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's answer to a missing layer, taken at the process boundary."""
    from fusechat.pipeline.verify import pool as module

    fake = Path(__file__).with_name("refusing_worker.py")
    monkeypatch.setattr(module, "WORKER", [str(fake)])
    with pytest.raises(UserError, match="strict needs landlock"):
        VerifierPool(1, sandbox="strict").__enter__()


LOSE = """
import os, sys
from fusechat.pipeline.verify import sandbox, syscalls
sandbox.no_new_privileges()
sandbox.install_filter(syscalls.program(syscalls.ARCH_X86_64, (int(sys.argv[1]),), [], x32=False))
os.execv(sys.executable, [sys.executable, "-I", "-m", "fusechat.pipeline.verify.worker", "2", "512", "strict", "code"])
"""
"""A kernel that refuses one system call, and the worker on it."""


@pytest.mark.skipif(
    LEVEL != "strict" or platform.machine() != "x86_64", reason="needs all layers, and x86_64's numbers"
)
@pytest.mark.parametrize(
    ("call", "missing"), [(444, ["landlock"]), (446, ["landlock"]), (157, ["no_new_privs", "landlock", "seccomp"])]
)
def test_a_lost_layer_is_refused_by_name(call: int, missing: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOSE, str(call)], capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL
    )
    assert json.loads(done.stdout)["missing"] == missing, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has privileges to drop")
def test_root_that_stays_root_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOSE, "117"], capture_output=True, text=True, timeout=600, stdin=subprocess.DEVNULL
    )
    assert json.loads(done.stdout)["missing"] == ["unprivileged"], done.stderr
