"""What was said and heard so far, as the voice is shown it: clause by clause, with the caller's sound.

Beside `History`, which is the language model's: a voice wants each clause under the key that it was voiced
with, how many seconds of it were heard, and the caller's audio. Keys are unique within a call. A turn that is
retracted comes again under new ones, so equal keys always stand for equal words and samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from models.base import AgentSpeech, CallerSpeech, Speech
from pipeline.heard import heard_words
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.playout import HeardClause
from pipeline.resample import from_pcm

SOUND_KEPT_S = 180.0
"""The caller's sound that stays at hand, latest first; of what lies further back the words are kept. A voice
of 2,048 CodecFrames remembers 164 s at most."""

AnySpeech = TypeVar("AnySpeech", CallerSpeech, Speech)


@dataclass(frozen=True, slots=True)
class SpokenClause:
    """A clause of the agent's: as written, as voiced, and the voice's key of it. Without words it is a sound,
    such as that of a key."""

    text: str
    words: str
    utterance: str
    part: int = 0
    """How many tools had been used in the reply before it."""
    filler: bool = False
    """Said so that the line is not silent; no part of the answer."""


class Conversation:
    """Collects what the voice takes: nothing, the words, or the words and the caller's audio.

    A turn of the caller's is one `CallerSpeech` for each piece that was transcribed: usually one.
    """

    def __init__(self, takes: Literal["nothing", "text", "audio"]) -> None:
        self._takes = takes
        self._speeches: list[Speech] = []
        self._pieces: dict[int, CallerSpeech] = {}
        self._last_turn: int | None = None

    @property
    def speeches(self) -> tuple[Speech, ...]:
        return tuple(self._speeches)

    def with_caller(self) -> tuple[Speech, ...]:
        """The conversation as it will stand when the turn in hand is the caller's next one."""
        return (*self._speeches, *self._turn())

    def _turn(self) -> list[CallerSpeech]:
        return [piece for piece in self._pieces.values() if piece.text]

    # The caller

    def caller_paused(self, attempt: int, follows: Sequence[int], pcm: Pcm) -> None:
        """`pcm` is transcribed as `attempt`, which continues the turn of the pieces `follows`."""
        if self._takes == "nothing":
            return
        sound = from_pcm(pcm) if self._takes == "audio" else None
        pieces = [(number, piece) for number, piece in self._pieces.items() if number in follows]
        pieces.append((attempt, CallerSpeech(f"caller/{attempt}", "", sound, LINE_RATE_HZ)))
        kept = _with_latest_sound([piece for _, piece in pieces])
        self._pieces = {number: piece for (number, _), piece in zip(pieces, kept, strict=True)}

    def transcribed(self, attempt: int, text: str) -> None:
        if attempt in self._pieces:
            self._pieces[attempt] = replace(self._pieces[attempt], text=text)

    def caller_said(self) -> None:
        """The turn in hand is over."""
        self._last_turn = len(self._speeches)
        self._speeches = _with_latest_sound([*self._speeches, *self._turn()])

    def retract_caller(self) -> None:
        """The last turn was not over; it comes again as part of a longer one."""
        if self._last_turn is not None:
            del self._speeches[self._last_turn :]
            self._last_turn = None

    # The agent

    def agent_said(self, clauses: Sequence[SpokenClause]) -> None:
        """All of it was heard."""
        if self._takes != "nothing":
            self._last_turn = None
            self._speeches += [
                AgentSpeech(clause.utterance, clause.words) for clause in clauses if clause.words
            ]

    def agent_cut(self, clauses: Sequence[SpokenClause], heard: Sequence[HeardClause]) -> None:
        """Of each clause `heard` tells how much was heard; what was not heard at all leaves no trace."""
        if self._takes != "nothing":
            self._last_turn = None
            pairs = zip(clauses, heard, strict=True)
            self._speeches += [speech for clause, part in pairs if (speech := _as_heard(clause, part))]


def _as_heard(clause: SpokenClause, part: HeardClause) -> AgentSpeech | None:
    words = heard_words(clause.words, part.samples, part.heard_samples, complete=part.complete)
    if not words:
        return None
    whole = part.complete and part.heard_samples >= part.samples
    return AgentSpeech(clause.utterance, words, None if whole else part.heard_samples / LINE_RATE_HZ)


def _with_latest_sound(speeches: list[AnySpeech]) -> list[AnySpeech]:
    """Without the sound that lies more than `SOUND_KEPT_S` of the caller's sound back."""
    kept: list[AnySpeech] = []
    left = round(SOUND_KEPT_S * LINE_RATE_HZ)
    for speech in reversed(speeches):
        if isinstance(speech, CallerSpeech) and speech.audio is not None:
            left -= speech.audio.size
            if left < 0:
                speech = replace(speech, audio=None)
        kept.append(speech)
    return kept[::-1]
