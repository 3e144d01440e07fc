"""Who has answered a call that we made: somebody, or a machine? From the sound and its words. Pure.

People say little and wait. Machines, and shops, speak for as long as they like; what they say tells them
apart. So a short greeting with silence behind it is somebody; at a pause, and after two seconds of speech
without one, the words decide. Competitors wait for the end of a greeting, seven seconds and more; this does
not.

    judge = AnswerJudge()
    ask = judge.voice(probability, level_dbfs, start, end)     # one window after another
    judge.words(text, ask)                                     # when those samples have been transcribed
    judge.verdict                                              # None until it is known

`GreetingEnd` then tells when a machine has finished and listens.
"""

import math
import re
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from pipeline.endpointing import SpeechStarted, SpeechStopped, UtteranceDetector
from pipeline.line import LINE_RATE_HZ, Pcm

Answerer = Literal["somebody", "machine", "nobody"]

PAUSE_S: Final = 0.35
"""Of silence, at which the words so far are asked for."""
PATIENT_S: Final = 1.1
"""Of silence after a greeting, with which whoever spoke waits for us: machines go on or beep."""
LOOKS_S: Final = (1.3, 1.8, 2.2)
"""Of greeting without a pause, at which the words so far are asked for; at the last they decide."""
NOBODY_S: Final = 4.0
"""Without any voice. Then we speak: some people wait for that."""

_SURE = 2.0
_LIKELY = 0.3
"""At the last look. "Thank you for calling ..." may go on either way; more often it is a machine."""
_PRIOR = -0.3
_PER_EXTRA_S = 0.5
"""Log odds of a machine for every second of greeting beyond the first."""
_MACHINE = {
    4.0: r"voice ?mail|mailbox|answering machine|(after|at|until|wait for) the (tone|beep|signal)"
    r"|leave (me |us )?(a|your)|record(ed|ing)? (a|your)"
    r"|(can'?t|cannot|can not|unable to|not able to) (come|take|answer|get|pick)"
    r"|not (here|in|available|at home|home)|unavailable|away from|get back to|return your call|call you back"
    r"|(has|have) been (forwarded|transferred|disconnected)|(you have|you've|you) (reached|called|dialed)"
    r"|(person|number|party|customer|subscriber) (that )?you|missed your call|switched off"
    r"|out of (the )?office|(we are|we're|office is|offices are|store is|shop is) (currently |now )?closed"
    r"|(opening|business|office) hours|press (one|two|1|2)|for (sales|english|service|support)|main menu"
    r"|your call (is|has|will|may)",
    1.2: r"sorry|at the moment|right now|currently|message|automated|welcome to|unfortunately"
    r"|our (office|store|shop|hours|team|lines|agents)",
    0.4: r"please|not|you('ve| have)|thank(s| you) for (calling|your call|phoning)",
}
_SOMEBODY = {
    3.0: r"how (can|may) (i|we)|(can|may) i (help|ask)|what can i|speaking\b|help you|go ahead"
    r"|who('s| is) (this|calling|there|that)|what do you want|(yes|hello|hi|yeah)\?",
    2.0: r"(one|a) (moment|second|minute)",
    1.0: r"good (morning|afternoon|evening)|^(hello|yes|yeah|hi|hey|speak|talk)\b.{0,6}$|\?$",
}


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
        self._asked_s = 0.0
        self._asked_at_pause = -1
        self._odds = _PRIOR
        self._text = ""
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
        if self._began is None:
            if end >= NOBODY_S * LINE_RATE_HZ:
                self._decide("nobody", end, "no voice")
            return None
        silent_s = (end - self._voice_end) / LINE_RATE_HZ
        if self._waiting is None and silent_s >= PATIENT_S:
            self._decide("machine" if self._odds > _SURE else "somebody", end, "waits for us")
            return None
        return self._ask(self._began, end, silent_s)

    def words(self, text: str, asked: AskWords, at_sample: int) -> None:
        """What was said in the samples that were asked for, known when `at_sample` had arrived."""
        if self._waiting != asked or self._began is None:
            return
        self._waiting = None
        self._text = text
        heard_s = (asked.end_sample - self._began) / LINE_RATE_HZ
        self._odds = machine_log_odds(text, heard_s)
        paused = self._asked_at_pause == self._voice_end and not self._ear.speaking
        if self._odds > _SURE:
            self._decide("machine", at_sample, text)
        elif self._odds < -_SURE and (paused or heard_s >= LOOKS_S[1]):
            self._decide("somebody", at_sample, text)
        elif not paused and heard_s >= LOOKS_S[-1]:
            self._decide("machine" if self._odds > _LIKELY else "somebody", at_sample, text)

    def failed(self, asked: AskWords) -> None:
        """The words could not be had: the length of the greeting has to do."""
        if self._waiting == asked:
            self._waiting = None

    def _ask(self, began: int, end: int, silent_s: float) -> AskWords | None:
        if self._waiting is not None:
            return None
        spoken_s = (self._voice_end - began) / LINE_RATE_HZ
        at_pause = silent_s >= PAUSE_S and self._asked_at_pause != self._voice_end
        due = max((look_s for look_s in LOOKS_S if spoken_s >= look_s), default=0.0)
        if not at_pause and due <= self._asked_s:
            return None
        if at_pause:
            self._asked_at_pause = self._voice_end
        self._asked_s = max(due, self._asked_s)
        self._waiting = AskWords(began, end)
        return self._waiting

    def _decide(self, answerer: Answerer, at_sample: int, why: str) -> None:
        self.verdict = Verdict(answerer, at_sample, why)


def machine_log_odds(text: str, greeting_s: float) -> float:
    """That a machine says `text`, after so many seconds of greeting."""
    words = text.lower().strip()
    odds = _PRIOR + _PER_EXTRA_S * max(0.0, greeting_s - 1.0)
    odds += sum(weight * len(set(_found(pattern, words))) for weight, pattern in _MACHINE.items())
    odds -= sum(weight * len(set(_found(pattern, words))) for weight, pattern in _SOMEBODY.items())
    return odds


def _found(pattern: str, words: str) -> list[str]:
    return [match.group(0) for match in re.finditer(rf"(?:{pattern})", words)]


class GreetingEnd:
    """When a machine has spoken and listens: behind its beep, or behind a long silence. `push` gives the
    line's samples in order, `voiced` whether somebody speaks in them; the answer is True from then on."""

    SILENCE_S: Final = 2.2
    LONGEST_S: Final = 60.0
    AFTER_BEEP_S: Final = 0.3

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
            return self._samples - self._beeped_at >= self.AFTER_BEEP_S * LINE_RATE_HZ
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
