"""Gold answers in the forms of public sets: each equals itself, and no two of them are equal."""

from __future__ import annotations

import pytest

from fusechat.pipeline.verify.math import check

_GOLDS = r"""
\frac{3}{4}
-\frac{1}{2}
\frac{1}{23}
\frac{12}{3}
2\sqrt{3}
3\sqrt[3]{2}
2\pi
\frac{\pi}{4}
12\pi\text{ cm}^2
36\pi
6 - 5i
e^{2\pi i/3}
x^2+2x+1
(x-1)(x+2)
\frac{x+1}{x-1}
5x
5x^2
4t
b-1
b+1
3s^2
p - q
q - p
y = 2x+1
y = 2x-1
x^2+y^2=25
3x-4y=12
a_n = 3n+1
n = 3k
\frac{\pi}{2}+k\pi
\frac{n(n+1)}{2}
\binom{n}{2}
2^{12}
21^2
10!
\frac{1}{20!}
\frac{1}{21!}
\log_2 3
\ln 3
\sin x
\sin^2 x
\cos 20^\circ
|x-3|
\lfloor x \rfloor
\infty
-\infty
\emptyset
\mathbb{R}
\mathbb{Z}
(3,-4)
(-4,3)
(a,0)
(-a,0)
\left( 3, \frac{\pi}{2} \right)
[1,5]
(1,5)
(1,5]
\{1,5\}
[-24,108]
24108
(-\infty,2) \cup (3,\infty)
x \le 3
x < 3
-2 < x < 4
1,2,3
1, -2
\pm 2
1 \pm \sqrt{2}
(1,2),(3,4)
(2,1),(4,3)
\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}
\begin{pmatrix} 1 \\ 2 \end{pmatrix}
\begin{cases} x & x \ge 0 \\ -x & x < 0 \end{cases}
\text{(A)}
\text{(B)}
C,D
\text{Evelyn}
\text{Sunday}
\text{even}
\text{odd}
\text{June 18}
\text{July 18}
8\text{ a.m.}
8\text{ p.m.}
10:30
3:2
2:3
1:2:3
12_5
1101_2
11 \text{ chickens}
11 \text{ rabbits}
7 \text{ hours}
7 \text{ minutes}
-3\frac{1}{2}
0.333
\$18.50
1{,}000
1{,}001
35\%
120^\circ
\overline{AB}
AB
x+2=5
f(2)
3 \times 10^8
"""
GOLDS = _GOLDS.strip().splitlines()


@pytest.mark.parametrize("gold", GOLDS)
def test_a_gold_answer_equals_itself(gold: str) -> None:
    for response in (
        rf"So \boxed{{{gold}}}.",
        f"The answer is {gold}.",
        f"The answer is ${gold}$.",
        rf"\[ \boxed{{{gold}}} \]",
    ):
        assert check(response, gold)[:2] == (True, "correct"), response


@pytest.mark.parametrize("gold", GOLDS)
def test_a_gold_answer_equals_no_other(gold: str) -> None:
    assert [g for g in GOLDS if g != gold and check(rf"\boxed{{{g}}}", gold)[0]] == []
