"""Telephone numbers in log lines: known by their form, and masked but for their ends. Pure.

Known are numbers with + or 00, those of North America, those with the 0 that is dialled for another area, the
seven digits of one area (555-0123), ten digits and more in a row, and whatever is said to be a number
(`From=`, `tel:`). Signs may be written as %XX, once or twice (RFC 3986). What may be a number is masked,
unless it is a moment, has a unit behind it, or belongs to an id.
"""

import re
from typing import Final

_SIGNS: Final = r"%(?:25)?(?:20|28|29|2D|2E|2F)|[ .()/+-]"
"""Between digits; `+` is a space in forms."""
_GAP: Final = rf"(?:{_SIGNS}){{0,3}}"
_ALONE: Final = r"(?:(?<![\w.+%-])|(?<=%[0-9A-F]{2})|(?<=%25[0-9A-F]{2}))"
"""Not within a word, an id, a decimal fraction or a date. Digits of a %XX are not the number's."""
_OVER: Final = r"(?![\w-]|\.\d)"
_COUNTED: Final = (
    r"(?!\s?(?:[kKMG]i?B|B|bytes?|bits?|[mnuµ]?s|seconds?|k?Hz|samples?|tokens?|packets?|rows?)\b)"
)
"""What is followed by its unit is nobody's number."""

_ENOUGH = re.compile(rf"\d(?:{_GAP}\d){{4}}", re.IGNORECASE)
"""No number has fewer digits; most lines have no more than their time."""

_INTERNATIONAL = re.compile(
    r"(?:(?<!\d)\+|%(?:25)?2B)(?:"
    r"\d{7,15}(?!\d)"
    # In groups: behind them may follow a time, or a fraction with its unit.
    rf"|[1-9](?:{_GAP}\d){{6,14}}(?![:.]?\d|\s?m?s\b))",
    re.IGNORECASE,
)
# (202) 555-0123, 202-555-0123, 1.202.555.0123, 202-5550123; but a status and a size, 200 5550123, is none.
_NORTH_AMERICAN = re.compile(
    rf"{_ALONE}(?:1(?:[ .+-]|%20))?"
    r"(?:(?:\(\d{3}\)|%(?:25)?28\d{3}%(?:25)?29)(?:[ .+-]|%20)?\d{3}(?:[ .+-]|%20)?"
    r"|\d{3}-\d{3}[ .-]?|\d{3}(?:[ .+]|%20)\d{3}(?:[ .+-]|%20))"
    rf"\d{{4}}{_OVER}{_COUNTED}",
    re.IGNORECASE,
)
# (020) 7946 0958, 07700 900123, 00 44 20 7946 0958.
_TRUNK = re.compile(
    r"(?:(?<![\w.+:%-])(?<!\d/)|(?<=%[0-9A-F]{2})|(?<=%25[0-9A-F]{2}))"
    rf"(?:\(|%(?:25)?28)?0(?:-|0[ -]?)?[1-9]\d{{0,4}}(?=\D)(?:{_GAP}\d){{3,13}}(?![\w:]|-\w|\.\d){_COUNTED}",
    re.IGNORECASE,
)
_FEWEST_WITH_TRUNK: Final = 9
"""Digits: a date has eight."""
_LOCAL = re.compile(rf"{_ALONE}[2-9]\d{{2}}-\d{{4}}{_OVER}(?!/\d|:\d){_COUNTED}", re.IGNORECASE)
_RANGE = re.compile(
    r"(?:bytes?|range|lines?|pages?|ports?|samples?|turns?|rows?|steps?)[\s:=\[(]*$", re.IGNORECASE
)
"""Before two numbers that are the ends of something."""
_RANGE_REACH: Final = 12
_BARE = re.compile(rf"{_ALONE}\d{{10,15}}{_OVER}{_COUNTED}", re.IGNORECASE)
_MOMENT = re.compile(r"(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:[01]\d|2[0-3])[0-5]\d[0-5]\d")
"""20261128050000: no number of 14 digits begins so, for those of Egypt (+20) have 12."""
_ADDRESSED = re.compile(
    r"(?:(?<=sip[:/])|(?<=sips:)|(?<=tel:)|(?<=sip%3A)|(?<=sips%3A)|(?<=tel%3A))\d{5,15}(?![\w.])|"
    r"(?:(?<=sip[:/])|(?<=sips:)|(?<=sip%3A)|(?<=sips%3A))\d{5,15}(?=@|%40)",
    re.IGNORECASE,
)
_CALLED_SO = re.compile(
    r"(?:\b(?:[Cc]aller|[Cc]alled|[Cc]allee|phone|msisdn)(?:_number)?|[?&]number|\b(?:From|To)(?==|%3D))"
    r"['\"]?\s*(?:[:=]|%3D)\s*['\"]?"
    rf"(?P<number>(?:\(|%28)?\d(?:{_GAP}\d){{4,14}})(?![\w:]|\.\d)"
)
_TOKEN = re.compile(r"%(?:25)?[0-9A-Fa-f]{2}|\d")
"""A digit of a number, or a sign that is written with digits."""


def mask_numbers(line: str) -> str:
    """`line` with `+12*******23` for `+12025550123`: the first digits tell the country, the last ones one
    caller from another."""
    if _ENOUGH.search(line) is None:
        return line
    line = _INTERNATIONAL.sub(_mask, line)
    line = _NORTH_AMERICAN.sub(_mask, line)
    line = _TRUNK.sub(_mask_trunk, line)
    if "-" in line:
        line = _LOCAL.sub(_mask_local, line)
    line = _ADDRESSED.sub(_mask, line)
    line = _CALLED_SO.sub(_mask_named, line)
    return _BARE.sub(_mask_bare, line)


def _masked(number: str) -> str:
    """All digits but the first two and the last two."""
    places = [token.start() for token in _TOKEN.finditer(number) if len(token.group()) == 1]
    hidden = set(places[2:-2])
    return "".join("*" if at in hidden else character for at, character in enumerate(number))


def _mask(found: re.Match[str]) -> str:
    return _masked(found.group())


def _mask_trunk(found: re.Match[str]) -> str:
    number = found.group()
    digits = sum(len(token) == 1 for token in _TOKEN.findall(number))
    return _masked(number) if digits >= _FEWEST_WITH_TRUNK else number


def _mask_local(found: re.Match[str]) -> str:
    before = found.string[max(0, found.start() - _RANGE_REACH) : found.start()]
    return found.group() if _RANGE.search(before) else _masked(found.group())


def _mask_named(found: re.Match[str]) -> str:
    return found.group()[: found.start("number") - found.start()] + _masked(found["number"])


def _mask_bare(found: re.Match[str]) -> str:
    number = found.group()
    return number if _MOMENT.fullmatch(number) else _masked(number)
