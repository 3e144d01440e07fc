"""Money, measures, fractions, ranges, and at last every number that is still written in digits."""

import re

from pipeline.speakable import words

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+"
_TO = r"\s?[-–—]\s?|\s+to\s+"
_SCALES = {
    "k": "thousand",
    "m": "million",
    "mn": "million",
    "b": "billion",
    "bn": "billion",
    "t": "trillion",
    "tn": "trillion",
}
_SCALE = r"(?:\s?(hundred|thousand|million|billion|trillion)\b|(k|K|m|M|mn|b|B|bn|tn|T)\b)?"
_CURRENCIES = {
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "", ""),
    "₹": ("rupee", "rupees", "paisa", "paise"),
    "₩": ("won", "won", "", ""),
    "¢": ("cent", "cents", "", ""),
    "USD": ("dollar", "dollars", "cent", "cents"),
    "GBP": ("pound", "pounds", "penny", "pence"),
    "EUR": ("euro", "euros", "cent", "cents"),
    "CAD": ("Canadian dollar", "Canadian dollars", "cent", "cents"),
    "AUD": ("Australian dollar", "Australian dollars", "cent", "cents"),
}
_PERIODS = {
    **dict.fromkeys(("hr", "hour", "h"), "hour"),
    **dict.fromkeys(("min", "minute"), "minute"),
    **dict.fromkeys(("day", "d"), "day"),
    **dict.fromkeys(("wk", "week"), "week"),
    **dict.fromkeys(("mo", "month", "mth"), "month"),
    **dict.fromkeys(("yr", "year", "y"), "year"),
    **dict.fromkeys(
        ("night", "person", "visit", "session", "item", "piece", "call", "mile", "family", "child"), ""
    ),
    **dict.fromkeys(("lb", "pound"), "pound"),
    **dict.fromkeys(("kg", "kilo"), "kilogram"),
    **dict.fromkeys(("sec", "s", "second"), "second"),
    **dict.fromkeys(("ml", "mL"), "milliliter"),
    **dict.fromkeys(("dl", "dL"), "deciliter"),
    **dict.fromkeys(("l", "L"), "liter"),
}
_PER = r"(?:\s?/\s?(" + "|".join(sorted(_PERIODS, key=len, reverse=True)) + r")\b)?"
_MONEY = re.compile(
    rf"(?<![\w.,])(-?)(?:US|CA|AU)?([$£€¥₹₩])\s?({_NUMBER}){_SCALE}(?:(?:{_TO})[$£€¥₹₩]?({_NUMBER}){_SCALE})?{_PER}(?![\d])"
)
_MONEY_AFTER = re.compile(
    rf"(?<![\w.,])(-?)({_NUMBER})(?:(?:{_TO})({_NUMBER}))?\s?([€£¢]|USD\b|GBP\b|EUR\b|CAD\b|AUD\b)"
)
_COMMA_CENTS = re.compile(r"(?<![\w.,])(\d{1,6}),(\d\d)(?=\s?€)")
_MONEY_BEFORE = re.compile(rf"\b(USD|GBP|EUR|CAD|AUD)\s?({_NUMBER})(?![\d])")

_UNITS = {
    "km/h": ("kilometer per hour", "kilometers per hour"),
    "kmh": ("kilometer per hour", "kilometers per hour"),
    "kph": ("kilometer per hour", "kilometers per hour"),
    "mph": ("mile per hour", "miles per hour"),
    "m/s": ("meter per second", "meters per second"),
    "mmHg": ("millimeter of mercury", "millimeters of mercury"),
    "km": ("kilometer", "kilometers"),
    "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"),
    "m": ("meter", "meters"),
    "mi": ("mile", "miles"),
    "yd": ("yard", "yards"),
    "yds": ("yard", "yards"),
    "ft": ("foot", "feet"),
    "kg": ("kilogram", "kilograms"),
    "g": ("gram", "grams"),
    "mg": ("milligram", "milligrams"),
    "mcg": ("microgram", "micrograms"),
    "µg": ("microgram", "micrograms"),
    "μg": ("microgram", "micrograms"),
    "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "ml": ("milliliter", "milliliters"),
    "mL": ("milliliter", "milliliters"),
    "cl": ("centiliter", "centiliters"),
    "dl": ("deciliter", "deciliters"),
    "l": ("liter", "liters"),
    "L": ("liter", "liters"),
    "gal": ("gallon", "gallons"),
    "sq ft": ("square foot", "square feet"),
    "sqft": ("square foot", "square feet"),
    "sq m": ("square meter", "square meters"),
    "m squared": ("square meter", "square meters"),
    "km squared": ("square kilometer", "square kilometers"),
    "ft squared": ("square foot", "square feet"),
    "hrs": ("hour", "hours"),
    "hr": ("hour", "hours"),
    "h": ("hour", "hours"),
    "mins": ("minute", "minutes"),
    "min": ("minute", "minutes"),
    "secs": ("second", "seconds"),
    "sec": ("second", "seconds"),
    "s": ("second", "seconds"),
    "ms": ("millisecond", "milliseconds"),
    "yrs": ("year", "years"),
    "yr": ("year", "years"),
    "wks": ("week", "weeks"),
    "wk": ("week", "weeks"),
    "KB": ("kilobyte", "kilobytes"),
    "MB": ("megabyte", "megabytes"),
    "GB": ("gigabyte", "gigabytes"),
    "TB": ("terabyte", "terabytes"),
    "Mbps": ("megabit per second", "megabits per second"),
    "Hz": ("hertz", "hertz"),
    "kHz": ("kilohertz", "kilohertz"),
    "MHz": ("megahertz", "megahertz"),
    "GHz": ("gigahertz", "gigahertz"),
    "W": ("watt", "watts"),
    "kW": ("kilowatt", "kilowatts"),
    "kWh": ("kilowatt hour", "kilowatt hours"),
    "V": ("volt", "volts"),
    "mAh": ("milliampere hour", "milliampere hours"),
    "kcal": ("kilocalorie", "kilocalories"),
    "cal": ("calorie", "calories"),
    "°C": ("degree Celsius", "degrees Celsius"),
    "°F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "° C": ("degree Celsius", "degrees Celsius"),
    "° F": ("degree Fahrenheit", "degrees Fahrenheit"),
    "°": ("degree", "degrees"),
    "%": ("percent", "percent"),
    "pct": ("percent", "percent"),
    "x": ("time", "times"),
}
_DOTTED = ("hrs", "hr", "mins", "min", "secs", "sec", "lbs", "lb", "oz", "ft", "yrs", "yr", "wks", "wk", "mi")
_UNIT = "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
_MEASURE = re.compile(
    rf"(?<![\w.,/])([-+~]?)({_NUMBER})(?:(?:{_TO})({_NUMBER}))?[ -]?({_UNIT})(?![\w'°])"
    rf"(\.(?=\s+[a-z0-9(]|,))?{_PER}"
)
_MEASURED_FRACTION = re.compile(
    rf"(?<![\w./,])(?:(\d{{1,3}})[ -])?(\d{{1,2}})/(\d{{1,2}})[ -]?({_UNIT})(?![\w'°])\.?"
)
_PRESSURE = re.compile(r"(?<![\w./,])(\d{2,3})/(\d{2,3})(?: ?mm ?Hg\b|(?= (?:mm|BP|blood)))")
_REPEATED_UNIT = re.compile(rf"({_NUMBER})\s?({_UNIT})(?=(?:{_TO})(?:{_NUMBER})\s?\2(?![\w'°]))")
_FEET = re.compile(r"(?<![\w.,'])(\d{1,2})'(?= ?(?:tall|wide|long|high|deep|by|x)\b)")
_FEET_INCHES = re.compile(r"(?<![\w.,])(\d{1,2})' ?(\d{1,2})(?:\"|'')")
_INCHES = re.compile(rf"(?<![\w.,])({_NUMBER})\"(?=[\s,.;:!?)]|$)(?!\w)")

_MIXED = re.compile(r"(?<![\w./,])(?:(\d{1,3})[ -])?(\d{1,3})/(\d{1,4})(?![\w/]|\.\d)")
_FRACTION_NAMES = {2: "half", 4: "quarter"}
_ORDINAL = re.compile(r"(?<![\w.,])(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th|ST|ND|RD|TH)\b")
_DECADE = re.compile(r"(?<![\w.,])(?:(\d\d)(\d)0|'?(\d)0)'?s\b")
_RANGE = re.compile(rf"(?<![\w.,/-])({_NUMBER})\s?[-–—]\s?({_NUMBER})(?![\w/-]|[.,]\d)")
_RATIO = re.compile(r"(?<![\w:.,])(\d{1,3}):(\d{1,3})(?![\w:])")
_YEAR_AFTER = re.compile(
    r"\b(in|since|by|of|until|till|from|before|after|during|year|circa|around|to|and|between|early|late|for|copyright|spring|summer|fall|autumn|winter)"
    r"( )((?:1[1-9]|20)\d\d)(?![\w,%]|\.\d)(?!\s+(?:dollars|people|patients|points|miles|feet|times|words))",
    re.I,
)
_YEAR = re.compile(r"(?<![\w.,#/-])((?:19|20)\d\d)(?![\w%/-]|[.,]\d)")
_ROOM = re.compile(
    r"\b((?:room|suite|ste|apartment|apt|flat|unit|gate|bay|ward|box|building|bus|route|highway|interstate|flight|channel|locker|door|bed)s?\.?"
    r"(?: number| no\.?)? ?#?)[ ]?(\d{1,5})([A-Za-z])?\b(?![.,]\d)",
    re.I,
)
_STREET_WORDS = (
    "Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Way|Court|Ct|Place|Pl|Square|Sq|Parkway|Pkwy"
    "|Highway|Hwy|Terrace|Broadway"
)
_HOUSE = re.compile(
    r"(?<![\w.,#/$£€-])(\d{2,5})([A-Za-z])?(?= (?:(?:[NSEW]\.?|North|South|East|West) )?"
    rf"(?:(?:[A-Z][\w'.-]*|\d+(?:st|nd|rd|th)) ){{0,3}}(?:{_STREET_WORDS})\b)"
)
_LONG_REFERENCE = re.compile(r"#\s?(\d{4,})(?![.,]?\d)")
_NUMBER_SIGN = re.compile(r"(?:#\s?|\b(?:No|Nr|no)\. ?)(?=\d)|(?<!\w)(?:Nos|nos)\. ?(?=\d)")
_SIGNED = re.compile(r"(?<![\w.)%])([-+])(?=\.?\d)")
_VERSION = re.compile(r"(?<![\w.])v?(\d+(?:\.\d+){2,})(?![\w]|\.\d)")
_LETTERS_AND_DIGITS = re.compile(r"(?<=[^\W\d_])-?(?=\d)|(?<=\d)-?(?=[^\W\d_])")
_THOUSANDS = re.compile(rf"(?<![\w.,])({_NUMBER})(k|K|M|bn|B)\b")
_ANY = re.compile(_NUMBER)
_DIGIT = re.compile(r"\d")
"""There is none in most sentences, and in everything above."""


def speak_quantities(text: str) -> str:
    if not _DIGIT.search(text):
        return text
    text = text.replace("24/7", "twenty-four seven").replace("9/11", "nine eleven")
    text = _COMMA_CENTS.sub(r"\1.\2", text)
    text = _MONEY.sub(_money, text)
    text = _MONEY_BEFORE.sub(lambda found: _amount("", found[2], "", found[1]), text)
    text = _MONEY_AFTER.sub(_money_after, text)
    text = _DECADE.sub(_decade, text)
    text = _FEET_INCHES.sub(_feet_inches, text)
    text = _FEET.sub(lambda found: f"{words.number(found[1])} {'foot' if found[1] == '1' else 'feet'}", text)
    text = _PRESSURE.sub(lambda found: f"{words.number(found[1])} over {words.number(found[2])}", text)
    text = _REPEATED_UNIT.sub(r"\1", text)
    text = _MEASURED_FRACTION.sub(_measured_fraction, text)
    text = _MEASURE.sub(_measure, text)
    text = _INCHES.sub(
        lambda found: f"{words.number(found[1])} {'inch' if found[1] == '1' else 'inches'}", text
    )
    text = _MIXED.sub(_mixed, text)
    text = _ORDINAL.sub(
        lambda found: words.ordinal(int(found[1].replace(",", ""))) if len(found[1]) < 20 else found[0], text
    )
    text = _ROOM.sub(_room, text)
    text = _HOUSE.sub(
        lambda found: words.pairs(found[1]) + (f" {found[2].upper()}" if found[2] else ""), text
    )
    text = _LONG_REFERENCE.sub(lambda found: f"number {words.digits(found[1])}", text)
    text = _NUMBER_SIGN.sub(
        lambda found: "numbers " if found[0].lower().startswith("nos") else "number ", text
    )
    text = _VERSION.sub(
        lambda found: " point ".join(words.number(part) for part in found[1].split(".")), text
    )
    text = _YEAR_AFTER.sub(lambda found: f"{found[1]} {words.year(int(found[3]))}", text)
    text = _RANGE.sub(_range, text)
    text = _YEAR.sub(lambda found: words.year(int(found[1])), text)
    text = _RATIO.sub(r"\1 to \2", text)
    text = _THOUSANDS.sub(lambda found: f"{words.number(found[1])} {_SCALES[found[2].lower()]}", text)
    text = _SIGNED.sub(lambda found: "minus " if found[1] == "-" else "plus ", text)
    text = _LETTERS_AND_DIGITS.sub(" ", text)
    return _ANY.sub(_any, text)


def _any(found: re.Match[str]) -> str:
    """A number in digits wherever it stands; words keep apart from what touches them."""
    text, start, end = found.string, found.start(), found.end()
    before = " " if start and (text[start - 1].isalnum() or text[start - 1] == ".") else ""
    after = " " if end < len(text) and text[end].isalnum() else ""
    return f"{before}{words.number(found[0])}{after}"


def _plain(text: str) -> float:
    return float(text.replace(",", ""))


def _scaled(text: str, scale: str) -> str:
    return f"{words.number(text)} {scale}" if scale else words.number(text)


def _scale(name: str | None, letter: str | None) -> str:
    return name or (_SCALES[letter.lower()] if letter else "")


def _amount(sign: str, text: str, scale: str, currency: str) -> str:
    one, many, cent, cents = _CURRENCIES[currency]
    minus = "minus " if sign else ""
    whole, _, decimals = text.replace(",", "").partition(".")
    whole = whole.lstrip("0")
    if scale or not cent or len(decimals) not in (0, 2):
        return f"{minus}{_scaled(text, scale)} {one if text == '1' and not scale else many}"
    spoken = []
    if whole or not int(decimals or 0):
        spoken.append(f"{words.cardinal(int(whole[:400] or 0))} {one if whole == '1' else many}")
    if int(decimals or 0):
        spoken.append(f"{words.cardinal(int(decimals))} {cent if int(decimals) == 1 else cents}")
    return minus + " and ".join(spoken)


def _per(period: str | None) -> str:
    return f" per {_PERIODS[period] or period}" if period else ""


def _money(found: re.Match[str]) -> str:
    sign, currency, amount, name, letter, until, until_name, until_letter, period = found.groups()
    scale, until_scale = _scale(name, letter), _scale(until_name, until_letter)
    if until is None:
        return _amount(sign, amount, scale, currency) + _per(period)
    if "." not in amount and (scale == until_scale or not scale):
        low = _scaled(amount, scale if scale != until_scale else "")
    else:
        low = _amount(sign, amount, scale, currency)
    return f"{low} to {_amount('', until, until_scale, currency)}{_per(period)}"


def _money_after(found: re.Match[str]) -> str:
    sign, amount, until, currency = found.groups()
    if until is None:
        return _amount(sign, amount, "", currency)
    return f"{words.number(amount)} to {_amount('', until, '', currency)}"


def _feet_inches(found: re.Match[str]) -> str:
    feet, inches = int(found[1]), int(found[2])
    return (
        f"{words.cardinal(feet)} {'foot' if feet == 1 else 'feet'}"
        f" {words.cardinal(inches)} {'inch' if inches == 1 else 'inches'}"
    )


def _measure(found: re.Match[str]) -> str:
    sign, amount, until, unit, point, period = found.groups()
    before = found.string[found.start(4) - 1]
    if before == "-" and unit in ("m", "g", "h", "s", "l", "L", "V", "W", "x"):
        return found[0]  # 3-s: a name, not a measure
    one, many = _UNITS[unit]
    spoken = {"-": "minus ", "+": "plus ", "~": "about "}.get(sign, "") + words.number(amount)
    if until:
        spoken += f" to {words.number(until)}"
    single = _plain(until or amount) == 1 and not until
    if before == "-":
        single = True  # a 10-km run
    end = "" if unit in _DOTTED else (point or "")
    return f"{spoken} {one if single else many}{end}{_per(period)}"


def _measured_fraction(found: re.Match[str]) -> str:
    one, many = _UNITS[found[4]]
    fraction = _mixed(found)
    if not 0 < int(found[2]) < int(found[3]):
        return found[0]
    return f"{fraction} {many if found[1] else one if found[2] == '1' else f'of a {one}'}"


def _mixed(found: re.Match[str]) -> str:
    whole, top, bottom = found[1], int(found[2]), int(found[3])
    if 0 < top < bottom and (bottom <= 10 or whole or (bottom == 16 and top % 2)):
        name = _FRACTION_NAMES.get(bottom) or words.ordinal(bottom)
        if whole and top == 1:
            article = "a" if name != "eighth" and name != "eleventh" and name != "eighteenth" else "an"
            return f"{words.cardinal(int(whole))} and {article} {name}"
        many = "halves" if name == "half" else words.plural(name)
        fraction = f"{words.cardinal(top)} {name if top == 1 else many}"
        return f"{words.cardinal(int(whole))} and {fraction}" if whole else fraction
    lead = f"{words.cardinal(int(whole))} " if whole else ""
    if top == bottom > 1 and not whole:
        return f"{words.cardinal(top)} out of {words.cardinal(bottom)}"
    if 1 <= top <= 12 and 1 <= bottom <= 31 and not whole:
        return f"{_month_name(top)} {words.ordinal(bottom)}"
    return f"{lead}{words.cardinal(top)} over {words.cardinal(bottom)}"


def _month_name(month: int) -> str:
    from pipeline.speakable.moments import _MONTHS

    return _MONTHS[month - 1]


def _decade(found: re.Match[str]) -> str:
    tens = int(found[2] or found[3]) * 10
    if tens in (0, 10):
        return found[0] if not found[1] else f"{words.year(int(found[1]) * 100 + tens)}s"
    decade = words.plural(words.cardinal(tens))
    return f"{words.cardinal(int(found[1]))} {decade}" if found[1] else decade


def _range(found: re.Match[str]) -> str:
    first, second = found[1], found[2]
    if all(re.fullmatch(r"(?:1[1-9]|20)\d\d", part) for part in (first, second)):
        return f"{words.year(int(first))} to {words.year(int(second))}"
    return f"{words.number(first)} to {words.number(second)}"


def _room(found: re.Match[str]) -> str:
    letter = f" {found[3].upper()}" if found[3] else ""
    return f"{found[1].rstrip('# ')} {words.pairs(found[2])}{letter}"
