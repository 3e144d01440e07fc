"""Who has answered a call that we made: somebody, or a machine? From the sound and its words. Pure.

People say little and wait. Machines, and shops, speak for as long as they like; what they say tells them
apart (`pipeline.greeting_words`). So every word of the first two seconds is weighed, and the silence behind
them: the less the words sound like a machine, the less silence says that somebody waits for us. Competitors
wait for the end of a greeting, seven seconds and more; this does not.

    judge = AnswerJudge()
    ask = judge.voice(probability, level_dbfs, start, end)     # one window after another
    judge.words(text, ask)                                     # when those samples have been transcribed
    judge.verdict                                              # None until it is known

`GreetingEnd` then tells when a machine has finished and listens.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from pipeline.endpointing import SpeechStarted, SpeechStopped, UtteranceDetector
from pipeline.greeting_words import machine_log_odds
from pipeline.line import LINE_RATE_HZ, Pcm

Answerer = Literal["somebody", "machine", "nobody"]

PAUSE_S: Final = 0.2
"""Of silence, at which the words so far are asked for."""
LOOKS_S: Final = (1.0, 1.4, 1.8, 2.15)
"""Of greeting, at which the words so far are asked for; those of the last decide."""
SOON_S: Final = 1.7
"""Of greeting without a pause, from which on words that only people say are believed: "How can I ..."."""
LATEST_S: Final = 4.0
"""Of greeting, when it is decided even though words are still waited for, or cannot be had."""
NOBODY_S: Final = 4.0
"""Without any voice. Then we speak: some people wait for that."""

_SURE: Final = 2.5
"""Log odds, either way, that need no further words."""
_WAITS: Final = 3.0
_PER_SILENT_S: Final = 3.0
"""Whoever is silent waits for us; machines go on or beep. The log odds of a machine fall so much with every
second of silence, and at `-_WAITS` we speak: 0.3 s behind a "Hello?", 0.8 s behind a name."""
_LIKELY: Final = 0.3
"""At the last look. Hanging up on a person is worse than talking to a machine."""


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
        self._text = ""
        self._known_s = 0.0
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
        self._weigh(self._began, at_sample)

    def failed(self, asked: AskWords) -> None:
        """The words could not be had: silence and the length of the greeting have to do."""
        if self._waiting == asked:
            self._waiting = None

    def _ask(self, began: int, end: int) -> AskWords | None:
        if self._waiting is not None:
            return None
        spoken_s = (self._voice_end - began) / LINE_RATE_HZ
        at_pause = not self._ear.speaking and self._asked_at_pause != self._voice_end
        due = max((look_s for look_s in LOOKS_S if spoken_s >= look_s), default=0.0)
        if not at_pause and due <= self._asked_s:
            return None
        if at_pause:
            self._asked_at_pause = self._voice_end
        self._asked_s = max(due, self._asked_s)
        self._waiting = AskWords(began, end)
        return self._waiting

    def _weigh(self, began: int, now: int) -> None:
        """Decides, if what is known at `now` is enough."""
        greeting_s = (now - began) / LINE_RATE_HZ
        silent = not self._ear.speaking
        odds = self._odds - (_PER_SILENT_S * (now - self._voice_end) / LINE_RATE_HZ if silent else 0.0)
        if self._waiting is not None:
            if greeting_s >= LATEST_S:
                self._decide_by_odds(odds, now)
        elif self._odds > _SURE:
            self._decide("machine", now, self._text)
        elif silent:
            if odds < -_WAITS:
                self._decide("somebody", now, self._text or "waits for us")
            elif greeting_s >= LOOKS_S[-1] and odds > _LIKELY:
                self._decide("machine", now, self._text)
        elif self._known_s >= LOOKS_S[-1] or (self._known_s >= SOON_S and odds < -_SURE):
            self._decide("machine" if odds > _LIKELY else "somebody", now, self._text)
        elif greeting_s >= LATEST_S:
            self._decide_by_odds(odds, now)

    def _decide_by_odds(self, odds: float, now: int) -> None:
        talks_on = not self._known_s and self._ear.speaking
        self._decide("machine" if talks_on or odds > _LIKELY else "somebody", now, self._text or "talks on")

    def _decide(self, answerer: Answerer, at_sample: int, why: str) -> None:
        self.verdict = Verdict(answerer, at_sample, why)


class GreetingEnd:
    """When a machine has spoken and listens: behind its beep, or behind a long silence. `push` gives the
    line's samples in order, `voiced` whether somebody speaks in them; the answer is True from then on."""

    SILENCE_S: Final = 2.2
    LONGEST_S: Final = 60.0
    AFTER_BEEP_S: Final = 0.3
    BELIEF_S: Final = 0.15
    """So long the voice detector may go on believing in a voice. If it still does, the beep was a vowel."""

    def __init__(self) -> None:
        self._beep = BeepMeter()
        self._silent = 0
        self._samples = 0
        self._beeped_at: int | None = None

    def push(self, pcm: Pcm, *, voiced: bool) -> bool:
        self._samples += len(pcm)
        ended = self._beep.push(pcm)
        if ended:
            self._beeped_at = self._samples
        sounding = voiced or self._beep.sounding
        self._silent = 0 if sounding else self._silent + len(pcm)
        if self._beeped_at is not None:
            since_s = (self._samples - self._beeped_at) / LINE_RATE_HZ
            if not voiced or since_s < self.BELIEF_S:
                return since_s >= self.AFTER_BEEP_S
            self._beeped_at = None
        limit = self._samples >= self.LONGEST_S * LINE_RATE_HZ
        return limit or self._silent >= self.SILENCE_S * LINE_RATE_HZ


class BeepMeter:
    """Finds one steady tone, as answering machines give it before they record: 0.15 s and longer, 350 to
    2,200 Hz. Voices have overtones and do not hold still."""

    SHORTEST_S: Final = 0.15
    _WINDOW = 256
    _HOP = 128
    _LOUD_DBFS = -38.0
    _SHARE = 0.88
    _STEADY_BINS = 1

    def __init__(self) -> None:
        self._pending = np.zeros(0, np.float64)
        self._run = 0
        self._bin = 0
        self.sounding = False
        self._window = np.hanning(self._WINDOW)

    def push(self, pcm: Pcm) -> bool:
        """True when a beep has just ended."""
        self._pending = np.concatenate([self._pending, pcm.astype(np.float64) / 32_768])
        ended = False
        while len(self._pending) >= self._WINDOW:
            ended = self._hear(self._pending[: self._WINDOW]) or ended
            self._pending = self._pending[self._HOP :]
        return ended

    def _hear(self, samples: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> bool:
        power = float(np.mean(samples**2))
        loud = power > 0 and 10 * math.log10(power) > self._LOUD_DBFS
        spectrum = np.abs(np.fft.rfft(samples * self._window)) ** 2
        peak = int(np.argmax(spectrum))
        share = spectrum[max(0, peak - 2) : peak + 3].sum() / max(spectrum.sum(), 1e-12)
        hertz = peak * LINE_RATE_HZ / self._WINDOW
        pure = loud and share > self._SHARE and 350 <= hertz <= 2200
        if pure and (self._run == 0 or abs(peak - self._bin) <= self._STEADY_BINS):
            self._bin = peak
            self._run += 1
            self.sounding = self._run * self._HOP >= self.SHORTEST_S * LINE_RATE_HZ
            return False
        ended = self.sounding
        self._run, self.sounding = (1 if pure else 0), False
        self._bin = peak
        return ended
