"""Attacks on the handles: objects that lie, messages that are forged, callbacks that never return."""

from __future__ import annotations

import os
from collections.abc import Iterator

import psutil
import pytest

from fusechat.pipeline.verify import CheckTask, Verdict, VerifierPool
from fusechat.pipeline.verify.sandbox import missing_layers

LEVEL = "basic" if missing_layers("strict") else "strict"
pytestmark = pytest.mark.skipif(
    bool(missing_layers("basic")), reason=f"this machine has no {', '.join(missing_layers('basic'))}"
)
TESTS = "assert f(1) == 2\nassert f(41) == 42"
LIAR = """
class L:
    def __eq__(self, o): return True
    def __ne__(self, o): return False
    def __lt__(self, o): return True
    __le__ = __gt__ = __ge__ = __contains__ = __lt__
    def __bool__(self): return True
    def __sub__(self, o): return L()
    __rsub__ = __add__ = __radd__ = __mul__ = __mod__ = __pow__ = __and__ = __truediv__ = __sub__
    def __abs__(self): return 0
    def __hash__(self): return 2
    def __iter__(self): return iter(())
    def __exit__(self, *a): return True
    def __enter__(self): return self
    def __array_function__(self, *a): return True
    def __array_ufunc__(self, *a, **k): return True
    def __getattr__(self, name): return self
    def __call__(self, *a, **k): return self
    def __instancecheck__(self, o): return True
    def __format__(self, s): return '2'
    def __reduce__(self): return (int, (2,))
    def __del__(self): raise SystemExit(0)
    def __length_hint__(self): return 10 ** 9
def f(x): return L()
"""
FORGE = """
import os, json
def reply(body, changes=(), gone=(), kind='='):
    data = json.dumps([kind, 'input' if kind == '?' else '', body, list(changes), list(gone), []]).encode()
    for fd in range(3, 1024):
        try:
            os.write(fd, len(data).to_bytes(4, 'big') + data)
        except OSError:
            pass
"""
SECRET = "SECRET = 42\n"
ATTACKS: dict[str, tuple[str, str]] = {
    # Objects that lie
    "equal to everything": (LIAR, TESTS),
    "equal on the right side": (LIAR, "assert 2 == f(1)"),
    "never unequal": (LIAR, "assert not f(1) != 2"),
    "equal inside a list": (LIAR.replace("return L()\n", "return [L()]\n", 1), "assert f(1) == [2]"),
    "equal inside a dict": (LIAR + "def f(x): return {'a': L()}", "assert f(1) == {'a': 2}"),
    "a member of a set": (LIAR, "assert f(1) in {2}"),
    "a key of a dict": (LIAR, "assert {2: 'x'}[f(1)] == 'x'"),
    "close to everything": (LIAR, "assert abs(f(1) - 2) < 1e-6"),
    "close from the left": (LIAR, "assert abs(2 - f(1)) < 1e-6"),
    "smaller than everything": (LIAR, "assert f(1) < 5"),
    "between everything": (LIAR, "assert 1 < f(1) < 3"),
    "holds everything": (LIAR.replace("    def __iter__(self): return iter(())\n", ""), "assert 2 in f(1)"),
    "holds everything, and iterates": (LIAR, "assert 2 in f(1)"),
    "isclose": (LIAR, "import math\nassert math.isclose(f(1), 2)"),
    "numpy's allclose": (LIAR, "import numpy as np\nassert np.allclose(f(1), 2)"),
    "numpy's array_equal": (LIAR, "import numpy as np\nassert np.array_equal(f(1), [2])"),
    "numpy's comparison": (LIAR, "import numpy as np\nassert (np.array([2]) == f(1)).all()"),
    "numpy's assertion": (LIAR, "import numpy as np\nnp.testing.assert_allclose(f(1), 2)"),
    "approx": (LIAR, "import pytest\nassert f(1) == pytest.approx(2)"),
    "approx on the left": (LIAR, "import pytest\nassert pytest.approx(2) == f(1)"),
    "assertEqual": (LIAR, "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(f(1), 2)"),
    "assertAlmostEqual": (
        LIAR, "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertAlmostEqual(f(1), 2)",
    ),
    "assertIn": (LIAR, "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertIn(2, f(1))"),
    "an instance of everything": (LIAR, "assert isinstance(f(1), int)"),
    "its class lies": ("class L:\n    __class__ = int\n    def __eq__(s, o): return True\ndef f(x): return L()", TESTS),
    "its metaclass lies": (
        "class M(type):\n    def __eq__(c, o): return True\n    __hash__ = type.__hash__\n    def __call__(c, *a): return c\n"
        "class f(metaclass=M): pass", TESTS,
    ),
    "a class in place of the function": (LIAR.replace("class L", "class f").replace("def f(x): return L()", ""), TESTS),
    "a class in place of the function, close": (
        LIAR.replace("class L", "class f").replace("L()", "self").replace("def f(x): return self", "")
        .replace("def __eq__", "def __init__(self, x): pass\n    def __eq__"), "assert abs(f(1) - 2) < 1e-6",
    ),
    "a subclass of int": ("class I(int):\n    def __eq__(s, o): return True\n    __hash__ = int.__hash__\ndef f(x): return I(0)", TESTS),
    "a named subclass of int": (
        "class I(int):\n    def __eq__(s, o): return True\n    __hash__ = int.__hash__\ndef f(x): return I(0)",
        "assert isinstance(f(1), I) and f(1) == 2",
    ),
    "a subclass of str": ("class S(str):\n    def __eq__(s, o): return True\n    __hash__ = str.__hash__\ndef f(x): return S('1')", "assert f(1) == '2'"),
    "a mapping": ("import collections.abc as c\nclass D(dict):\n    def __getitem__(s, k): return 2\n    def __eq__(s, o): return True\ndef f(x): return D(a=1)", "assert f(1) == {'a': 2}"),
    "an object around an object": ("class W:\n    def __init__(s, v): s.v = v\n    def __eq__(s, o): return s.v == o\n" + LIAR + "def f(x): return W(W(L()))", TESTS),
    "a function in place of a value": ("def f(x):\n    return lambda *a: True", TESTS),
    "suppresses a failed assertion": (LIAR, "assert f is not None\nf(2)\nwith f(1) as r:\n    assert r == 2"),
    "catches a failed assertion": (
        "def f(g):\n    try:\n        g(1)\n    except BaseException:\n        pass\n    return 2",
        "def g(x):\n    assert x == 2\nassert f(g) == 2",
    ),
    "skips the test": ("class SkipTest(Exception): pass\ndef f(x):\n    raise SkipTest", "assert f\ndef test_a():\n    assert f(1) == 2\ndef test_b():\n    assert callable(f)"),
    "pretends that all is done": ("def f(x):\n    raise StopIteration", "assert all(map(lambda x: f(x) == x + 1, [1, 41]))"),
    # Names
    "its own len": ("len = sorted = all = any = abs = lambda *a, **k: 2\ndef f(x): return 'ab'", "assert len(f(1)) == 1"),
    "its own math": ("class math:\n    isclose = staticmethod(lambda *a, **k: True)\ndef f(x): return 0", "assert math.isclose(f(1), 2)"),
    "its own numpy": ("class np:\n    allclose = staticmethod(lambda *a, **k: True)\ndef f(x): return 0", "assert np.allclose(f(1), 2)"),
    "its own Counter": ("class Counter:\n    def __init__(s, *a): s.x = 0\n    def __eq__(s, o): return True\ndef f(x): return 0", "assert Counter([f(1)]) == Counter([2])"),
    "its own assertion counter": ("_fusechat_held = lambda: None\ndef f(x): return 0", TESTS),
    "its own check": ("def check(c): pass\ndef f(x): return 0", "def check(candidate):\n    assert candidate(1) == 2"),
    # What the tests pass
    "the globals of a callback": ("def f(g):\n    return g.__globals__['SECRET']", SECRET + "assert f(lambda: 0) == SECRET"),
    "the code of a callback": ("def f(g):\n    return g.__code__.co_consts[-1]", "def g():\n    return 42\nassert f(g) == 42 and False or f(g) == 43"),
    "the frame of a generator": ("def f(g):\n    return g.gi_frame.f_globals['SECRET']", SECRET + "assert f(x for x in [1]) == SECRET"),
    "the frame of an exception": (
        "def f(g):\n    try:\n        g()\n    except ValueError as e:\n        return e.__traceback__.tb_frame.f_globals['SECRET']",
        SECRET + "def g():\n    raise ValueError\nassert f(g) == SECRET",
    ),
    "the class of an object": ("def f(o):\n    return o.__class__.__init__.__globals__['SECRET']", SECRET + "class A:\n    def __init__(self):\n        self.x = 1\nassert f(A()) == SECRET"),
    "a private attribute": ("def f(o):\n    return o._secret", "class A:\n    def __init__(self):\n        self._secret = 42\nassert f(A()) == 42"),
    "replaces a method": (
        "def f(o):\n    o.same = lambda *a: True\n    return 0",
        "class A:\n    def same(self, x, y):\n        return x == y\na = A()\nassert a.same(f(a), 2)",
    ),
    "replaces a comparison": (
        "def f(o):\n    type(o).__eq__ = lambda *a: True\n    return o",
        "class A:\n    def __init__(self, n):\n        self.n = n\n    def __eq__(self, o):\n        return self.n == o.n\nassert f(A(1)) == A(2)",
    ),
    "the module of a stream": ("def f(s):\n    return s.__class__.__init__.__self__", "import io\nassert f(io.StringIO('a')) == 2"),
    # Messages
    "forged values before they are asked for": (FORGE + "for _ in range(9): reply(['list', 2])\ndef f(x): return 0", TESTS),
    "a reference to nothing": (FORGE + "def f(x):\n    reply(['list', ['yours', 99999]]); return 2", TESTS),
    "an import": (FORGE + "def f(x):\n    reply(['list', ['import', 'os', 'system']]); return 2", TESTS),
    "an unknown tag": (FORGE + "def f(x):\n    reply(['list', ['eval', '2']]); return 2", TESTS),
    "an unknown type": (FORGE + "def f(x):\n    reply(['list', ['type', 'os.system']]); return 2", TESTS),
    "a change of what is not shared": (FORGE + "def f(x):\n    reply(['list', 2], [77, ['list', 1]]); return 2", TESTS),
    "a change of type": (FORGE + "def f(x):\n    reply(['list', 2], [0, ['dict', 1, 2]]); return 2", "a = [1]\nassert f(a) == 2"),
    "nested without end": (FORGE + "def f(x):\n    v = 2\n    for _ in range(900): v = ['list', v]\n    reply(v); return 2", TESTS),
    "a fraction by zero": (FORGE + "def f(x):\n    reply(['list', ['Fraction', 1, 0]]); return 2", TESTS),
    "a range of words": (FORGE + "def f(x):\n    reply(['list', ['range', 'a', 'b', 'c']]); return 2", TESTS),
    "an array without shape": (FORGE + "def f(x):\n    reply(['list', ['array', '|O8', [1], '']]); return 2", "import numpy as np\nassert f(1) == 2"),
    "a request for the tests": (FORGE + "def f(x):\n    reply(['list', 'x'], kind='?'); return 0", TESTS),
    "an interrupt": (FORGE + "def f(x):\n    reply(['list', ['exception', 1, ['type', 'builtins.KeyboardInterrupt'], [], '']], kind='!'); return 2", TESTS),
    "an end that the tests catch": ("import os\ndef f(x):\n    if x == 2: os._exit(0)\n    return 2", "assert f(1) == 2\ntry:\n    f(2)\nexcept:\n    pass"),
    "a time that the tests catch": ("def f(x):\n    while x == 2: pass\n    return 2", "assert f(1) == 2\ntry:\n    f(2)\nexcept:\n    pass"),
    # Without end
    "a callback for ever": ("def f(g):\n    while True: g()", "assert f(lambda: 1) == 2"),
    "a callback in a callback": ("def f(g):\n    return g(f)", "def g(h):\n    return h(g)\nassert f(g) == 2"),
    "an iterator without end": ("class I:\n    def __iter__(s): return s\n    def __next__(s): return 2\ndef f(x): return I()", "assert sum(f(1)) == 2"),
    "a giant name": ("class A:\n    def __getattr__(s, n): return A()\ndef f(x):\n    a = A()\n    setattr(a, 'x' * (80 << 20), 1)\n    return a", "assert dir(f(1)) == 2"),
    "a giant text": ("class A:\n    def __repr__(s): return 'x' * (80 << 20)\ndef f(x): return A()", "assert repr(f(1)) == 2"),
    "a text that never comes": ("class A:\n    def __str__(s):\n        while True: pass\ndef f(x): return A()", "assert str(f(1)) == '2'"),
    "an error whose text never comes": ("class E(Exception):\n    def __str__(s):\n        while True: pass\ndef f(x): raise E", TESTS),
    "an attribute that exits": ("import os\nclass A:\n    def __getattr__(s, n): os._exit(0)\ndef f(x): return A()", "assert f(1).x == 2"),
    "prints without end": ("def f(x):\n    while True: print('x' * 99999)", TESTS),
}  # fmt: skip


@pytest.fixture(scope="module")
def many_descriptors() -> Iterator[None]:
    """A process that has many files open: the pipes to its workers have high numbers."""
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(100)]
    yield
    for fd in opened:
        os.close(fd)


@pytest.fixture(scope="module")
def pool(many_descriptors: None) -> Iterator[VerifierPool]:
    with VerifierPool(1, timeout_s=1, sandbox=LEVEL) as workers:  # type: ignore[arg-type]
        yield workers


def judged(pool: VerifierPool, response: str, tests: str) -> Verdict:
    task = CheckTask(id="c", domain="code", response=f"```python\n{response}\n```", tests=tests, entry_point="f")
    return dict(pool.run([task]))["c"]


@pytest.mark.parametrize("name", ATTACKS)
def test_no_attack_on_a_handle_passes(pool: VerifierPool, name: str) -> None:
    verdict = judged(pool, *ATTACKS[name])
    assert verdict.correct is not True, verdict
    assert verdict.detail, verdict
    assert verdict.seconds < 60  # the deadline was kept, on a busy machine too
    assert not [child for worker in psutil.Process().children() for child in worker.children(recursive=True)]
    assert judged(pool, "def f(x):\n    return x + 1", TESTS).correct  # the pool is unharmed
