"""Abbreviations and symbols in words."""

import re

_TITLES = {
    "Dr": "Doctor",
    "Mr": "Mister",
    "Mrs": "Missus",
    "Ms": "Miz",
    "Mx": "Mix",
    "Prof": "Professor",
    "Rev": "Reverend",
    "Fr": "Father",
    "Hon": "Honorable",
    "Gen": "General",
    "Col": "Colonel",
    "Capt": "Captain",
    "Lt": "Lieutenant",
    "Sgt": "Sergeant",
    "Sen": "Senator",
    "Rep": "Representative",
    "Gov": "Governor",
    "Pres": "President",
    "St": "Saint",
    "Mt": "Mount",
    "Ft": "Fort",
}
_STREETS = {
    "St": "Street",
    "Ave": "Avenue",
    "Rd": "Road",
    "Blvd": "Boulevard",
    "Ln": "Lane",
    "Dr": "Drive",
    "Hwy": "Highway",
    "Pkwy": "Parkway",
    "Sq": "Square",
    "Ct": "Court",
    "Pl": "Place",
}
_DOTTED = {
    "e.g.": "for example",
    "i.e.": "that is",
    "etc.": "et cetera",
    "approx.": "approximately",
    "vs.": "versus",
    "ext.": "extension",
    "Ext.": "Extension",
    "dept.": "department",
    "Dept.": "Department",
    "apt.": "apartment",
    "Apt.": "Apartment",
    "Ste.": "Suite",
    "Bldg.": "Building",
    "bldg.": "building",
    "Rm.": "Room",
    "rm.": "room",
    "appt.": "appointment",
    "appts.": "appointments",
    "min.": "minimum",
    "max.": "maximum",
    "avg.": "average",
    "incl.": "including",
    "excl.": "excluding",
    "tel.": "telephone",
    "Tel.": "Telephone",
    "est.": "established",
    "Inc.": "Incorporated",
    "Ltd.": "Limited",
    "Corp.": "Corporation",
    "Co.": "Company",
    "Jr.": "Junior",
    "Sr.": "Senior",
    "a.k.a.": "also known as",
    "Ph.D.": "P H D",
    "vol.": "volume",
    "Vol.": "Volume",
    "fig.": "figure",
    "Fig.": "Figure",
    "misc.": "miscellaneous",
    "univ.": "university",
    "Univ.": "University",
    "Ave.": "Avenue",
    "Blvd.": "Boulevard",
    "Rd.": "Road",
    "Ln.": "Lane",
    "Hwy.": "Highway",
    "Pkwy.": "Parkway",
    "P.S.": "P S",
    "cf.": "compare",
    "Rx": "prescription",
    "info.": "information",
}
_PLAIN = {
    "e.g": "for example",
    "i.e": "that is",
    "etc": "et cetera",
    "vs": "versus",
    "approx": "approximately",
    "appt": "appointment",
    "dept": "department",
    "w/o": "without",
    "w/": "with ",
    "N/A": "not available",
    "n/a": "not available",
    "and/or": "and or",
    "C#": "C sharp",
    "c/o": "care of",
}

_TITLE = re.compile(rf"\b({'|'.join(_TITLES)})\b(?:\. ?| )(?=[A-Z])")
_STREET = re.compile(rf"(?<=[\w'] )({'|'.join(_STREETS)})\b(\.?)(?=\s|[,;:!?)]|$)")
_DOTTED_ANY = re.compile(
    rf"(?<![\w.])({'|'.join(re.escape(short) for short in sorted(_DOTTED, key=len, reverse=True))})(?!\w)"
)
_PLAIN_ANY = re.compile(
    rf"(?<![\w./])({'|'.join(re.escape(short) for short in sorted(_PLAIN, key=len, reverse=True))})"
    r"(?:(?<=/)|(?![\w/]))"
)
_LETTERS = re.compile(r"(?<![\w.])((?:[A-Za-z]\.){2,})(?!\w)")
_LETTERS_OPEN = re.compile(r"(?<![\w.])((?:[A-Z]\.){1,5}[A-Z])(?![\w.])")
_ROMAN = re.compile(
    r"\b(Chapter|Part|Section|Volume|Act|Phase|Type|Level|Stage|Class|Grade|Book)"
    r" (I{1,3}|IV|VI{0,3}|IX|X)\b(?!')"
)
_ROMAN_VALUES = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X")

_SYMBOLS = {
    "&": " and ",
    "@": " at ",
    "=": " equals ",
    "+": " plus ",
    "%": " percent ",
    "°": " degrees ",
    "≤": " at most ",
    "≥": " at least ",
    "≈": " about ",
    "±": " plus or minus ",
    "×": " times ",
    "÷": " divided by ",
    "→": " to ",
    "§": " section ",
    "$": " dollars ",
    "£": " pounds ",
    "€": " euros ",
    "¥": " yen ",
    "¢": " cents ",
    "₹": " rupees ",
    "₩": " won ",
    "µ": " micro ",
    "μ": " micro ",
}
_COMPARED = {"~": "about ", "<": "less than ", ">": "more than ", "<=": "at most ", ">=": "at least "}
_COMPARISON = re.compile(r"(<=|>=|[~<>])\s?(?=[-+.$£€]?\w)")
_OR = re.compile(r"(?<=[^\W\d_])\s?/\s?(?=[^\W\d_])")


def speak_comparisons(text: str) -> str:
    """Before numbers lose their digits: `<5`, `~20`, `>=3`."""
    return _COMPARISON.sub(lambda found: f" {_COMPARED[found[1]]}", text)


def speak_abbreviations(text: str) -> str:
    text = _STREET.sub(_street, text)
    text = _TITLE.sub(lambda found: f"{_TITLES[found[1]]} ", text)
    text = _DOTTED_ANY.sub(lambda found: _DOTTED[found[1]] + _stop(found), text)
    text = _PLAIN_ANY.sub(lambda found: _PLAIN[found[1]], text)
    text = _ROMAN.sub(_roman, text)
    text = _LETTERS.sub(_letters, text)
    return _LETTERS_OPEN.sub(lambda found: found[1].replace(".", " "), text)


def speak_symbols(text: str) -> str:
    text = _OR.sub(" or ", text)
    return "".join(_SYMBOLS.get(char, char) for char in text)


def _stop(found: re.Match[str]) -> str:
    """The abbreviation's point also ended the sentence, where nothing or a capital follows."""
    if not found[0].endswith("."):
        return ""
    rest = found.string[found.end() :].lstrip(" \"')")
    return (
        "."
        if not rest
        or (rest[0].isupper() and found[1] not in ("e.g.", "i.e.", "vs.", "approx.", "a.k.a.", "ext."))
        else ""
    )


def _street(found: re.Match[str]) -> str:
    """`St` and `Dr` before a name are a saint and a doctor, after one a street and a drive."""
    before = found.string[: found.start()].split()
    after = found.string[found.end() :].lstrip()
    named = bool(before) and (before[-1][:1].isupper() or before[-1][-2:] in ("st", "nd", "rd", "th"))
    ambiguous = found[1] in ("St", "Dr")
    if not named or (not found[2] and found[1] in ("Pl", "Ct")):
        return found[0]
    if ambiguous and after[:1].isupper() and (len(before) == 1 or before[-1].endswith((".", ",", "!", "?"))):
        return found[0]
    if found[1] == "Dr" and after[:1].isupper() and found[2]:
        return found[0]
    stop = "." if found[2] and (not after or after[:1].isupper()) else ""
    return _STREETS[found[1]] + stop


def _roman(found: re.Match[str]) -> str:
    from pipeline.speakable import words

    return f"{found[1]} {words.cardinal(_ROMAN_VALUES.index(found[2]))}"


def _letters(found: re.Match[str]) -> str:
    """`U.S.` letter by letter; `A.M.` and `P.M.` keep their points, which make the voice spell them."""
    if found[1] in ("A.M.", "P.M."):
        return found[1]
    spelt = " ".join(found[1].upper().replace(".", " ").split())
    return spelt + _stop(found)
