"""Cases for the judge: kind, response, tests, entry point, and what is right (None: no verdict)."""

from __future__ import annotations

from typing import NamedTuple

ADD = "def add(a, b):\n    return a + b"
SUB = "def add(a, b):\n    return a - b"


class Case(NamedTuple):
    """One response and its tests."""

    kind: str
    response: str
    tests: str
    right: bool | None
    entry_point: str | None = "add"


TESTS_THAT_ASSERT_NOTHING = {
    "a docstring": '"""Tests of add."""\n',
    "a guarded import": "try:\n    import numpy\nexcept ImportError:\n    numpy = None\n",
    "a path": "import sys\nsys.path.insert(0, '.')\n",
    "unittest.main without a class": "import unittest\nif __name__ == '__main__':\n    unittest.main(exit=False)\n",
    "prints": "print(add(1, 2))\n",
    "a comparison": "add(1, 2) == 3\n",
    "an assertion that is not about it": "assert 1 + 1 == 2\n",
    "an import that fails": "import no_such_package\nassert no_such_package.same(add(1, 2), 3)\n",
    "a name that fails": "from no_such_package import thing\nassert thing(add(1, 2)) == 3\n",
    "a function that is not called": "def helper():\n    assert add(1, 2) == 3\n",
    "a fixture that is not here": "def test_a(tmp_path):\n    assert add(1, 2) == 3\n",
    "a package that does not load": "from hypothesis import given, strategies\nassert add(1, 2) == 3\n",
    "a caught failure": "try:\n    add(1, 2)\nexcept Exception:\n    pass\n",
}
FORMS = {
    "assert lines": "assert add(1, 2) == 3\nassert add(0, 0) == 0",
    "assert lines as JSON": '["assert add(1, 2) == 3", "assert add(0, 0) == 0"]',
    "check": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
    "check that is called": "def check(candidate):\n    assert candidate(1, 2) == 3\n\ncheck(add)\n",
    "check by another name": "def check_add(candidate):\n    assert candidate(1, 2) == 3\n",
    "check with another parameter": "def check(f):\n    assert f(1, 2) == 3\n",
    "pytest functions": "def test_a():\n    assert add(1, 2) == 3\n\ndef test_b():\n    assert add(2, 2) == 4\n",
    "pytest under a docstring": '"""Tests."""\n\ndef test_a():\n    assert add(1, 2) == 3\n',
    "from solution": "from solution import add\n\ndef test_a():\n    assert add(1, 2) == 3\n",
    "from a module that exists": "from test import add\n\ndef test_a():\n    assert add(1, 2) == 3\n",
    "from a package": "from .main import add\n\ndef test_a():\n    assert add(1, 2) == 3\n",
    "import the module": "import solution\n\ndef test_a():\n    assert solution.add(1, 2) == 3\n",
    "import the module by another name": "import your_code as m\nassert m.add(1, 2) == 3\n",
    "import everything": "from solution import *\n\ndef test_a():\n    assert add(1, 2) == 3\n",
    "parametrized": (
        "import pytest\n\n@pytest.mark.parametrize('a,b,c', [(1, 2, 3), pytest.param(2, 2, 4, id='twos')])\n"
        "def test_a(a, b, c):\n    assert add(a, b) == c\n"
    ),
    "twice parametrized": (
        "import pytest\n\n@pytest.mark.parametrize('a', [1, 2])\n@pytest.mark.parametrize(('b', 'c'), [(0, 0), (5, 5)])\n"
        "def test_a(a, b, c):\n    assert add(a, b) == a + c\n"
    ),
    "fixtures": (
        "import pytest\n\n@pytest.fixture\ndef one():\n    return 1\n\n@pytest.fixture(params=[2, 3])\ndef two(request, one):\n"
        "    yield request.param * one\n\ndef test_a(one, two):\n    assert add(one, two) == 1 + two\n"
    ),
    "a class of tests": (
        "class TestAdd:\n    def setup_method(self):\n        self.one = 1\n\n    def test_a(self):\n"
        "        assert add(self.one, 2) == 3\n"
    ),
    "approx": "import pytest\n\ndef test_a():\n    assert add(0.1, 0.2) == pytest.approx(0.3)\n",
    "unittest": (
        "import unittest\n\nclass T(unittest.TestCase):\n    def setUp(self):\n        self.one = 1\n\n"
        "    def test_a(self):\n        self.assertEqual(add(self.one, 2), 3)\n"
    ),
    "unittest with main": (
        "import unittest\n\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(add(1, 2), 3)\n\n"
        "if __name__ == '__main__':\n    unittest.main(exit=False)\n"
    ),
    "unittest with subtests": (
        "import unittest\n\nclass T(unittest.TestCase):\n    def test_a(self):\n        for a, b, c in [(1, 2, 3), (0, 0, 0)]:\n"
        "            with self.subTest(a=a):\n                self.assertEqual(add(a, b), c)\n"
    ),
    "behind a main guard": "if __name__ == '__main__':\n    assert add(1, 2) == 3\n",
    "pytest.main": "import pytest\n\ndef test_a():\n    assert add(1, 2) == 3\n\nif __name__ == '__main__':\n    pytest.main()\n",
    "sys.exit": "import sys\n\ndef test_a():\n    assert add(1, 2) == 3\n\ntest_a()\nsys.exit(0)\n",
    "doctest": ">>> add(1, 2)\n3\n>>> add(0, 0)\n0\n",
    "doctest in a docstring": '"""\n>>> add(1, 2)\n3\n"""\n',
    "if and raise": "if add(1, 2) != 3:\n    raise ValueError('wrong')\n",
    "numpy's assertions": "import numpy as np\nnp.testing.assert_allclose(add(1, 2), 3)\n",
    "APPS": '{"fn_name": "add", "inputs": [[1, 2], [0, 0]], "outputs": [3, 0]}',
    "TACO": '{"fn_name": "add", "inputs": [[1, 2]], "outputs": [[3]]}',
    "LiveCodeBench": '[{"input": "1\\n2", "output": "3", "testtype": "functional"}]',
    "pairs of values": '[{"input": [1, 2], "output": 3}]',
}
"""Tests that hold for `a + b` and not for `a - b`, in each form."""

OBJECTS = [
    Case("in place", "def f(x):\n    x.sort()", "a = [3, 1, 2]\nf(a)\nassert a == [1, 2, 3]", True, "f"),
    Case(
        "in place, wrong", "def f(x):\n    return sorted(x)", "a = [3, 1, 2]\nf(a)\nassert a == [1, 2, 3]", False, "f"
    ),
    Case(
        "in place inside",
        "def f(m):\n    m['k'][0].append(4)\n    m['s'].add(1)",
        "m = {'k': [[1]], 's': set()}\nf(m)\nassert m == {'k': [[1, 4]], 's': {1}}",
        True,
        "f",
    ),
    Case(
        "must not change",
        "def f(x):\n    x.sort()\n    return x",
        "a = [2, 1]\nassert f(a) == [1, 2]\nassert a == [2, 1]",
        False,
        "f",
    ),
    Case(
        "an alias",
        "def f(m):\n    m[0].append(1)",
        "r = [0]\nm = [r, r]\nf(m)\nassert m == [[0, 1], [0, 1]] and m[0] is m[1] is r",
        True,
        "f",
    ),
    Case(
        "kept and changed later",
        "k = []\ndef f(x):\n    k.append(x)\ndef g():\n    k[0].append(1)",
        "a = []\nf(a)\ng()\nassert a == [1]",
        True,
        "f",
    ),
    Case("the same object", "def f(x):\n    return x", "a = [1]\nassert f(a) is a", True, "f"),
    Case("a copy", "def f(x):\n    return list(x)", "a = [1]\nassert f(a) == a and f(a) is not a", True, "f"),
    Case(
        "a class",
        "class Stack:\n    def __init__(self):\n        self.items = []\n    def push(self, x):\n        self.items.append(x)\n"
        "    def __len__(self):\n        return len(self.items)\n    def __getitem__(self, i):\n        return self.items[i]",
        "s = Stack()\ns.push(1)\ns.push('a')\nassert len(s) == 2 and s[1] == 'a' and s.items == [1, 'a'] and list(s) == [1, 'a']\n"
        "s.items.append(3)\nassert len(s) == 3\nassert isinstance(s, Stack) and type(s).__name__ == 'Stack'",
        True,
        "Stack",
    ),
    Case(
        "a class that forgets",
        "class Stack:\n    def push(self, x): pass\n    def pop(self): return 1",
        "s = Stack()\ns.push(2)\nassert s.pop() == 2",
        False,
        "Stack",
    ),
    Case(
        "an operator",
        "class V:\n    def __init__(self, x):\n        self.x = x\n    def __add__(self, o):\n        return V(self.x + o.x)\n    def __eq__(self, o):\n        return self.x == o.x",
        "assert V(1) + V(2) == V(3)\nassert V(1) != V(2)",
        True,
        "V",
    ),
    Case(
        "a wrong operator",
        "class V:\n    def __init__(self, x):\n        self.x = x\n    def __add__(self, o):\n        return V(self.x - o.x)\n    def __eq__(self, o):\n        return self.x == o.x",
        "assert V(1) + V(2) == V(3)",
        False,
        "V",
    ),
    Case(
        "a dataclass",
        "from dataclasses import dataclass\n@dataclass(order=True)\nclass P:\n    x: int\n    y: int = 0\ndef f(x):\n    return P(x)",
        "assert f(1) == P(1, 0)\nassert f(1) < f(2)\nassert f(1).y == 0 and str(f(1)) == 'P(x=1, y=0)'",
        True,
        "f",
    ),
    Case(
        "a namedtuple",
        "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f():\n    return P(1, 2)",
        "assert f() == (1, 2) and f().x == 1 and f()._fields == ('x', 'y')",
        True,
        "f",
    ),
    Case(
        "an enum",
        "from enum import Enum\nclass C(Enum):\n    RED = 1\n    BLUE = 2\ndef f(n):\n    return C(n)",
        "assert f(1) is C.RED and f(2) == C.BLUE and f(1).name == 'RED' and len(list(C)) == 2",
        True,
        "f",
    ),
    Case(
        "a property",
        "class A:\n    def __init__(self):\n        self._v = 1\n    @property\n    def v(self):\n        return self._v\n    @v.setter\n    def v(self, n):\n        if n < 0:\n            raise ValueError('negative')\n        self._v = n",
        "a = A()\na.v = 5\nassert a.v == 5\ntry:\n    a.v = -1\n    assert False\nexcept ValueError as e:\n    assert str(e) == 'negative'",
        True,
        "A",
    ),
    Case(
        "inheritance",
        "class A:\n    def hi(self):\n        return 'a'\nclass B(A):\n    pass",
        "assert B().hi() == 'a' and issubclass(B, A) and isinstance(B(), A)",
        True,
        "B",
    ),
    Case(
        "a class method",
        "class A:\n    n = 0\n    @classmethod\n    def make(cls):\n        cls.n += 1\n        return cls()\n    @staticmethod\n    def two():\n        return 2",
        "A.make()\nassert A.n == 1 and A.two() == 2 and isinstance(A.make(), A)",
        True,
        "A",
    ),
    Case(
        "an error of one's own",
        "class E(Exception):\n    def __init__(self, code):\n        super().__init__(f'code {code}')\n        self.code = code\ndef f():\n    raise E(7)",
        "try:\n    f()\n    assert False\nexcept E as e:\n    assert e.code == 7 and str(e) == 'code 7' and isinstance(e, Exception)",
        True,
        "f",
    ),
    Case(
        "pytest.raises",
        "def f(x):\n    raise KeyError('k')",
        "import pytest\ndef test_f():\n    with pytest.raises(KeyError, match='k'):\n        f(1)",
        True,
        "f",
    ),
    Case(
        "pytest.raises, wrong",
        "def f(x):\n    return x",
        "import pytest\ndef test_f():\n    with pytest.raises(KeyError):\n        f(1)",
        False,
        "f",
    ),
    Case(
        "assertRaises",
        "def f(x):\n    raise TypeError('t')",
        "import unittest\nclass T(unittest.TestCase):\n    def test_f(self):\n        self.assertRaises(TypeError, f, 1)\n        with self.assertRaisesRegex(TypeError, 't'):\n            f(2)",
        True,
        "f",
    ),
    Case(
        "the wrong error",
        "def f(x):\n    raise TypeError('t')",
        "try:\n    f(1)\n    assert False\nexcept KeyError:\n    pass",
        False,
        "f",
    ),
    Case(
        "exits",
        "import sys\ndef f():\n    sys.exit(2)",
        "import pytest\ndef test_f():\n    with pytest.raises(SystemExit) as e:\n        f()\n    assert e.value.code == 2",
        True,
        "f",
    ),
    Case(
        "a generator",
        "def f():\n    n = 0\n    while True:\n        yield n\n        n += 1",
        "g = f()\nassert [next(g) for _ in range(3)] == [0, 1, 2]\nimport itertools\nassert list(itertools.islice(f(), 4)) == [0, 1, 2, 3]",
        True,
        "f",
    ),
    Case(
        "send",
        "def f():\n    x = yield 0\n    while True:\n        x = yield x * 2",
        "g = f()\nnext(g)\nassert g.send(4) == 8",
        True,
        "f",
    ),
    Case(
        "callbacks",
        "def f(g, xs):\n    return [g(x) for x in xs]",
        "seen = []\ndef g(x):\n    seen.append(x)\n    return x + 1\nassert f(g, [1, 2]) == [2, 3] and seen == [1, 2]",
        True,
        "f",
    ),
    Case(
        "a callback that raises",
        "def f(g):\n    try:\n        return g()\n    except ZeroDivisionError:\n        return 'caught'",
        "assert f(lambda: 1 / 0) == 'caught'",
        True,
        "f",
    ),
    Case(
        "retries",
        "def f(g, n):\n    for i in range(n):\n        try:\n            return g()\n        except ValueError:\n            if i == n - 1:\n                raise",
        "calls = []\ndef g():\n    calls.append(1)\n    if len(calls) < 3:\n        raise ValueError('no')\n    return 'ok'\nassert f(g, 5) == 'ok' and len(calls) == 3\ndef bad():\n    raise ValueError('always')\ntry:\n    f(bad, 2)\n    assert False\nexcept ValueError as e:\n    assert str(e) == 'always'",
        True,
        "f",
    ),
    Case(
        "built-in functions",
        "def f(g, xs):\n    return list(map(g, xs))",
        "import operator\nassert f(str.upper, ['a']) == ['A'] and f(abs, [-1]) == [1] and f(int, ['2']) == [2]\nassert f(operator.neg, [1]) == [-1]",
        True,
        "f",
    ),
    Case(
        "sort with a key",
        "def f(xs, key):\n    return sorted(xs, key=key)",
        "assert f(['bb', 'a'], len) == ['a', 'bb'] and f([1, 2], lambda x: -x) == [2, 1]",
        True,
        "f",
    ),
    Case(
        "a closure",
        "def f():\n    n = 0\n    def g():\n        nonlocal n\n        n += 1\n        return n\n    return g",
        "g = f()\nassert g() == 1 and g() == 2 and f()() == 1",
        True,
        "f",
    ),
    Case(
        "a decorator with arguments",
        "import functools\ndef f(n):\n    def deco(g):\n        @functools.wraps(g)\n        def w(*a, **k):\n            return [g(*a, **k) for _ in range(n)]\n        return w\n    return deco",
        "@f(3)\ndef hi(x):\n    return x\nassert hi('a') == ['a'] * 3 and hi.__name__ == 'hi'",
        True,
        "f",
    ),
    Case(
        "a class of the tests",
        "def f(n):\n    return n.val + (f(n.next) if n.next else 0)",
        "class Node:\n    def __init__(self, val, next=None):\n        self.val = val\n        self.next = next\nassert f(Node(1, Node(2, Node(3)))) == 6",
        True,
        "f",
    ),
    Case(
        "a class of the tests, changed",
        "def f(n):\n    p = None\n    while n:\n        n.next, p, n = p, n, n.next\n    return p",
        "class Node:\n    def __init__(self, val, next=None):\n        self.val = val\n        self.next = next\nb = Node(2)\na = Node(1, b)\nassert f(a) is b and b.next is a and a.next is None",
        True,
        "f",
    ),
    Case(
        "a context manager",
        "class T:\n    def __enter__(self):\n        return 5\n    def __exit__(self, *a):\n        return True",
        "with T() as t:\n    assert t == 5\n    raise ValueError",
        True,
        "T",
    ),
    Case(
        "an async function",
        "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x + 1",
        "import asyncio\nasync def both():\n    return await asyncio.gather(f(1), f(2))\nassert asyncio.run(f(1)) == 2 and asyncio.run(both()) == [2, 3]",
        True,
        "f",
    ),
    Case(
        "an async test",
        "import asyncio\nasync def f(x):\n    return x + 1",
        "import unittest\nclass T(unittest.IsolatedAsyncioTestCase):\n    async def test_f(self):\n        self.assertEqual(await f(1), 2)",
        True,
        "f",
    ),
    Case(
        "dates",
        "from datetime import datetime, timedelta, timezone\ndef f(d):\n    return d + timedelta(days=1)",
        "from datetime import datetime, timezone, timedelta\nassert f(datetime(2024, 2, 28, tzinfo=timezone.utc)) == datetime(2024, 2, 29, tzinfo=timezone.utc)\nassert f(datetime(2024, 1, 1)) - datetime(2024, 1, 1) == timedelta(days=1)",
        True,
        "f",
    ),
    Case(
        "big integers", "def f(n):\n    return 7 ** n", "assert f(20000) == 7 ** 20000\nassert f(3) % 2 == 1", True, "f"
    ),
    Case(
        "a large result",
        "def f(n):\n    return 'x' * n, list(range(n))",
        "a, b = f(2_000_000)\nassert len(a) == len(b) == 2_000_000",
        True,
        "f",
    ),
    Case(
        "numpy",
        "import numpy as np\ndef f(a):\n    a[0] = 7\n    return a * 2.0",
        "import numpy as np\nr = f(np.array([1, 2]))\nassert isinstance(r, np.ndarray) and r.tolist() == [14.0, 4.0] and r.dtype == float",
        True,
        "f",
    ),
    Case(
        "printed",
        "def f():\n    print('hello')",
        "import io, contextlib\nout = io.StringIO()\nwith contextlib.redirect_stdout(out):\n    f()\nassert out.getvalue() == 'hello\\n'",
        True,
        "f",
    ),
    Case(
        "capsys",
        "def f():\n    print('hello')",
        "def test_f(capsys):\n    f()\n    assert capsys.readouterr().out == 'hello\\n'",
        True,
        "f",
    ),
    Case(
        "patched input",
        "def f():\n    return input('? ') + '!'",
        "from unittest.mock import patch\nwith patch('builtins.input', return_value='hi'):\n    assert f() == 'hi!'",
        True,
        "f",
    ),
    Case(
        "monkeypatched input",
        "def f():\n    return int(input())",
        "def test_f(monkeypatch):\n    monkeypatch.setattr('builtins.input', lambda _='': '4')\n    assert f() == 4",
        True,
        "f",
    ),
    Case(
        "a mock",
        "def f(db):\n    db.save('x', n=1)\n    return db.load()",
        "from unittest.mock import Mock\ndb = Mock()\ndb.load.return_value = 3\nassert f(db) == 3\ndb.save.assert_called_once_with('x', n=1)",
        True,
        "f",
    ),
    Case(
        "a mock, wrong",
        "def f(db):\n    return db.load()",
        "from unittest.mock import Mock\ndb = Mock()\ndb.load.return_value = 3\nassert f(db) == 3\ndb.save.assert_called_once_with('x', n=1)",
        False,
        "f",
    ),
    Case(
        "a patched helper",
        "def helper():\n    return 1\ndef f():\n    return helper() + 1",
        "from unittest.mock import patch\nwith patch('solution.helper', return_value=5):\n    assert f() == 6\nassert f() == 2",
        True,
        "f",
    ),
    Case(
        "a patched function of Python",
        "import random\nimport os.path\ndef f():\n    return random.randint(1, 6), os.path.exists('/x')",
        "from unittest.mock import patch\nwith patch('random.randint', return_value=9), patch('os.path.exists', return_value=True):\n    assert f() == (9, True)\nassert f()[0] < 9",
        True,
        "f",
    ),
    Case(
        "a patched file",
        "def f(name):\n    with open(name) as file:\n        return file.read().upper()",
        "from unittest.mock import mock_open, patch\nwith patch('builtins.open', mock_open(read_data='abc')) as opened:\n    assert f('x.txt') == 'ABC'\nopened.assert_called_once_with('x.txt')",
        True,
        "f",
    ),
    Case(
        "patched printing",
        "def f():\n    print('a', 1)",
        "import unittest\nfrom unittest.mock import patch\nclass T(unittest.TestCase):\n    @patch('builtins.print')\n    def test_f(self, printed):\n        f()\n        printed.assert_called_with('a', 1)",
        True,
        "f",
    ),
    Case(
        "monkeypatched module",
        "import time\ndef f():\n    return time.time()",
        "import time\ndef test_f(monkeypatch):\n    monkeypatch.setattr(time, 'time', lambda: 5.0)\n    assert f() == 5.0\ndef test_g():\n    assert f() > 5.0",
        True,
        "f",
    ),
    Case(
        "a patched method",
        "from pathlib import Path\ndef f():\n    return Path('x').exists()",
        "from unittest.mock import patch\nwith patch('pathlib.Path.exists', return_value=True):\n    assert f() is True",
        True,
        "f",
    ),
    Case(
        "a patched parser",
        "import json\ndef f(text):\n    return json.loads(text)['a']",
        "from unittest.mock import patch\nwith patch('json.loads', return_value={'a': 5}) as loads:\n    assert f('x') == 5\nloads.assert_called_once_with('x')\nwith patch('time.monotonic', return_value=1e12):\n    assert f('{\"a\": 1}') == 1",
        True,
        "f",
    ),
    Case(
        "a seed",
        "import random\ndef f(xs):\n    random.shuffle(xs)\n    return xs",
        "import random\nrandom.seed(1)\na = f([1, 2, 3, 4, 5])\nrandom.seed(1)\nb = [1, 2, 3, 4, 5]\nrandom.shuffle(b)\nassert a == b",
        True,
        "f",
    ),
    Case(
        "Solution",
        "class Solution:\n    def f(self, nums: List[int]) -> Optional[int]:\n        return max(nums, default=None)",
        "assert Solution().f([1, 3]) == 3",
        True,
        "Solution().f",
    ),
    Case(
        "a method by its name",
        "class Solution:\n    def f(self, nums):\n        return Counter(nums).most_common(1)[0][0]",
        "def check(candidate):\n    assert candidate(nums=[1, 3, 3]) == 3",
        True,
        "f",
    ),
    Case(
        "nodes of LeetCode",
        "class Solution:\n    def f(self, head: Optional[ListNode]) -> Optional[ListNode]:\n        return head.next",
        "assert Solution().f(ListNode(1, ListNode(2))).val == 2",
        True,
        "Solution().f",
    ),
    Case(
        "a tree of LeetCode",
        "class Solution:\n    def f(self, root):\n        return 0 if root is None else 1 + max(self.f(root.left), self.f(root.right))",
        "class TreeNode:\n    def __init__(self, val=0, left=None, right=None):\n        self.val, self.left, self.right = val, left, right\nassert Solution().f(TreeNode(1, TreeNode(2), None)) == 2",
        True,
        "Solution().f",
    ),
    Case(
        "its own examples",
        "def f():\n    '''\n    >>> f()\n    1\n    '''\n    return 1",
        "import doctest\nassert doctest.testmod().failed == 0",
        None,
        "f",
    ),
    Case(
        "its own examples, wrong",
        "def f():\n    '''\n    >>> f()\n    1\n    '''\n    return 2",
        "import doctest\nassert doctest.testmod().failed == 0",
        False,
        "f",
    ),
    Case("tolerance", "print(0.333333)", '[{"input": "", "output": "0.33333333", "tolerance": 1e-5}]', True, None),
    Case("no tolerance", "print(0.333333)", '[{"input": "", "output": "0.33333333"}]', False, None),
    Case(
        "APPS' programs",
        "print(int(input()) + 1)",
        '{"inputs": ["1\\n", "2\\n"], "outputs": ["2\\n", "3\\n"]}',
        True,
        None,
    ),
    Case(
        "lines as a list",
        "print(int(input()) + int(input()))",
        '{"inputs": [["1", "2"]], "outputs": [["3"]]}',
        True,
        None,
    ),
    Case(
        "xml",
        "import xml.etree.ElementTree as ET\ndef f(s):\n    return ET.fromstring(s).tag",
        "assert f('<a/>') == 'a'",
        True,
        "f",
    ),
    Case("a package that is not here", "import no_such_package\ndef f():\n    return 1", "assert f() == 1", None, "f"),
    Case(
        "a subclass of list",
        "class L(list):\n    def first(self):\n        return self[0]\ndef f():\n    return L([1, 2])",
        "assert f() == [1, 2] and len(f()) == 2",
        True,
        "f",
    ),
    Case(
        "a subclass of dict that is named",
        "class D(dict):\n    def __getattr__(self, k):\n        return self[k]",
        "d = D(a=1)\nassert d.a == 1 and d == {'a': 1} and isinstance(d, dict)",
        True,
        "D",
    ),
    Case(
        "a Fraction's arithmetic",
        "from fractions import Fraction\ndef f():\n    return Fraction(1, 3)",
        "assert f() + f() == 2 * f()\nassert float(f()) < 0.34",
        True,
        "f",
    ),
    Case(
        "views",
        "def f(d):\n    return d.keys(), d.values(), d.items()",
        "k, v, i = f({'a': 1})\nassert list(k) == ['a'] and 1 in v and ('a', 1) in i and k == {'a'}",
        True,
        "f",
    ),
    Case("a module", "import math\ndef f(m):\n    return m.sqrt(4)", "import math\nassert f(math) == 2.0", True, "f"),
    Case(
        "search in an object",
        "class S:\n    def __contains__(self, x):\n        return x == 3",
        "assert 3 in S() and 4 not in S()",
        True,
        "S",
    ),
    Case(
        "a callable object",
        "class A:\n    def __init__(self, n):\n        self.n = n\n    def __call__(self, x):\n        return x + self.n",
        "a = A(2)\nassert a(3) == 5 and callable(a)",
        True,
        "A",
    ),
    Case(
        "hash and set",
        "class P:\n    def __init__(self, x):\n        self.x = x\n    def __eq__(self, o):\n        return isinstance(o, P) and self.x == o.x\n    def __hash__(self):\n        return hash(self.x)",
        "assert len({P(1), P(1), P(2)}) == 2 and P(1) in {P(1): 0}",
        True,
        "P",
    ),
    Case(
        "functions of dataclasses",
        "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n    y: str = 'a'",
        "from dataclasses import asdict, astuple, fields, is_dataclass, replace\n"
        "assert asdict(P(1)) == {'x': 1, 'y': 'a'} and astuple(P(2)) == (2, 'a')\n"
        "assert [f.name for f in fields(P)] == ['x', 'y'] and replace(P(1), x=3) == P(3)\n"
        "assert is_dataclass(P) and is_dataclass(P(1)) and not is_dataclass(3)",
        True,
        "P",
    ),
    Case(
        "an array changed in place",
        "def f(a):\n    a[a < 0] = 0",
        "import numpy as np\na = np.array([1, -2, 3])\nf(a)\nassert a.tolist() == [1, 0, 3]",
        True,
        "f",
    ),
    Case(
        "an array that must not change",
        "def f(a):\n    a /= a.sum()\n    return a",
        "import numpy as np\na = np.array([1.0, 3.0])\nassert f(a).tolist() == [0.25, 0.75]\nassert a.tolist() == [1.0, 3.0]",
        False,
        "f",
    ),
    Case(
        "a row of an array",
        "def f(row):\n    row[:] = 0",
        "import numpy as np\nm = np.ones((2, 2))\nf(m[0])\nassert m.tolist() == [[0, 0], [1, 1]]",
        True,
        "f",
    ),
    Case(
        "a table that must not change",
        "def f(df):\n    df['b'] = 1\n    return df",
        "import pandas as pd\ndf = pd.DataFrame({'a': [1.5, None]})\nassert list(f(df).columns) == ['a', 'b']\nassert list(df.columns) == ['a']",
        False,
        "f",
    ),
    Case(
        "a table sorted in place",
        "def f(df):\n    df.sort_values('a', inplace=True)",
        "import pandas as pd\ndf = pd.DataFrame({'a': [2, 1]})\nf(df)\nassert df['a'].tolist() == [1, 2] and df.index.tolist() == [1, 0]",
        True,
        "f",
    ),
    Case(
        "collections changed in place",
        "def f(c, d, o):\n    c['x'] += 1\n    d['k'].append(4)\n    o.move_to_end('a')",
        "from collections import Counter, OrderedDict, defaultdict\nc, d, o = Counter('x'), defaultdict(list), OrderedDict(a=1, b=2)\nf(c, d, o)\nassert c == {'x': 2} and d == {'k': [4]} and list(o) == ['b', 'a'] and d['z'] == []",
        True,
        "f",
    ),
    Case(
        "generators of random numbers",
        "def f(rng, gen):\n    return [rng.randrange(100), int(gen.integers(100))]",
        "import random\nimport numpy as np\nrng, gen, mine, same = random.Random(5), np.random.default_rng(5), random.Random(5), np.random.default_rng(5)\nfor _ in range(2):\n    assert f(rng, gen) == [mine.randrange(100), int(same.integers(100))]\nassert rng.random() == mine.random()",
        True,
        "f",
    ),
    Case(
        "a default factory of the code",
        "from collections import defaultdict\ndef f():\n    return defaultdict(f)",
        "t = f()\nt['a']['b']['c'] = 1\nassert t == {'a': {'b': {'c': 1}}}",
        True,
        "f",
    ),
    Case(
        "exceptions with causes and attributes",
        "import json\nfrom decimal import Decimal\ndef f(x):\n    if x == 'd':\n        Decimal('1x')\n    if x == 'j':\n        json.loads('[1,')\n    if x == 'o':\n        raise FileNotFoundError(2, 'none', 'a.txt')\n    try:\n        {}[x]\n    except KeyError as e:\n        e.add_note('seen')\n        raise KeyError(x) from e",
        "import json, pytest\nfrom decimal import InvalidOperation\nwith pytest.raises(KeyError) as k:\n    f(1)\nassert isinstance(k.value.__cause__, KeyError) and k.value.__cause__.__notes__ == ['seen']\nwith pytest.raises(InvalidOperation):\n    f('d')\nwith pytest.raises(json.JSONDecodeError) as j:\n    f('j')\nassert j.value.pos == 3\nwith pytest.raises(FileNotFoundError) as o:\n    f('o')\nassert (o.value.errno, o.value.filename) == (2, 'a.txt')",
        True,
        "f",
    ),
    Case(
        "lists in lists in lists",
        "def f(x):\n    return 1 + f(x[0]) if x else 0\ndef g(n):\n    return [g(n - 1)] if n else []",
        "x = []\nfor _ in range(300):\n    x = [x]\nassert f(x) == 300\ny = g(300)\nfor _ in range(300):\n    y = y[0]\nassert y == []",
        True,
        "f",
    ),
    Case(
        "a class of the tests derived from one of the code",
        "from abc import ABC, abstractmethod\nclass Animal(ABC):\n    def __init__(self, name='x'):\n        self.name = name\n    @abstractmethod\n    def sound(self):\n        ...\n    def speak(self):\n        return f'{self.name} says {self.sound()}'",
        "class Dog(Animal):\n    def __init__(self):\n        super().__init__('Rex')\n    def sound(self):\n        return 'woof'\n    @property\n    def twice(self):\n        return self.name * 2\nassert Dog().speak() == 'Rex says woof' and Dog().twice == 'RexRex' and isinstance(Dog(), Animal)",
        True,
        "Animal",
    ),
    Case(
        "attributes of a function",
        "import functools\ndef memo(fn):\n    @functools.wraps(fn)\n    def w(x: int) -> int:\n        w.calls += 1\n        return fn(x)\n    w.calls = 0\n    return w\n@memo\ndef f(x: int) -> int:\n    'doc'\n    return x + 1",
        "assert f(1) == 2 and f.calls == 1 and f.__wrapped__(3) == 4\nassert f.__name__ == 'f' and f.__doc__ == 'doc' and f.__annotations__ == {'x': int, 'return': int}",
        True,
        "f",
    ),
    Case(
        "monkeypatch and its end",
        "RATE = 1.5\ndef f(x):\n    return x * RATE",
        "import solution\nfrom solution import f\ndef test_a(monkeypatch):\n    monkeypatch.setattr(solution, 'RATE', 2.0)\n    assert f(10) == 20.0\ndef test_b():\n    assert f(10) == 15.0",
        True,
        "f",
    ),
    Case(
        "in by another rule than iteration",
        "class M:\n    def __init__(self, rows):\n        self.rows = rows\n    def __iter__(self):\n        return iter(self.rows)\n    def __contains__(self, x):\n        return any(x in r for r in self.rows)",
        "m = M([[1, 2], [3]])\nassert 3 in m and 4 not in m and list(m) == [[1, 2], [3]]",
        True,
        "M",
    ),
    Case(
        "tests that need a folder",
        "def f(x):\n    return x",
        "import tempfile\nd = tempfile.mkdtemp()\nassert f(1) == 1",
        None,
        "f",
    ),
    Case(
        "a program with its own fast input",
        'import os, sys\nfrom io import BytesIO, IOBase\nBUF = 8192\nclass Fast(IOBase):\n    newlines = 0\n    def __init__(self, file):\n        self._fd = file.fileno()\n        self.buffer = BytesIO()\n        self.writable = "x" in file.mode or "r" not in file.mode\n        self.write = self.buffer.write if self.writable else None\n    def readline(self):\n        while self.newlines == 0:\n            b = os.read(self._fd, max(os.fstat(self._fd).st_size, BUF))\n            self.newlines = b.count(b"\\n") + (not b)\n            ptr = self.buffer.tell()\n            self.buffer.seek(0, 2), self.buffer.write(b), self.buffer.seek(ptr)\n        self.newlines -= 1\n        return self.buffer.readline()\n    def flush(self):\n        if self.writable:\n            os.write(self._fd, self.buffer.getvalue())\n            self.buffer.truncate(0), self.buffer.seek(0)\nclass Wrap(IOBase):\n    def __init__(self, file):\n        self.buffer = Fast(file)\n        self.flush = self.buffer.flush\n        self.writable = self.buffer.writable\n        self.write = lambda s: self.buffer.write(s.encode("ascii"))\n        self.readline = lambda: self.buffer.readline().decode("ascii")\nsys.stdin, sys.stdout = Wrap(sys.stdin), Wrap(sys.stdout)\ninput = lambda: sys.stdin.readline().rstrip("\\r\\n")\ndef main():\n    n = int(input())\n    print(n + 1)\n    print(sum(map(int, input().split())))\n    sys.stdout.flush()\nmain()\n',
        '[{"input": "3\\n1 2\\n", "output": "4\\n3\\n"}, {"input": "5\\n1 7\\n", "output": "6\\n8\\n"}]',
        True,
        None,
    ),
    Case(
        "in that is always true",
        "class S:\n    def __contains__(self, x):\n        return True",
        "assert 3 in S() and 4 not in S()",
        None,
        "S",
    ),
    Case(
        "in that is the wrong way round",
        "class S:\n    def __iter__(self):\n        return iter([1, 2])\n    def __contains__(self, x):\n        return x not in (1, 2)",
        "assert 5 not in S()",
        None,
        "S",
    ),
]
