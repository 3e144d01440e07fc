"""What is never dialled: emergency and premium numbers, whoever asks.

An agent that can be talked into dialling must not be able to call an ambulance, or a number that costs by the
minute and pays whoever holds it. The lists err towards refusing. They are no numbering plan: an operator adds
`never_dial` and, better, lets the trunk refuse too.
"""

import re
from typing import Final

_EMERGENCY: Final = frozenset(
    [
        *("000", "08", "15", "17", "18", "1122", "1155", "116000", "116111", "116117", "116123"),
        *(str(number) for number in range(100, 200)),
        *("900", "901", "902", "903", "904", "907", "910", "911", "912", "913", "914", "915", "917", "919"),
        *("922", "933", "977", "988", "991", "992", "993", "994", "995", "997", "998", "999"),
    ]
)
"""Of any country, crisis lines included."""
_PREMIUM: Final = (
    # International premium rate, shared-cost and satellite ranges, favourites of toll fraud.
    "979",
    "878",
    "881",
    "882",
    "883",
    "870",
    "888",
    # Premium rate within a country, by country code.
    *(
        "1900",
        "1976",
        "1809976",
        "3090",
        "31900",
        "31906",
        "31909",
        "3290",
        "3389",
        "34803",
        "34806",
        "34807",
    ),
    *("34905", "34907", "39144", "39166", "3989", "351601", "351607", "351608", "351646", "351760", "35315"),
    *("358600", "358700", "3690", "420900", "420906", "420909", "41900", "41901", "41906", "43900", "43901"),
    *("43930", "43931", "43939", "449", "44871", "44872", "44873", "4590", "46900", "46939", "46944", "4782"),
    *(
        "4870",
        "49137",
        "49190",
        "49900",
        "55900",
        "6119",
        "64900",
        "7809",
        "81990",
        "90888",
        "90898",
        "90900",
    ),
    *("97219", "972900"),
)
_NATIONAL: Final = ("0190", "0871", "0872", "0873", "09", "1900", "1976", "900", "976")
"""The same as dialled within some country. In another one 09 is a city: dialled as +... it is let through."""
_SHORTEST: Final = 8
"""Digits of a whole international number, country code included: what is shorter is a short code."""


def digits_of(target_user: str) -> str | None:
    """The number in the user part of a URI: digits, with a + where it is international. None for a name."""
    text = target_user.split(";")[0].split(",")[0]
    text = re.sub(r"[\s().\-/]", "", text)
    match = re.fullmatch(r"(\+?)([0-9*#]+)", text, re.ASCII)
    return match[0] if match is not None else None


def refusal(target_user: str, never_dial: tuple[str, ...] = ()) -> str | None:
    """Why this user part is not dialled; None where it may be. A name is no number."""
    number = digits_of(target_user)
    if number is None:
        # Letters may be dialled as keys somewhere: what looks like a number with letters in it is refused.
        dialled = re.sub(r"[^0-9]", "", target_user)
        return "an emergency number" if dialled in _EMERGENCY and len(dialled) >= 3 else None
    own = re.sub(r"[^0-9]", "", number)
    for banned in never_dial:
        if own.startswith(re.sub(r"[^0-9]", "", banned) or "none"):
            return "a number that the operator has barred"
    bare = number.lstrip("*#")
    international = ""
    for prefix, shortest in (("+", 0), ("00", 5), ("011", 6)):
        if bare.startswith(prefix) and not international and len(bare) >= shortest:
            international = re.sub(r"[^0-9]", "", bare.removeprefix(prefix))
    if international:
        if len(international) < _SHORTEST:
            return "a short code, such as an emergency number"
        # 0044...: a zero too many is no country.
        if international.startswith(_PREMIUM):
            return "a premium number"
    # With what an exchange wants before it (9, 0, *31#) or without.
    endings = {own, own.removeprefix("0"), own.removeprefix("9"), own.removeprefix("1")}
    if not _EMERGENCY.isdisjoint(endings | set(re.split(r"[*#+]", number))):
        return "an emergency number"
    if not international and len(own) >= 9 and own.startswith(_NATIONAL):
        return "a premium number in some countries; write it with + and the country code"
    return None
