"""Times of day and dates."""

from __future__ import annotations

import re
from typing import NamedTuple

from .typography import plain
from .words import MONTHS, WEEKDAYS

_TIME = re.compile(
    r"(?:at\s+)?(?P<hour>\d{1,2})(?::(?P<minute>\d\d)(?::(?P<second>\d\d))?)?\s*(?:(?P<half>[ap])\.?\s?m\b\.?)?"
    r"(?:\s*(?P<clock>o'clock))?(?:\s*(?:in the\s+(?P<part>morning|afternoon|evening)))?"
    rf"(?:\s*,?\s*(?:on\s+)?(?:{'|'.join(WEEKDAYS)}))?",
    re.IGNORECASE,
)
_CHINESE_TIME = re.compile(r"(?P<part>上午|下午|早上|晚上)?(?P<hour>\d{1,2})(?:[点时:](?P<minute>\d\d)?分?)")
_NAMES = {"noon": "12:00 pm", "12 noon": "12:00 pm", "midnight": "12:00 am", "12 midnight": "12:00 am"}
_MONTH = "|".join(sorted(MONTHS, key=len, reverse=True))
_DAY = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_DATES = [
    re.compile(rf"(?P<month>{_MONTH})\.?\s+(?:the\s+)?{_DAY}(?:\s*,?\s+(?P<year>\d{{4}}))?", re.IGNORECASE),
    re.compile(rf"(?:the\s+)?{_DAY}\s+(?:of\s+)?(?P<month>{_MONTH})\.?(?:\s*,?\s+(?P<year>\d{{4}}))?", re.IGNORECASE),
    re.compile(rf"(?P<month>{_MONTH})\.?\s*,?\s+(?P<year>\d{{4}})", re.IGNORECASE),
    re.compile(r"(?P<year>\d{4})[-/.](?P<month>\d{1,2})[-/.](?P<day>\d{1,2})"),
    re.compile(r"(?:(?P<year>\d{4})年)?(?P<month>\d{1,2})月(?P<day>\d{1,2})[日号]"),
]


class Time(NamedTuple):
    """A time of day. `half` is "a" or "p", or empty where the text doesn't say."""

    hour: int
    minute: int
    second: int
    half: str


class Date(NamedTuple):
    """A date; 0 stands for a part that the text doesn't give."""

    year: int
    month: int
    day: int
    weekday: str = ""


def parse_time(text: str) -> Time | None:
    """The time of day that the text is (3:30, 3:30 p.m., 7 am, noon); None for others."""
    text = plain(text).strip()
    text = _NAMES.get(text.casefold(), text)
    match = _TIME.fullmatch(text)
    if match and (match["minute"] or match["half"] or match["clock"] or match["part"]):
        half = (match["half"] or {"morning": "a", "": ""}.get((match["part"] or "").casefold(), "p")).casefold()
        found = Time(int(match["hour"]), int(match["minute"] or 0), int(match["second"] or 0), half)
    elif match := _CHINESE_TIME.fullmatch(text):
        half = {"上": "a", "早": "a", "下": "p", "晚": "p"}.get((match["part"] or " ")[0], "")
        found = Time(int(match["hour"]), int(match["minute"] or 0), 0, half)
    else:
        return None
    return found if found.hour <= 24 and found.minute < 60 and found.second < 60 else None


def times_equal(wanted: Time, given: Time) -> bool:
    """Whether two times are equal: 15:30 is 3:30 p.m. A gold answer without a.m. or p.m. matches either."""
    if wanted[1:3] != given[1:3]:
        return False
    if given.half and not wanted.half and wanted.hour <= 12:
        return wanted.hour % 12 == given.hour % 12
    if wanted.half and not given.half and 0 < given.hour <= 12:
        return False  # a gold answer of 3:30 a.m. requires the a.m.
    return _hour(wanted) == _hour(given)


def _hour(time: Time) -> int:
    return time.hour % 12 + 12 * (time.half == "p") if time.half and time.hour <= 12 else time.hour % 24


def parse_date(text: str) -> Date | None:
    """The date that the text is (July 4, 4 July 2024, 2024-07-04); None for others."""
    text = plain(text)
    lead = re.match(rf"(?:on\s+)?(?:({'|'.join(WEEKDAYS)})\s*,?\s+)?(?:on\s+)?", text, re.IGNORECASE)
    weekday, text = ((lead[1] or "").casefold(), text[lead.end() :]) if lead else ("", text)
    for form in _DATES:
        if match := form.fullmatch(text):
            parts = match.groupdict()
            month = parts["month"].casefold()
            date = Date(
                int(parts["year"] or 0), int(MONTHS.get(month, 0) or month), int(parts.get("day") or 0), weekday
            )
            return date if 1 <= date.month <= 12 and date.day <= 31 else None
    return None


def dates_equal(wanted: Date, given: Date) -> bool:
    """Whether the dates are equal. Where the gold answer has no year, the answer may have one, and either a weekday."""
    if wanted.weekday and given.weekday and wanted.weekday != given.weekday:
        return False
    return (wanted.month, wanted.day) == (given.month, given.day) and wanted.year in (0, given.year)
