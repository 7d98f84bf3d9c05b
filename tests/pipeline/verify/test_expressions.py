"""Expressions: a text is parsed completely or not at all, and values are compared exactly."""

from __future__ import annotations

import pytest

from fusechat.pipeline.verify.math.expressions import parse_expression
from fusechat.pipeline.verify.math.symbolic import expressions_equal

EQUAL = [
    (r"6\sqrt(3)", r"6\sqrt{3}"), (r"\frac{1}{ e }", "e^{-1}"), ("2(3)", "6"), (r"\frac12", "0.5"), ("2^10", "1024"),
    (r"\log_2 5", r"\frac{\ln 5}{\ln 2}"), (r"\ln 2/2", r"\frac{\ln 2}{2}"), ("3 sin theta", r"3\sin\theta"),
    (r"\sin 2x", r"2\sin x\cos x"), (r"\cos 60^\circ", r"\frac{1}{2}"), (r"\sqrt{x^2}", "|x|"),
    ("sqrt(5)/2", r"\frac{\sqrt5}{2}"), (r"\sqrt{\frac{a}{b}}", r"\frac{\sqrt{a}}{\sqrt{b}}"),
    (r"\binom{n}{2}", r"\frac{n(n-1)}{2}"), (r"0.\overline{3}", r"\frac13"),
    (r"e^{i\pi/3}", r"\frac{1}{2}+\frac{\sqrt3}{2}i"), (r"\frac{x^2-1}{x-1}", "x+1"), ("3/4x", r"\frac{3}{4}x"),
    (r"2\frac{1}{2}", "2.5"), (r"\frac{8!}{2!3!}", "3360"), (r"\tan^{-1} 2", r"\arctan 2"), ("x^-1", r"\frac{1}{x}"),
]  # fmt: skip
DIFFERENT = [
    (r"\frac{1}{2012!}", r"\frac{1}{2010!}"), (r"\frac{\pi}{10^{30}}", r"\frac{\pi}{10^{31}}"),
    ("2^{100}+1", "2^{100}"), (r"\sqrt{2}+10^{-80}", r"\sqrt{2}"), (r"\sqrt{x^2}", "x"),
    (r"\cos 58", r"\cos 58^\circ"), ("x_1", "x_2"), ("X", "x"), (r"3+\frac{1}{i}", r"3-\frac{1}{i}"), ("f(5)", "5"),
    (r"\log 2", r"\ln 2"), ("(-1)^n", "(-1)^{n+1}"), (r"\frac{1}{23}", r"\frac{12}{3}"), (r"\sin x^2", r"\sin^2 x"),
    ("gamma", "0.5772156649"),
]  # fmt: skip
UNREADABLE = [
    "", "x+", "3 4", "5 apples", "x/2y", "x2", r"9^{9^9}", "9!!", "100000000!", r"\frac{1}{0}", "(1,2)", "1+(2",
    "cat", "1010_2", r"\text{cm}", r"5 \pmod 7", "x=5", "x<5", "(" * 300, r"\sqrt{" * 60 + "2" + "}" * 60, "1" * 401,
    "5%", r"\int_0^1 x dx",
]  # fmt: skip


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_equal_expressions(left: str, right: str) -> None:
    values = parse_expression(left), parse_expression(right)
    assert None not in values
    assert expressions_equal(*values)
    assert expressions_equal(*reversed(values))


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_different_expressions(left: str, right: str) -> None:
    values = parse_expression(left), parse_expression(right)
    assert None not in values
    assert not expressions_equal(*values)


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_is_not_an_expression_is_not_read_in_part(text: str) -> None:
    assert parse_expression(text) is None
