"""Dates and times of day."""

import re

from pipeline.speakable import words

_MONTHS = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]
_DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_MONTH_BY_PREFIX = {name[:3].casefold(): name for name in _MONTHS}
_DAY_BY_PREFIX = {name[:3].casefold(): name for name in _DAYS}
_MONTH = (
    r"(Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?"
    r"|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?|JAN|FEB|MAR|APR|MAY|JUNE?|JULY?|AUG|SEPT?|OCT|NOV|DEC)"
)
_DASH = r"\s?[-–—]\s?"
_ORDINAL = r"(?:st|nd|rd|th)?"
_OF_YEAR = r"(?:(,?) (\d{4})(?![\w,]|\.\d))?"

_ISO = re.compile(
    r"(?<![\w-])(\d{4})-(\d{2})-(\d{2})(?:[T ](\d{2}):(\d{2})(?::\d{2}(?:\.\d+)?)?Z?)?(?![\w-])"
)
_NUMERIC = re.compile(r"(?<![\w/.])(\d{1,2})([/.])(\d{1,2})\2(\d{4}|\d{2})(?![\w/]|\.\d)")
_SHORT = re.compile(
    r"\b(on|by|until|till|since|from|before|after|due|dated|through|of|for|to|Mon|Tues?|Wed|Thurs?|Fri|Sat|Sun"
    r"|Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)(,? )(\d{1,2})/(\d{1,2})(?![\w/]|\.\d)"
)
_MONTH_DAY = re.compile(
    rf"\b{_MONTH}\.? (\d{{1,2}}){_ORDINAL}(?:{_DASH}(\d{{1,2}}){_ORDINAL})?(?![\w%:/]|\.\d|,\d){_OF_YEAR}"
)
_DAY_MONTH = re.compile(
    rf"\b(the )?(\d{{1,2}}){_ORDINAL}(?:{_DASH}(\d{{1,2}}){_ORDINAL})? (of )?{_MONTH}\b\.?{_OF_YEAR}"
)
_MONTH_YEAR = re.compile(rf"\b{_MONTH}\.?,? (?:of )?((?:19|20)\d\d)(?![\w,]|\.\d)")
_MONTH_ALONE = re.compile(
    r"\b((?:in|since|until|till|by|of|this|last|next|from|early|late|mid|through|to|and) )"
    r"(Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?(?=(\s*$)?)"
)
_MONTH_RANGE = re.compile(rf"\b{_MONTH}\.?{_DASH}{_MONTH}\b\.?")

_DAY_SHORT = r"(Mon|Tues?|Wed(?:s|nes)?|Thu(?:rs?)?|Fri|Sat|Sun)"
_DAY_ANY = (
    r"(Mon(?:day)?|Tue(?:s(?:day)?)?|Wed(?:s|nesday)?|Thu(?:r(?:s(?:day)?)?)?|Fri(?:day)?|Sat(?:urday)?"
    r"|Sun(?:day)?)s?"
)
_DAY_RANGE = re.compile(rf"\b{_DAY_ANY}\b\.?{_DASH}{_DAY_ANY}\b(\.(?=\s*[a-z\d,:(]))?")
_DAY_ALONE = re.compile(
    rf"\b(?<![Tt]he ){_DAY_SHORT}\b(?:(\.)|(?=\s?(?:&|/|,|;|:|\d|and |to |through |at |from )))(?=(\s*$)?)"
)
_DAY_UNAMBIGUOUS = re.compile(r"\b(Mon|Tues?|Wed|Thurs?|Thu|Fri)\b(?!\.)")

_HALF = r"([AaPp])\.? ?[Mm]\b(\.?)"
_CLOCK = re.compile(rf"(?<![\w:.,/$£€])(\d{{1,2}})[:.](\d\d)(?::(\d\d))?\s?{_HALF}")
_CLOCK_24 = re.compile(r"(?<![\w:.,/$£€])(\d{1,2}):(\d\d)(?::(\d\d))?(?![\w:]|\.\d)(?: ?(?:h|hrs|hours)\b)?")
_HOUR = re.compile(rf"(?<![\w:.,/$£€])(\d{{1,2}})\s?{_HALF}")
_OCLOCK = re.compile(r"(?<![\w:.,])(\d{1,2}) ?o'?clock\b", re.I)
_CLOCK_RANGE = re.compile(
    r"(?<![\w:.,/$£€-])(\d{1,2}(?:[:.]\d\d)?(?:\s?[AaPp]\.?[Mm]\.?)?)\s?[-–—]\s?(\d{1,2}(?:[:.]\d\d)?\s?[AaPp]\.?[Mm]\b|\d{1,2}:\d\d)"
)


def speak_moments(text: str) -> str:
    text = _ISO.sub(_iso, text)
    text = _NUMERIC.sub(_numeric, text)
    text = _CLOCK_RANGE.sub(_clock_range, text)
    text = _CLOCK.sub(_clock, text)
    text = _CLOCK_24.sub(_clock_24, text)
    text = _HOUR.sub(_hour, text)
    text = _OCLOCK.sub(lambda found: f"{words.cardinal(int(found[1]))} o'clock", text)
    text = _SHORT.sub(_short, text)
    text = _MONTH_RANGE.sub(lambda found: f"{_month(found[1])} to {_month(found[2])}", text)
    text = _MONTH_DAY.sub(_month_day, text)
    text = _DAY_MONTH.sub(_day_month, text)
    text = _MONTH_YEAR.sub(lambda found: f"{_month(found[1])} {words.year(int(found[2]))}", text)
    text = _MONTH_ALONE.sub(_month_alone, text)
    text = _DAY_RANGE.sub(lambda found: f"{_day(found[1])} to {_day(found[2])}", text)
    text = _DAY_ALONE.sub(_day_alone, text)
    return _DAY_UNAMBIGUOUS.sub(lambda found: _day(found[1]), text)


def _month(text: str) -> str:
    return _MONTH_BY_PREFIX[text[:3].casefold()]


def _day(text: str) -> str:
    return _DAY_BY_PREFIX[text[:3].casefold()]


def _date(month: int, day: int, year: int | None) -> str | None:
    if not (1 <= month <= 12 and 1 <= day <= 31):
        return None
    spoken = f"{_MONTHS[month - 1]} {words.ordinal(day)}"
    return spoken if year is None else f"{spoken}, {words.year(year)}"


def _iso(found: re.Match[str]) -> str:
    spoken = _date(int(found[2]), int(found[3]), int(found[1]))
    if spoken is None:
        return found[0]
    return f"{spoken}, {found[4]}:{found[5]}" if found[4] else spoken


def _numeric(found: re.Match[str]) -> str:
    """Month first, as in the United States, unless it cannot be a month; with points the day comes first."""
    first, second, year = int(found[1]), int(found[3]), int(found[4])
    if len(found[4]) == 2:
        year += 2000 if year < 50 else 1900
    if first > 12 or found[2] == ".":
        first, second = second, first
    return _date(first, second, year) or found[0]


def _short(found: re.Match[str]) -> str:
    first, second = int(found[3]), int(found[4])
    if first > 12:
        first, second = second, first
    spoken = _date(first, second, None)
    return f"{found[1]}{found[2]}{spoken}" if spoken else found[0]


def _month_day(found: re.Match[str]) -> str:
    day, until = int(found[2]), int(found[3] or 1)
    if not (1 <= day <= 31 and 1 <= until <= 31):
        return found[0]
    spoken = f"{_month(found[1])} {words.ordinal(day)}"
    if found[3]:
        spoken += f" to {words.ordinal(until)}"
    return f"{spoken}, {words.year(int(found[5]))}" if found[5] else spoken


def _day_month(found: re.Match[str]) -> str:
    day, until = int(found[2]), int(found[3] or 1)
    if not (1 <= day <= 31 and 1 <= until <= 31):
        return found[0]
    spoken = f"the {words.ordinal(day)}"
    if found[3]:
        spoken += f" to the {words.ordinal(until)}"
    spoken += f" of {_month(found[5])}"
    return f"{spoken}, {words.year(int(found[7]))}" if found[7] else spoken


def _month_alone(found: re.Match[str]) -> str:
    ends = found[0].endswith(".") and found[3] is not None
    return f"{found[1]}{_month(found[2])}{'.' if ends else ''}"


def _day_alone(found: re.Match[str]) -> str:
    return _day(found[1]) + ("." if found[2] and found[3] is not None else "")


def _half(letter: str, point: str, found: re.Match[str]) -> str:
    """`A.M.`: the points make a voice spell it. A full stop that ended the sentence ends it still."""
    return f"{letter.upper()}.M."


def _minutes(hour: int, minute: int) -> str:
    spoken = words.cardinal(hour)
    if minute:
        spoken += f" {f'oh {words.cardinal(minute)}' if minute < 10 else words.cardinal(minute)}"
    return spoken


def _clock_range(found: re.Match[str]) -> str:
    """`9:00-17:00` is from nine in the morning, as the afternoon of its end tells."""
    start, until = found[1], found[2]
    if re.fullmatch(r"\d{1,2}:\d\d", start) and re.match(r"(?:1[3-9]|2[0-3]):\d\d$", until):
        start += " AM" if 0 < int(start.split(":")[0]) < 12 else ""
    return f"{start} to {until}"


def _clock(found: re.Match[str]) -> str:
    hour, minute = int(found[1]), int(found[2])
    if hour > 12 or minute > 59:
        return found[0]
    return f"{_minutes(hour, minute)} {_half(found[4], found[5], found)}"


def _clock_24(found: re.Match[str]) -> str:
    """Hours from 13 are said as P.M.; callers in the United States do not use the 24-hour clock."""
    hour, minute, second = int(found[1]), int(found[2]), int(found[3] or 0)
    if hour > 24 or minute > 59 or second > 59:
        return found[0]
    half = ""
    if hour > 12 or (hour == 0 and len(found[1]) == 2):
        half = " P.M." if 12 < hour < 24 else " A.M."
        hour = hour % 12 or 12
    spoken = _minutes(hour, minute)
    if not minute and not half:
        spoken += " o'clock"
    if second:
        spoken += f" and {words.cardinal(second)} {'second' if second == 1 else 'seconds'}"
    return spoken + half


def _hour(found: re.Match[str]) -> str:
    hour = int(found[1])
    return f"{words.cardinal(hour)} {_half(found[2], found[3], found)}" if hour <= 12 else found[0]
