"""Who has answered a call that we made: somebody, or a machine? From the sound and its words. Pure.

People say little and wait. Machines, and shops, speak for as long as they like; what they say tells them
apart (`pipeline.greeting_words`). So every word of the first two seconds is weighed, and the silence behind
them: the less the words sound like a machine, the less silence says that somebody waits for us. Competitors
wait for the end of a greeting, seven seconds and more; this decides at two seconds, but for the few greetings
that could still be either ("Thank you for calling Riverside Dental"). Those are heard on until their words
tell, four seconds at most.

    judge = AnswerJudge()
    ask = judge.voice(probability, level_dbfs, start, end)     # one window after another
    judge.words(text, ask)                                     # when those samples have been transcribed
    judge.verdict                                              # None until it is known
"""

from dataclasses import dataclass
from typing import Final, Literal

from pipeline.endpointing import SpeechStarted, SpeechStopped, UtteranceDetector
from pipeline.greeting_words import machine_log_odds, opening
from pipeline.line import LINE_RATE_HZ

Answerer = Literal["somebody", "machine", "nobody"]

PAUSE_S: Final = 0.2
"""Of silence, at which the words so far are asked for."""
LOOKS_S: Final = (1.0, 1.4, 1.8, 2.15)
"""Of greeting, at which the words so far are asked for. Those of the last decide, unless in doubt."""
LATER_LOOKS_S: Final = (2.55, 2.95, 3.35, 3.75)
"""The same in doubt."""
ENOUGH_S: Final = 1.95
"""Words of so much were asked for shortly before the last look, at a pause, and stand for its own."""
SOON_S: Final = 1.7
"""Of greeting without a pause, from which on words that only people say are believed: "How can I ..."."""
LATEST_S: Final = 4.0
"""Of greeting, when it is decided even though words are still waited for, or cannot be had."""
NOBODY_S: Final = 4.0
"""Without any voice. Then we speak: some people wait for that."""
LEAD_IN_S: Final = 0.25
"""Transcribed from so much before the detector's first voiced window. An "h" or "th" is not voiced, and
without its first sound Whisper often hears "I" or nothing at all in "Hi, it's Jessica, I can't talk": on the
tuning part 8 % more of the words came out right."""

_SURE: Final = 2.5
"""Log odds, either way, that need no further words."""
_WAITS: Final = 3.0
_PER_SILENT_S: Final = 3.0
"""Whoever is silent waits for us; machines go on or beep. The log odds of a machine fall so much with every
second of silence, and at `-_WAITS` we speak: 0.3 s behind a "Hello?", 0.8 s behind a name."""
_OPENED_S: Final = 0.7
"""Of silence that says nothing behind "Thank you for calling us": both pause there, and nobody is done."""
_LIKELY: Final = 0.2
"""At the last look. Hanging up on a person is worse than talking to a machine."""
_DOUBT: Final = 0.15
"""Log odds so near to `_LIKELY` at the last look are a doubt: it is listened on. Of the tuning part's calls
1 % wait. At 0.25 bare openings ("Thank you for calling Riverside Dental") wait too, half of which are
machines': then 7 % wait, and 93.7 % are right instead of 91.5."""
_DOUBT_ENDS: Final = 1.0
"""So far from it they end the doubt."""


@dataclass(frozen=True, slots=True)
class Verdict:
    answerer: Answerer
    at_sample: int
    """When the sound that it rests on had arrived."""
    why: str


@dataclass(frozen=True, slots=True)
class AskWords:
    """Transcribe these samples of the line, and tell `AnswerJudge.words`."""

    start_sample: int
    end_sample: int


class AnswerJudge:
    """See above. Samples count from the moment of answering, 8 kHz; levels in dBFS."""

    def __init__(self) -> None:
        self.verdict: Verdict | None = None
        self._ear = UtteranceDetector(PAUSE_S)
        self._began: int | None = None
        self._voice_end = 0
        self._paused = False
        self._asked_s = 0.0
        self._asked_at_pause = -1
        self._odds = machine_log_odds("", paused=False)
        self._opened = False
        self._text = ""
        self._known_s = 0.0
        self._in_doubt = False
        self._waiting: AskWords | None = None

    def voice(self, probability: float, level_dbfs: float, start: int, end: int) -> AskWords | None:
        """One window of the voice detector, in order. What it returns is asked for once, and nothing else
        is asked meanwhile."""
        if self.verdict is not None:
            return None
        change = self._ear.push(probability, start, end, level_dbfs)
        if isinstance(change, SpeechStarted) and self._began is None:
            self._began = change.start_sample
        if self._ear.speaking or isinstance(change, SpeechStopped):
            self._voice_end = self._ear.end_sample
        self._paused = self._paused or isinstance(change, SpeechStopped)
        if self._began is None:
            if end >= NOBODY_S * LINE_RATE_HZ:
                self._decide("nobody", end, "no voice")
            return None
        ask = self._ask(self._began, end)
        self._weigh(self._began, end)
        return ask

    def words(self, text: str, asked: AskWords, at_sample: int) -> None:
        """What was said in the samples that were asked for, known when `at_sample` had arrived."""
        if self._waiting != asked or self._began is None or self.verdict is not None:
            return
        self._waiting = None
        self._known_s = (asked.end_sample - self._began) / LINE_RATE_HZ
        if text:
            self._text = text
            self._odds = machine_log_odds(text, paused=self._paused)
            self._opened = opening(text)
        self._weigh(self._began, at_sample)

    def failed(self, asked: AskWords) -> None:
        """The words could not be had: silence and the length of the greeting have to do."""
        if self._waiting == asked:
            self._waiting = None

    def _ask(self, began: int, end: int) -> AskWords | None:
        if self._waiting is not None:
            return None
        spoken_s = ((end if self._ear.speaking else self._voice_end) - began) / LINE_RATE_HZ
        at_pause = not self._ear.speaking and self._asked_at_pause != self._voice_end
        looks_s = LOOKS_S + LATER_LOOKS_S
        due = max((look_s for look_s in looks_s if spoken_s >= look_s), default=0.0)
        if not at_pause and due <= self._asked_s:
            return None
        if at_pause:
            self._asked_at_pause = self._voice_end
        self._asked_s = max(due, self._asked_s)
        self._waiting = AskWords(max(0, began - round(LEAD_IN_S * LINE_RATE_HZ)), end)
        return self._waiting

    def _weigh(self, began: int, now: int) -> None:
        """Decides, if what is known at `now` is enough."""
        greeting_s = (now - began) / LINE_RATE_HZ
        silent = not self._ear.speaking
        silence_s = (now - self._voice_end) / LINE_RATE_HZ if silent else 0.0
        if self._opened:
            silence_s = max(0.0, silence_s - _OPENED_S)
        odds = self._odds - _PER_SILENT_S * silence_s
        if greeting_s >= LATEST_S:
            self._decide_by_odds(odds, now)
        elif self._waiting is not None:
            return
        elif self._odds > _SURE:
            self._decide("machine", now, self._text)
        elif silent and odds < -_WAITS:
            self._decide("somebody", now, self._text or "waits for us")
        elif greeting_s >= LOOKS_S[-1] and (silent or self._known_s >= ENOUGH_S):
            far = abs(odds - _LIKELY)
            self._in_doubt = self._in_doubt or far < _DOUBT
            if not self._in_doubt or far > _DOUBT_ENDS:
                self._decide_by_odds(odds, now)
        elif not silent and self._known_s >= SOON_S and odds < -_SURE:
            self._decide("somebody", now, self._text)

    def _decide_by_odds(self, odds: float, now: int) -> None:
        talks_on = not self._known_s and self._ear.speaking
        self._decide("machine" if talks_on or odds > _LIKELY else "somebody", now, self._text or "talks on")

    def _decide(self, answerer: Answerer, at_sample: int, why: str) -> None:
        self.verdict = Verdict(answerer, at_sample, why)
