"""English number words, American style: "one hundred twenty", without "and".

Own code since `inflect` takes a second or more to import and refuses numbers above 10**36; the tests compare
with it.
"""

_SMALL = (
    *(
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("", "ten", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_SCALES = ("", " thousand", " million", " billion", " trillion")
_IRREGULAR_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
LARGEST = 10**15 - 1


def cardinal(number: int) -> str:
    """0..LARGEST in words: 1234 is "one thousand two hundred thirty-four". Larger ones digit by digit."""
    if number > LARGEST:
        return digits(str(number)) if number < 10**300 else "a very large number"
    if number < 1000:
        return _below_1000(number)
    groups: list[str] = []
    for scale in _SCALES:
        number, group = divmod(number, 1000)
        if group:
            groups.append(_below_1000(group) + scale)
    return " ".join(reversed(groups))


def _below_1000(number: int) -> str:
    hundreds, rest = divmod(number, 100)
    parts = [f"{_SMALL[hundreds]} hundred"] if hundreds else []
    if rest or not hundreds:
        parts.append(_below_100(rest))
    return " ".join(parts)


def _below_100(number: int) -> str:
    if number < 20:
        return _SMALL[number]
    tens, ones = divmod(number, 10)
    return f"{_TENS[tens]}-{_SMALL[ones]}" if ones else _TENS[tens]


def ordinal(number: int) -> str:
    """22 is "twenty-second"."""
    words = cardinal(number)
    border = max(words.rfind(" "), words.rfind("-")) + 1
    last = words[border:]
    if last in _IRREGULAR_ORDINALS:
        last = _IRREGULAR_ORDINALS[last]
    else:
        last = f"{last[:-1]}ieth" if last.endswith("y") else f"{last}th"
    return words[:border] + last


def plural(word: str) -> str:
    """For decades and fractions: "nineties", "thirds"."""
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}es" if word.endswith("x") else f"{word}s"


def digits(text: str) -> str:
    """Each decimal digit of `text` as a word; other characters are left out."""
    return " ".join(_SMALL[int(char)] for char in text if char.isdecimal())


def pairs(text: str) -> str:
    """As house and room numbers are said: "204" is "two oh four", "1204" "twelve oh four", "1200" "twelve
    hundred"; more than four digits one by one."""
    number = int(text)
    if len(text) > 4 or text.startswith("0"):
        return digits(text)
    high, low = divmod(number, 100)
    if number < 100 or number % 1000 == 0:
        return cardinal(number)
    if low == 0:
        return f"{_below_100(high)} hundred"
    return f"{_below_100(high)} {f'oh {_SMALL[low]}' if low < 10 else _below_100(low)}"


def year(number: int) -> str:
    """1905 is "nineteen oh five", 2007 "two thousand seven", 2026 "twenty twenty-six"."""
    if 2000 <= number <= 2009 or not 1000 <= number <= 9999:
        return cardinal(number)
    return pairs(str(number))


def number(text: str) -> str:
    """A number as it is written: "1,234", "3.50", ".5", "007". Digits, commas and points only."""
    whole, _, decimals = text.replace(",", "").partition(".")
    if not whole:
        words = "zero"
    elif (len(whole) > 1 and whole.startswith("0")) or len(whole) > 15:
        words = digits(whole)
    elif len(whole) > 6 and "," not in text and not whole.endswith("000"):
        words = digits(whole)  # an order or account number
    else:
        words = cardinal(int(whole))
    return f"{words} point {digits(decimals)}" if decimals else words
