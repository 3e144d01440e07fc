"""Cutting a reply, while the language model still writes it, into what the voice is given at a time.

The first clause leaves as early as it is sensible, since the caller waits for it; what follows leaves in
whole sentences, whose melody is better. Nothing is cut inside a number, an abbreviation, an address or a
quotation. No I/O and no clock: text in, clauses out.
"""

import re

MAX_CLAUSE_CHARS = 200
"""A text without punctuation is cut here at the latest, at a word border."""
_PREFERRED_FORCED_CUT = 80
_LONGEST_WORD = 300
"""Text without any space is cut here; a voice could not say it anyway."""
_LOOKAHEAD_CHARS = 16

_WORDS_BEFORE_COMMA = 2
_WORDS_BEFORE_MARK = 3
"""Words before a colon, semicolon or dash that may end the first clause."""
_ANSWERS = frozenset(("yes", "no"))
"""Words that answer alone, and may stand alone before a comma."""
_OPENING_WORDS = 4
"""What leaves early must last until the rest is made: as long as less was said, clauses stay short."""
_WORDS_BEFORE = {
    **dict.fromkeys(("but", "because", "so", "which", "although", "though", "while", "unless", "since"), 4),
    **dict.fromkeys(("from", "until", "before", "after", "during", "between", "at", "on", "behind"), 4),
    **dict.fromkeys(("and", "or", "if", "when", "where"), 5),
    **dict.fromkeys(("in", "for", "next"), 5),
}
"""Words that open a new clause, and how many must stand before them for the first clause to end there."""
_PAIRING = frozenset(("between", "both", "either", "from"))
"""After these, "and" and "or" join what belongs together."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_NEVER_END = _set(
    "dr mr mrs ms mx prof rev fr hon gen col capt lt sgt sen rep gov pres mt vs viz cf e.g i.e eg ie approx"
    " est dept univ fig figs nos vol pp ext tel ph.d m.d"
)
_MAY_END = _set(
    "a.m p.m am pm etc inc ltd co corp jr sr st ave rd blvd ln apt bldg hwy ft no u.s u.k"
    " mon tue tues wed thu thur thurs fri sat sun jan feb mar apr jun jul aug sep sept oct nov dec"
    " hr hrs min mins sec lb lbs oz"
)
"""Abbreviations that may also stand last in a sentence: the word that follows decides."""
_CALENDAR = _set(
    "monday tuesday wednesday thursday friday saturday sunday mon tue tues wed thu thur thurs fri sat sun"
    " january february march april may june july august september october november december"
    " jan feb mar apr jun jul aug sep sept oct nov dec eastern central mountain pacific est pst"
)
_GOES_ON = ",;:—–-"
_CLOSERS = "\"')]}”’»*_`"
_OPENERS = "\"'([{“‘«*_`#>"
_BRACKETS = {"(": ")", "[": "]", "{": "}", "“": "”", "«": "»"}
_SPACES = re.compile(r"\s+")


class ClauseChunker:
    """One reply. The clauses joined are the text, up to white space, however it was cut into pieces."""

    def __init__(self) -> None:
        self._text = ""
        self._first = True
        self._said = 0

    def push(self, text_piece: str) -> list[str]:
        """The clauses that are complete with this piece, each without white space around it. Most pieces
        complete none."""
        self._text = _SPACES.sub(_one_space, self._text + text_piece)
        if not self._text.strip():
            self._text = ""
        return self._complete(final=False)

    def flush(self) -> list[str]:
        """The rest of the reply; afterwards the chunker is as new."""
        clauses = self._complete(final=True)
        rest = self._text.strip()
        self.__init__()  # type: ignore[misc]
        return [*clauses, rest] if rest else clauses

    def _complete(self, *, final: bool) -> list[str]:
        clauses = []
        while (end := _cut(self._text, first=self._first, final=final)) is not None:
            clauses.append(self._text[:end].strip())
            self._said += _words(self._text[:end])
            self._first = self._said < _OPENING_WORDS and self._text[end - 1] in _GOES_ON
            self._text = self._text[end:].lstrip()
        return clauses


def _one_space(spaces: re.Match[str]) -> str:
    return "\n" if "\n" in spaces[0] or "\r" in spaces[0] else " "


class _Undecided(Exception):
    """The next characters are needed."""


def _cut(text: str, *, first: bool, final: bool) -> int | None:
    """Where the first clause of `text` ends; None: not yet, or nowhere."""
    scan = _Scan(text, first)
    for at in range(min(len(text), MAX_CLAUSE_CHARS)):
        try:
            end = scan.end_at(at)
        except _Undecided:
            if not final:
                return None
            continue
        if end is not None and any(char.isalnum() for char in text[:end]):
            return end
    return _forced_cut(text) if len(text) > MAX_CLAUSE_CHARS else None


def _forced_cut(text: str) -> int | None:
    head = text[:MAX_CLAUSE_CHARS]
    for marks in (", ", "; ", ": ", " — ", " – ", " "):
        at = head.rfind(marks, 0 if marks == " " else _PREFERRED_FORCED_CUT)
        if at > 0 and any(char.isalnum() for char in head[:at]):
            return at + len(marks)
    if len(text) <= _LONGEST_WORD:
        return None
    space = text.find(" ", MAX_CLAUSE_CHARS, _LONGEST_WORD)
    return space if space > 0 else _LONGEST_WORD


class _Scan:
    """One walk from left to right; knows whether a quotation or bracket is open."""

    def __init__(self, text: str, first: bool) -> None:
        self.text = text
        self.first = first
        self.quoted = False
        self.open: list[str] = []

    def end_at(self, at: int) -> int | None:
        """End of the clause, if the character at `at` ends one. Raises `_Undecided`."""
        char = self.text[at]
        if char == "\n":
            return at
        if char in ".!?…":
            return self.sentence_end(at)
        self.note_quotes(at)
        if not self.first or self.quoted or self.open:
            return None
        if char in ",;:—–-":
            return self.clause_end(at)
        return self.before_conjunction(at) if char == " " else None

    def note_quotes(self, at: int) -> None:
        char = self.text[at]
        if char == '"' and (self.quoted or not self.text[at - 1 : at].isdigit()):  # 5" is five inches
            self.quoted = not self.quoted
        elif char in _BRACKETS:
            self.open.append(_BRACKETS[char])
        elif self.open and char == self.open[-1]:
            self.open.pop()

    def char(self, at: int) -> str:
        if at >= len(self.text):
            raise _Undecided
        return self.text[at]

    def word(self, at: int) -> str:
        """The word that starts at `at`, or its first characters."""
        end = at
        while self.char(end).isalnum() and end - at < _LOOKAHEAD_CHARS:
            end += 1
        return self.text[at:end]

    def sentence_end(self, at: int) -> int | None:
        end = at + 1
        if self.char(end) in ".!?…":
            return None  # the last of the run decides
        quoted, still_open = self.quoted, list(self.open)
        while self.char(end) in _CLOSERS:
            if self.char(end) == '"':
                quoted = not quoted
            elif still_open and self.char(end) == still_open[-1]:
                still_open.pop()
            end += 1
        if not self.char(end).isspace() or quoted or still_open:
            return None
        if self.char(end) == "\n":
            return None if self.is_list_number(at) else end
        if self.text[at] in "!?":
            return end
        following = end + 1
        while self.char(following) in _OPENERS:
            following += 1
        run = self.text[at] == "…" or self.text[at - 1 : at] == "."
        if self.char(following).islower():
            long_enough = self.first and _words(self.text[:at]) >= _WORDS_BEFORE_MARK
            return end if run and long_enough else None
        if run or self.text[at] != ".":
            return end
        return end if self.full_stop(at, following) else None

    def full_stop(self, at: int, following: int) -> bool:
        """Whether the point at `at` ends a sentence, given that no lower case letter follows it."""
        if self.is_list_number(at):
            return False
        word = self.text[:at].split()[-1].lstrip(_OPENERS) if self.text[:at].split() else ""
        folded = word.casefold()
        if folded in _NEVER_END or (len(word) == 1 and word.isalpha() and word.isupper() and word != "I"):
            return False
        if folded not in _MAY_END:
            return not re.fullmatch(r"(?:[A-Za-z]\.)+[A-Za-z]", word)
        if not self.char(following).isupper():
            return False
        if folded == "st":
            before = self.text[:at].split()[:-1]  # Main St. or Saint Mary
            return len(before) > 1 and before[-1][:1].isupper()
        return self.word(following).casefold() not in _CALENDAR

    def is_list_number(self, at: int) -> bool:
        """`1.` at the start of a line numbers what follows."""
        line = self.text[:at].rpartition("\n")[2].strip(" *_#>")
        return line.isdigit() and len(line) <= 3

    def clause_end(self, at: int) -> int | None:
        words = _words(self.text[:at])
        least = _WORDS_BEFORE_COMMA if self.text[at] == "," else _WORDS_BEFORE_MARK
        if words < least and self.text[:at].strip().casefold() not in _ANSWERS:
            return None
        mark, before = self.text[at], self.text[:at].rstrip()
        end = at + 1
        if mark == "," and end == len(self.text) and before.split()[-1].isalpha():
            return end  # Nothing can change that, so the next token is not waited for.
        if mark in "-–—":
            spaced = self.text[at - 1] == " " and self.char(end) == " "
            if not spaced and (mark != "—" or not self.char(end).isalpha()):
                return None
        else:
            while self.char(end) in _CLOSERS:
                end += 1
            if self.char(end) != " ":
                return None
        following = end + 1 if self.char(end) == " " else end
        if before[-1:].isdigit() and self.char(following).isdigit():
            return None  # November 22, 2026; 9 - 5
        if before[-1:] == "." or (mark in "-–—" and self.word(following).casefold() in _CALENDAR):
            return None  # e.g., and Mon. - Fri.
        return end

    def before_conjunction(self, at: int) -> int | None:
        if not self.char(at + 1).isalpha():
            return None
        word = self.word(at + 1).casefold()
        if word not in _WORDS_BEFORE or self.char(at + 1 + len(word)) != " ":
            return None
        before = [token.casefold().strip(_OPENERS + _CLOSERS) for token in self.text[:at].split()]
        if len(before) < _WORDS_BEFORE[word] or before[-1] in _WORDS_BEFORE or before[-1][-1:].isdigit():
            return None
        if word in ("and", "or") and _PAIRING.intersection(before):
            return None
        return at


def _words(text: str) -> int:
    return sum(any(char.isalnum() for char in token) for token in text.split())
