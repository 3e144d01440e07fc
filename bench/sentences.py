"""What people say to a telephone agent: the sentences of `maya bench hearing`, and what counts as equal.

Word error rate compares normalised words, on both sides the same way: lower case; punctuation, hyphens and
apostrophes gone; every number, in figures or in words, ordinal or cardinal, as its single digits ("9:30",
"nine thirty" and "nine-thirty" are all `9 3 0`); "oh" beside a digit is 0; "$5" and "5%" as "5 dollars" and
"5 percent"; o'clock and ":00" dropped; a few spellings made one (okay, alright, goodbye, dr, mr, a.m.).
"""

import re
from collections.abc import Callable, Sequence

SENTENCES: tuple[str, ...] = (
    "Yes.",
    "No, thank you.",
    "Yes please, that would be great.",
    "Hello, is anybody there?",
    "What time do you close today?",
    "Are you open on Saturdays?",
    "I would like to book an appointment for next Tuesday morning.",
    "Could you tell me how much a cleaning costs?",
    "My name is Daniel Martinez.",
    "It's Sarah Thompson, I called yesterday.",
    "My phone number is five five five, zero one four two.",
    "Can I come in at nine thirty?",
    "The fourteenth of March at half past two, please.",
    "I need to cancel my appointment on Friday.",
    "Sorry, could you repeat that?",
    "I didn't understand the last part.",
    "Where exactly are you located?",
    "Is there parking near the building?",
    "I have a terrible toothache and it started last night.",
    "Do you take new patients at the moment?",
    "Which insurance plans do you accept?",
    "My account number is seven three nine eight one six.",
    "I was charged twenty five dollars twice.",
    "The order arrived damaged and I want a refund.",
    "Can I speak to a real person, please?",
    "Hold on, let me find my calendar.",
    "Actually, Wednesday would be better for me.",
    "We are four people, two adults and two children.",
    "I'd like a table by the window at seven in the evening.",
    "How long does the delivery usually take?",
    "I live at twelve Green Street, second floor.",
    "The package should have been here three days ago.",
    "Could you send the invoice to my email address?",
    "My son has had a fever since Monday.",
    "Is the doctor available this afternoon?",
    "I can only come after five o'clock.",
    "No, that's the wrong date.",
    "Please change my booking from the third to the tenth of June.",
    "Do I have to bring anything with me?",
    "How do I get there from the train station?",
    "Stop, that is not what I asked for.",
    "Can you call me back tomorrow around noon?",
    "It costs one hundred and twenty dollars, is that right?",
    "Thank you very much for your help.",
    "Okay, goodbye.",
    "I forgot my password and now my account is locked.",
    "Are there any side effects that I should know about?",
    "What is the weather like in Boston this weekend?",
)

_UNITS: tuple[str, ...] = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
    *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS: tuple[str, ...] = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES = {word: value for value, word in enumerate(_UNITS)} | {
    word: 10 * (place + 2) for place, word in enumerate(_TENS)
}
_ORDINALS = {
    "first": "one",
    "second": "two",
    "third": "three",
    "fifth": "five",
    "eighth": "eight",
    "ninth": "nine",
    "twelfth": "twelve",
}
_SPELLINGS = {"ok": "okay", "dr": "doctor", "mr": "mister", "mrs": "misses"}


def normalise(text: str) -> list[str]:
    """Words to compare, as the module says."""
    text = text.lower().replace("’", "'")
    text = text.replace("all right", "alright").replace("good bye", "goodbye")
    text = re.sub(r"\$(\d+)\.(\d\d)", r"\1 dollars \2", text)
    text = re.sub(r"\$(\d[\d,]*)", r"\1 dollars", text).replace("%", " percent")
    text = re.sub(r"\b([ap])\.?\s?m\b\.?", r"\1m", text)
    text = re.sub(r"(\d):00\b", r"\1", text).replace("o'clock", " ")
    text = re.sub(r"(\d),(\d{3})", r"\1\2", text)
    text = re.sub(r"(\d)(st|nd|rd|th)\b", r"\1", text)
    words = re.sub(r"[^a-z0-9' ]", " ", text).replace("'", "").split()
    return _digits([_SPELLINGS.get(word, word) for word in map(_cardinal, words)])


def _cardinal(word: str) -> str:
    if word in _ORDINALS:
        return _ORDINALS[word]
    if word.endswith("ieth") and word[:-4] + "y" in _VALUES:
        return word[:-4] + "y"
    if word.endswith("th") and word[:-2] in _VALUES:
        return word[:-2]
    return word


def _digits(words: Sequence[str]) -> list[str]:
    """Number words to single digits; "twenty five" is 25, "five five" is 5 5, "one hundred and two" 1 0 2."""
    numbers: list[str] = []
    position = 0
    while position < len(words):
        position, word = _number(words, position)
        numbers.append(word)
    spelled: list[str] = []
    for index, word in enumerate(numbers):
        beside = (*numbers[max(0, index - 1) : index], *numbers[index + 1 : index + 2])
        if word in ("oh", "o") and any(neighbour.isdigit() for neighbour in beside):
            spelled.append("0")
        else:
            spelled.extend(word if word.isdigit() else [word])
    return spelled


def _number(words: Sequence[str], position: int) -> tuple[int, str]:
    """The number that begins at `position`, and where it ends; a word that is none comes back as it is."""
    value, end = _below_thousand(words, position)
    if value is None:
        return position + 1, words[position]
    if words[end : end + 1] == ["thousand"]:
        rest, after = _rest(_below_thousand, words, end + 1)
        return after, str(1_000 * value + rest)
    return end, str(value)


def _below_thousand(words: Sequence[str], position: int) -> tuple[int | None, int]:
    value, end = _below_hundred(words, position)
    if value is None or words[end : end + 1] != ["hundred"]:
        return value, end
    rest, end = _rest(_below_hundred, words, end + 1)
    return 100 * value + rest, end


def _rest(
    read: Callable[[Sequence[str], int], tuple[int | None, int]], words: Sequence[str], position: int
) -> tuple[int, int]:
    """What follows "hundred" or "thousand", with or without "and"; 0 when that is no number."""
    value, end = read(words, position + (words[position : position + 1] == ["and"]))
    return (0, position) if value is None else (value, end)


def _below_hundred(words: Sequence[str], position: int) -> tuple[int | None, int]:
    if position >= len(words) or words[position] not in _VALUES:
        return None, position
    value, position = _VALUES[words[position]], position + 1
    if value >= 20 and position < len(words) and 1 <= _VALUES.get(words[position], 0) <= 9:
        return value + _VALUES[words[position]], position + 1
    return value, position


def word_errors(reference: Sequence[str], heard: Sequence[str]) -> int:
    """Substitutions, deletions and insertions of the cheapest alignment (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for i, expected in enumerate(reference, 1):
        diagonal, row[0] = row[0], i
        for j, word in enumerate(heard, 1):
            best = min(diagonal + (expected != word), row[j] + 1, row[j - 1] + 1)
            diagonal, row[j] = row[j], best
    return row[-1]
