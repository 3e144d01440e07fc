"""Numbers that may be dialled at all: real ones, that cost what a call costs. Pure.

Numbering plans are those of Google's libphonenumber. Emergency services are never dialled by a machine;
premium and shared-cost numbers, satellites and short codes are how a stolen key earns money.
"""

from typing import Final

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberType

_REFUSED: Final = {
    PhoneNumberType.PREMIUM_RATE: "a premium-rate number",
    PhoneNumberType.SHARED_COST: "a shared-cost number",
    PhoneNumberType.PAGER: "a pager",
    PhoneNumberType.UAN: "a company-wide access number",
    PhoneNumberType.PERSONAL_NUMBER: "a personal number, which costs what its owner likes",
}
_NO_COUNTRY: Final = "001"
"""libphonenumber's region of satellites and other networks that belong to no country."""
_EMERGENCY: Final = frozenset(
    {"000", "08", "100", "101", "102", "103", "110", "111", "112", "113", "114", "115", "117", "118", "119"}
    | {"911", "988", "999"}
)


class NotDialable(Exception):
    """This number is not dialled. `reason` says why, in words for the operator."""

    def __init__(self, number: str, reason: str) -> None:
        super().__init__(f"{number!r} is not dialled: {reason}")
        self.reason = reason


def dialable(number: str) -> str:
    """`number` in E.164 form, such as +12025550123. Raises `NotDialable`."""
    bare = "".join(number.split())
    if bare.lstrip("+") in _EMERGENCY:
        raise NotDialable(number, "it is an emergency number")
    try:
        parsed = phonenumbers.parse(number, None)
    except NumberParseException:
        raise NotDialable(number, "write it with + and the country's code, such as +12025550123") from None
    if parsed.extension:
        raise NotDialable(number, "it has an extension; dial the number, then press the keys")
    if not phonenumbers.is_possible_number(parsed):
        raise NotDialable(number, "no number of that country has this length")
    kind = phonenumbers.number_type(parsed)
    if kind in _REFUSED:
        raise NotDialable(number, f"it is {_REFUSED[kind]}")
    if not phonenumbers.is_valid_number(parsed):
        raise NotDialable(number, "no such number is given out in that country")
    if phonenumbers.region_code_for_number(parsed) == _NO_COUNTRY:
        raise NotDialable(number, "it belongs to no country: satellites and the like cost what they like")
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))
