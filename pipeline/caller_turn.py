"""One turn of the caller in the making: pieces of speech, attempts to transcribe them, the pauses between.

Positions are samples of the caller's audio (8 kHz).
"""

from dataclasses import dataclass, field

from pipeline.keys import as_words
from pipeline.line import LINE_RATE_HZ

PIECE_SETTLES_SAMPLES = LINE_RATE_HZ * 15
"""A pause after this much speech closes a piece of a long turn."""
PIECE_LONGEST_SAMPLES = LINE_RATE_HZ * 25
"""Speech without any pause is cut here; Whisper's window is 30 s."""


@dataclass(slots=True)
class Attempt:
    """The work for one pause: transcription, then a reply behind its gate."""

    number: int
    end_sample: int
    text: str | None = None
    ends: float | None = None
    """The language model's probability that the turn ends with these words."""
    reply_started: bool = False


@dataclass(slots=True)
class CallerTurn:
    """Closed pieces, then the piece that is still open."""

    piece_start: int
    settled: list[Attempt] = field(default_factory=list)
    current: Attempt | None = None
    committed: bool = False
    speech_end: int = 0
    """Where the last utterance ended that belongs to this turn."""
    voiced_samples: int = 0
    retried: bool = False
    """Hearing or answering it failed once already."""
    interrupts: bool = False
    """It began over the agent's voice, and cut it off."""
    acted: bool = False
    """Something was done for it that cannot be undone: it stands, whatever comes behind it."""
    digits: str = ""
    """Of the numbers that the caller pressed in it."""
    chosen: str = ""
    """The action of the menu that a key stands for."""

    def text(self) -> str | None:
        """The whole turn's words, and its keys; None while a transcript is missing."""
        parts = [a.text for a in (*self.settled, *([self.current] if self.current else []))]
        if None in parts:
            return None
        words = " ".join(p for p in parts if p)
        if not self.digits:
            return words
        return f"{words} ({as_words(self.digits)})" if words else as_words(self.digits)

    def with_part(self, part: str) -> str | None:
        """The closed pieces' words and `part`, what there is of the open one."""
        parts = [*(a.text for a in self.settled), part]
        return None if None in parts else " ".join(p for p in parts if p)

    def attempt(self, number: int) -> Attempt | None:
        known = (*self.settled, *([self.current] if self.current else []))
        return next((a for a in known if a.number == number), None)

    def settle(self) -> None:
        """The current attempt closes its piece; the next one begins behind it."""
        if self.current is not None:
            self.settled.append(self.current)
            self.piece_start = self.current.end_sample
            self.current = None

    @property
    def wordless(self) -> bool:
        """So long that a piece of it was closed, and without a word that the transcriber trusts."""
        return bool(self.settled) and self.text() == ""
