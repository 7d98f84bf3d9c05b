"""Plain numbers, their units, numerals, times and dates: each must be the whole text."""

from __future__ import annotations

from fractions import Fraction

import pytest

from fusechat.pipeline.verify.math.numbers import parse_number, parse_statement
from fusechat.pipeline.verify.math.times import parse_date, parse_time
from fusechat.pipeline.verify.math.typography import clean_answer, normalize

NUMBERS = [
    ("1,234,567", "1234567"), ("12,34,567", "1234567"), ("1 234", "1234"), (".5", "1/2"), ("2 1/2", "5/2"),
    ("2 and 1/2", "5/2"), (r"2\frac{1}{2}", "5/2"), ("2⅛", "17/8"), ("-1½", "-3/2"), ("1e-3", "1/1000"),
    (r"3\times 10^{8}", "300000000"), (r"0.1\overline{6}", "1/6"), ("0.333...", "1/3"), ("$3.5 million", "3500000"),
    ("$3.5M", "3500000"), ("Rs. 1,500", "1500"), ("5 dozen", "60"), ("about 5", "5"), ("negative 5", "-5"),
    ("one hundred and five", "105"), ("three quarters", "3/4"), ("two and a half", "5/2"), ("twenty-five", "25"),
    ("two thousand three hundred", "2300"), ("5 eighths", "5/8"), ("十二", "12"), ("负3.5", "-7/2"),
    ("一百二十", "120"),
    ("三分之二", "2/3"), ("3.5万", "35000"), ("一半", "1/2"), ("两个", "2"),
]  # fmt: skip
NO_NUMBERS = [
    "5x", "5m", "4t", "20N", "5 x", "x/2", "5/a", "2 pi", "3 sin theta", "5 squared", "5 more", "5 or 6", "1,23",
    "12,34", "5th", "below 10", "5 if x", "5-", "5^3", "(5, 6)", "f(5)", "5!", "1" * 401,
]  # fmt: skip
UNITS = [
    ("5 cm", "cm"), ("5cm", "cm"), (r"24\text{ cm}^2", "cm^2"), ("24 square inches", "in^2"), ("60 km/h", "kph"),
    ("9.8 m/s^2", "m/s^2"), ("60 miles per hour", "mph"), ("$18 per hour", "$/h"), ("50 cents", "cent"),
    (r"20 \text{ N}", "n"), (r"5\ \Omega", "ohm"), (r"25^\circ\text{C}", "celsius"), (r"90^\circ", "degree"),
    ("24平方厘米", "cm^2"), ("5 red apples", ""), ("12 in total", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_a_number(text: str, value: str) -> None:
    number = parse_number(clean_answer(normalize(text)))
    assert number is not None
    assert number.value == Fraction(value)


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_not_only_a_number_is_none(text: str) -> None:
    assert parse_number(clean_answer(normalize(text))) is None


@pytest.mark.parametrize(("text", "unit"), UNITS)
def test_the_unit_of_a_number(text: str, unit: str) -> None:
    number = parse_number(clean_answer(normalize(text)))
    assert number is not None
    assert number.unit.quantity == unit


@pytest.mark.parametrize("text", ["that Tom has 12 apples", "Janet makes $12 every day", "一共有12个苹果"])
def test_the_number_of_a_statement(text: str) -> None:
    number = parse_statement(text)
    assert number is not None
    assert number.value == 12


@pytest.mark.parametrize(
    "text", ["the product of the first 5 primes", "under 20", "Tom has 12 apples and 3 pears", "number 5", "不是5个"]
)
def test_a_statement_of_which_the_number_is_only_a_part(text: str) -> None:
    assert parse_statement(text) is None


def test_times_and_dates() -> None:
    assert parse_time("3:30 p.m.") == parse_time("3:30 PM") == (3, 30, 0, "p")
    assert parse_time("noon") == (12, 0, 0, "p")
    assert parse_time("8") is None
    assert parse_time("25:00") is None
    assert parse_date("July 4") == parse_date("the 4th of July") == (0, 7, 4, "")
    assert parse_date("3 May 2024") == parse_date("2024-05-03") == (2024, 5, 3, "")
    assert parse_date("Monday, May 3") == (0, 5, 3, "monday")
    assert parse_date("July") is None
    assert parse_date("June 99") is None
