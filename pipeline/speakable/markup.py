"""Taking away what is for the eye: markdown, HTML, emoji, typographic variants."""

import html
import re
import unicodedata

_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[\w+-]*[ \t]*$", re.MULTILINE)
_IMAGE_OR_LINK = re.compile(
    r"!?\[([^\[\]\n]{0,300})\]\([^()\n]{0,500}(?:\([^()\n]{0,100}\)[^()\n]{0,200})?\)"
)
_REFERENCE_LINK = re.compile(r"\[([^\[\]\n]{1,300})\]\[[^\[\]\n]{0,60}\]")
_FOOTNOTE = re.compile(r"\[\^?\d{1,3}\]|\[[ xX]\](?= )")
_AUTOLINK = re.compile(r"<((?:https?://|mailto:)?[^<>\s]{1,300}[@./][^<>\s]{1,300})>")
_TAG = re.compile(r"</?[a-zA-Z][^<>\n]{0,200}>|<!--.{0,500}?-->", re.DOTALL)
_LINE_START = re.compile(r"^[ \t]*(?:#{1,6}[ \t]+|(?:>[ \t]?)+|[-*+•‣◦▪·][ \t]+)+", re.MULTILINE)
_RULE = re.compile(r"^[ \t]*(?:(?:[-*_=][ \t]*){3,}|\|?[ \t]*:?-{2,}:?[ \t|:-]*)$", re.MULTILINE)
_TABLE_ROW = re.compile(r"^[ \t]*\|(.*?)\|?[ \t]*$", re.MULTILINE)
_STRONG = re.compile(r"\*{2,3}|~~|(?<!\w)_{1,3}(?=\S)|(?<=\S)_{1,3}(?!\w)|`+")
_EMPHASIS = re.compile(r"(?<![\w*])\*(?=\S)|(?<=\S)\*(?![\w*])")
_ESCAPE = re.compile(r"\\([\\`*_{}\[\]()#+.!|>~-])")

_BEFORE_NFKC = str.maketrans(
    {
        **dict.fromkeys("™®©℠", ""),
        **dict.fromkeys("“”„‟«»″", '"'),
        **dict.fromkeys("‘’‚‛′`´", "'"),
        **dict.fromkeys("\u2010\u2011\ufe63\uff0d\u00ad", "-"),
        **dict.fromkeys("‒–⁃", "–"),
        **dict.fromkeys("—―⸺⸻", "—"),
        "−": "-",
        "²": " squared",
        "³": " cubed",
        "…": "...",
        "⁄": "/",
        "№": "No. ",
        "\u00ad": "",
    }
)
_VULGAR = re.compile(r"(\d?)([¼½¾⅐-⅞])")


def strip_markup(text: str) -> str:
    """The words alone, in lines; a line that had no punctuation at its end gets a full stop."""
    text = html.unescape(text) if "&" in text else text
    text = _FENCE.sub("", text)
    text = _IMAGE_OR_LINK.sub(r"\1", text)
    text = _REFERENCE_LINK.sub(r"\1", text)
    text = _FOOTNOTE.sub("", text)
    text = _AUTOLINK.sub(r"\1", text)
    text = _TAG.sub(" ", text)
    text = _RULE.sub("", text)
    text = _TABLE_ROW.sub(_table_row, text)
    text = _LINE_START.sub("", text)
    text = _ESCAPE.sub(r"\1", text)
    text = _EMPHASIS.sub("", _STRONG.sub("", text))
    return _plain_characters(_joined_lines(text))


def _table_row(row: re.Match[str]) -> str:
    return ", ".join(cell.strip() for cell in row[1].split("|") if cell.strip())


def _joined_lines(text: str) -> str:
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line]
    return " ".join(
        line if last or not line[-1].isalnum() else f"{line}."
        for line, last in zip(lines, [False] * (len(lines) - 1) + [True], strict=False)
    )


def _plain_characters(text: str) -> str:
    text = text.translate(_BEFORE_NFKC)
    text = _VULGAR.sub(_vulgar, text)
    text = unicodedata.normalize("NFKC", text)
    return "".join(char if char.isascii() else _spoken_character(char) for char in text)


def _vulgar(match: re.Match[str]) -> str:
    fraction = unicodedata.normalize("NFKC", match[2]).replace("⁄", "/")
    return f"{match[1]} {fraction}" if match[1] else f" {fraction}"


_KEPT = frozenset("–—°£€¥¢₹₩±×÷≤≥≈→µμ§½")


def _spoken_character(char: str) -> str:
    """Letters, marks and digits stay, symbols that have a name stay; emoji and the rest go."""
    kind = unicodedata.category(char)
    if char in _KEPT or kind[0] in "LN" or (kind == "Mn" and not 0xFE00 <= ord(char) <= 0xFE0F):
        return char
    return "'" if kind == "Pi" and char in "‹" else " "
