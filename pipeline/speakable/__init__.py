"""Text as a language model writes it, in words that a voice can say.

The result holds words, apostrophes, hyphens and the marks that shape speech (. , ; : ? ! and the points of
A.M. and P.M.): nothing is left for the voice to interpret, so that every voice says the same. Acronyms in
capitals stay.
"""

import re

from pipeline.speakable import words
from pipeline.speakable.abbreviations import speak_abbreviations, speak_comparisons, speak_symbols
from pipeline.speakable.contacts import speak_contacts
from pipeline.speakable.markup import strip_markup
from pipeline.speakable.moments import speak_moments
from pipeline.speakable.quantities import speak_quantities

_LIST_NUMBER = re.compile(r"^\s*(\d{1,2})[.)]\s+(?=\S)", re.MULTILINE)
_DIGITS_BEYOND_NUMBERS = re.compile(r"\d{16,}")
_DASHES = re.compile(r"\s+-{1,3}(?=\s|$)\s*|\s*(?:-{2,}|[–—])\s*|^\s*-{1,3}\s+")
_BRACKETS = re.compile(r"[(\[{]\s*([^()\[\]{}]*?)\s*[)\]}]")
_DROPPED = re.compile(r"[\"()\[\]{}<>|\\^*_#~`/=]")
_LOOSE_APOSTROPHE = re.compile(r"(?<![^\W_])'(?!\w)|(?<!\w)'(?=\w)(?!(?:til|em|tis|twas|cause)\b)")
_COMMAS = re.compile(r"\s*,(?:\s*,)+")
_COMMA_BEFORE_STOP = re.compile(r"[,;:]\s*(?=[.!?;:])")
_SPACE_BEFORE_MARK = re.compile(r"\s+([,.;:!?])")
_MARK_RUN = re.compile(r"([!?])[!?.,]*|(?<!\.)(\.{2,})|(?<![AP]\.M)(?<!^)\.[.,]*(?=\s|$)")
_HALF_DAY_STOP = re.compile(r"\b([AP]\.M\.)\.+")
_LEADING = re.compile(r"^[\s,;:.!?'-]+")
_DOT_IN_WORD = re.compile(r"(?<=[^\W\d_])\.(?=[a-z])")
_NO_SPACE_AFTER = re.compile(r"([,;:!?])(?=[^\W\d_])")
_MISREAD_AT_END = re.compile(
    r"\b(no|nos|fig|ed|eds|est|ch|pp|vol|Jan|Jun|Mar|Sun|Sat|Gen|Rep|Co|Sen|Col)\.(?=\s|$)"
)
_MISREAD_ROMAN = re.compile(r"\b(part|section|volume|chapter|Part) I (?=[a-z])")


def speakable(text: str) -> str:
    """`text` in speakable English, on one line; "" when nothing can be said. Takes a few tenths of a
    millisecond for a sentence. Never raises."""
    text = _LIST_NUMBER.sub(r"\1, ", text)
    text = strip_markup(text)
    text = _DIGITS_BEYOND_NUMBERS.sub(lambda found: f" {words.digits(found[0])} ", text)
    text = speak_contacts(text)
    text = speak_comparisons(text)
    text = speak_moments(text)
    text = speak_quantities(text)
    text = speak_abbreviations(text)
    text = speak_symbols(text)
    return _tidy(text)


def _tidy(text: str) -> str:
    """Marks as speech wants them: dashes and brackets become commas, doubled marks one."""
    text = _DASHES.sub(", ", text)
    for _ in range(3):
        text = _BRACKETS.sub(r", \1, ", text)
    text = _DROPPED.sub(" ", text)
    text = _LOOSE_APOSTROPHE.sub("", text)
    text = _SPACE_BEFORE_MARK.sub(r"\1", " ".join(text.split()))
    text = _COMMAS.sub(",", text)
    text = _COMMA_BEFORE_STOP.sub("", text)
    text = _HALF_DAY_STOP.sub(r"\1", text)
    text = _MARK_RUN.sub(_one_mark, text)
    text = _NO_SPACE_AFTER.sub(r"\1 ", _DOT_IN_WORD.sub(" dot ", text))
    text = _LEADING.sub("", text)
    if not any(char.isalnum() for char in text):
        return ""
    text = _MISREAD_ROMAN.sub(r"\1, I ", text)
    return _MISREAD_AT_END.sub(r"\1 .", text).rstrip(" -'")


def _one_mark(run: re.Match[str]) -> str:
    if run[1]:
        return "?" if "?" in run[0] else "!"
    return "..." if run[2] else "."
