"""Callers for whom there is no place yet: words, a pause, and the question again.

Twilio keeps the caller on the line by itself: the TwiML says the words, waits (`<Pause>`), and comes back to
`/twilio/waiting` (`<Redirect>`), which connects the call where there is a place by then. How often it was
asked stands in the redirect's query, which Twilio signs with the rest of the URL: nobody here remembers, so
any front-end may be asked next. https://www.twilio.com/docs/voice/twiml/pause
"""

import math
import re
from dataclasses import dataclass, field
from typing import Final, Protocol

from twilio.twiml.voice_response import VoiceResponse  # type: ignore[import-untyped]

WAITING: Final = "/twilio/waiting"
ASKED_PARAMETER: Final = "asked"
SAID_AGAIN_AFTER_S: Final = 30.0
LATE_S: Final = 5.0
"""Twilio may take so long to come back, beyond the pause and the words. Later the turn is lost: a caller who
has hung up without a word of it must not keep a place free for long."""
_BACK_S: Final = 20.0
"""Within which the new stream of a lost call comes, or does not."""
_WORD_S: Final = 0.6
_NUMBER: Final = re.compile(r"[0-9]{1,4}", re.ASCII)


class Turns(Protocol):
    """Who waits, in order. A place that falls free is taken by whoever has waited for longest."""

    def keep_turn(self, call_id: str, *, for_s: float, first: bool = False) -> None:
        """The caller waits, and asks again within `for_s`; `first`: before all the others."""
        ...

    def leave(self, call_id: str) -> None:
        """The caller is turned away after all."""
        ...


class NoTurns:
    """Whoever asks at the right moment is served."""

    def keep_turn(self, call_id: str, *, for_s: float, first: bool = False) -> None:
        return None

    def leave(self, call_id: str) -> None:
        return None


@dataclass(frozen=True, slots=True)
class WaitingRoom:
    """`words` are said when the caller comes, and again every `SAID_AGAIN_AFTER_S`; every `ask_s` (whole
    seconds, Twilio's `<Pause>` knows no others) it is asked for a place, until `limit_s` are over."""

    words: str
    limit_s: float
    ask_s: int = 5
    turns: Turns = field(default_factory=NoTurns)

    @property
    def most(self) -> int:
        """How often a place is asked for after the first time. What the words take comes on top."""
        return max(1, math.ceil(self.limit_s / self.ask_s))

    def keep_turn(self, call_id: str, asked: int) -> None:
        """The caller, who has asked again `asked` times, is here and wants a place."""
        spoken_s = len(self.words.split()) * _WORD_S if self._says_words(asked) else 0.0
        self.turns.keep_turn(call_id, for_s=self.ask_s + spoken_s + LATE_S)

    def goes_on(self, call_id: str) -> None:
        """A call that was lost comes back: whoever was in the middle of it waits for nobody."""
        self.turns.keep_turn(call_id, for_s=_BACK_S, first=True)

    def may_wait(self, call_id: str, asked: int) -> bool:
        """There is no place. False: the caller has waited for long enough, and loses the turn."""
        if asked < self.most:
            return True
        self.turns.leave(call_id)
        return False

    def _says_words(self, asked: int) -> bool:
        return asked % max(1, round(SAID_AGAIN_AFTER_S / self.ask_s)) == 0

    def twiml(self, url: str, asked: int) -> VoiceResponse:
        """What a caller who waits is told. `url` is the public one of `WAITING`."""
        response = VoiceResponse()
        if self._says_words(asked):
            response.say(self.words)
        response.pause(length=self.ask_s)
        response.redirect(f"{url}?{ASKED_PARAMETER}={asked + 1}", method="POST")
        return response


def asked_before(told: str | None) -> int | None:
    """How often a caller has asked again, by what stands in the query; None for what we did not write."""
    return int(told) if told is not None and _NUMBER.fullmatch(told) else None
