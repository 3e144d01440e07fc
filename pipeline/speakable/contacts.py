"""How one reaches people: web and mail addresses, telephone numbers."""

import re

from pipeline.speakable import words

_TOP_LEVEL = (
    "com|org|net|edu|gov|info|biz|io|ai|app|dev|health|clinic|care|co|uk|us|ca|au|nz|ie|de|fr|eu|test|example"
)
_MAIL = re.compile(r"(?<![\w@])(?:mailto:)?([\w.+%-]{1,64})@([\w-]{1,63}(?:\.[\w-]{1,63}){1,6})")
_URL = re.compile(
    r"(?<![\w@.])(?:(?:https?|ftp|wss?)://(?:www\.)?|www\.)([^\s<>\"'()]{1,2000})"
    rf"|(?<![\w@.])((?:[a-zA-Z0-9-]{{1,63}}\.){{1,5}}(?:{_TOP_LEVEL})(?![\w-])(?!\.\w)(?:/[^\s<>\"'()]{{0,500}})?)"
)
_SPELT_DOMAINS = frozenset(["uk", "us", "ca", "au", "nz", "ie", "de", "fr", "eu", "io", "ai", "edu"])
_MARKS = {".": " dot ", "/": " slash ", "-": " dash ", "_": " underscore ", "+": " plus ", "~": " tilde "}
_LONGEST_SPOKEN_PATH = 30

_PHONE = re.compile(
    r"(?<![\w.,/$£€:#-])(?:(\+)\s?)?(?=[\d(])"
    r"((?:\d{1,3}[ .-])?(?:\(\d{1,5}\)[ .-]?)?\d{2,5}(?:[ .-]\d{2,6}){0,4})"
    r"(?:,? ?(?:ext\.?|extension|x) ?(\d{1,6}))?(?![\w/%:])(?![.,-]\d)"
)
_TEN_DIGITS = re.compile(r"(?<![\w.,/$£€:#+-])(\d{3})(\d{3})(\d{4})(?![\w/%-]|[.,]\d)")
_EMERGENCY = re.compile(
    r"\b((?:call|dial|phone|text|ring)(?:ing|ed)?) (?:9-1-1|(911|999|112|988|811|411|311|211|101|111))\b",
    re.I,
)
_DIGITS_AFTER = re.compile(
    r"\b((?:extension|ext|zip(?: code)?|post(?:al)? ?code|pin|passcode|code|password|account|confirmation"
    r"|reference|member(?:ship)?|policy|serial|tracking)(?: number| no\.?| code)?(?: is| was|:)? ?#?)[ .]?"
    r"(\d{3,16})\b(?!\.\d|,\d)",
    re.I,
)
_STATE_ZIP = re.compile(r"\b([A-Z]{2}) (\d{5})(?:-(\d{4}))?\b(?![\d,.]\d)")


def speak_contacts(text: str) -> str:
    text = _MAIL.sub(lambda found: f"{_spell(found[1])} at {_domain(found[2])}", text)
    text = _URL.sub(_url, text)
    text = _EMERGENCY.sub(lambda found: f"{found[1]} {words.digits(found[2] or '911')}", text)
    text = _DIGITS_AFTER.sub(lambda found: f"{found[1].rstrip('#. ')} {words.digits(found[2])}", text)
    text = _STATE_ZIP.sub(_state_zip, text)
    text = _TEN_DIGITS.sub(r"\1-\2-\3", text)
    return _PHONE.sub(_phone, text)


def _state_zip(found: re.Match[str]) -> str:
    more = f", {words.digits(found[3])}" if found[3] else ""
    return f"{' '.join(found[1])} {words.digits(found[2])}{more}"


def _spell(text: str) -> str:
    """Letters as words, digits one by one, marks by name."""
    spoken = "".join(
        _MARKS.get(char, f" {words.digits(char)} " if char.isdecimal() else char) for char in text
    )
    return " ".join(re.sub(r"[^\w\s]", " ", spoken).split())


def _domain(text: str) -> str:
    *names, top = text.split(".")
    tail = " ".join(top.upper()) if top.casefold() in _SPELT_DOMAINS else _spell(top)
    return " dot ".join([*(_spell(name) for name in names), tail])


def _url(found: re.Match[str]) -> str:
    address = found[1] or found[2]
    trailing = re.search(r"[.,;:!?]*$", address)
    end = trailing[0] if trailing else ""
    address = address[: len(address) - len(end)]
    host, _, path = re.split(r"[?#]", address, maxsplit=1)[0].partition("/")
    host = host.rpartition("@")[2]
    name, _, port = host.partition(":")
    spoken = _domain(name) if name else ""
    if port:
        spoken += f" port {words.digits(port)}"
    path = path.strip("/")
    if path and len(path) <= _LONGEST_SPOKEN_PATH:
        spoken += f" slash {_spell(path)}"
    return spoken + end


def _phone(found: re.Match[str]) -> str:
    groups = re.findall(r"\d+", found[2])
    if not _is_phone(found[2], groups, international=bool(found[1]), extension=bool(found[3])):
        return found[0]
    spoken = ", ".join(words.digits(group) for group in groups)
    if found[1]:
        spoken = f"plus {spoken}"
    return f"{spoken}, extension {words.digits(found[3])}" if found[3] else spoken


def _is_phone(text: str, groups: list[str], *, international: bool, extension: bool) -> bool:
    count = sum(map(len, groups))
    if not 7 <= count <= 15:
        return False
    if international or extension or "(" in text:
        return True
    sizes = [len(group) for group in groups]
    if len(groups) == 1:
        return False
    if sizes in ([4, 4], [4, 2, 2], [2, 2, 4]) or (len(groups) == 2 and sizes != [3, 4]):
        return False  # a range of years, a date, a decimal, a pair of numbers
    if "." in text:
        return sizes[-3:] == [3, 3, 4]
    if " " in text:
        return groups[0].startswith("0") or sizes[-2:] == [3, 4]
    return True
