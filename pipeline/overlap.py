"""A voice over the agent's: does it take the floor? Decisions only; time is the place in the caller's audio.

    judge.hear(...)          every window of the detector, while the agent speaks
    judge.wanted_glimpse()   after it: what to glimpse at now, if anything
    judge.glimpsed(...)      when that has come back
    judge.transcribed(text)  when an utterance that was let pass has been transcribed

Each answers with a verdict. "quiet": no voice, or an echo of our own. "undecided": somebody makes a sound,
or the line has become louder than it is by itself (`pipeline.onset`); the agent turns its voice down.
"stop": the floor is the caller's. "keep": it was no wish to speak; the agent goes on at its level. "keep" may
still become "stop" while the same utterance goes on; "stop" is final until `reset`.

A glimpse gives the odds that somebody wants to speak. Early ones see one syllable, so they must be surer;
what none has decided by `DECIDED_BY_SAMPLES` is let pass, and watched: a listener's word ends after a known
time, and who sounds on behind it ("yes, but") wants the floor. Listeners speak softer than people who
interrupt, so the level shifts the odds a little; somebody far below the caller's usual level is not talking
to the agent, unless the word is "stop".
"""

import math
import re
from dataclasses import dataclass
from typing import Literal

from models.base import Glimpse
from pipeline.endpointing import OFFSET_PROBABILITY, ONSET_PROBABILITY
from pipeline.line import LINE_RATE_HZ
from pipeline.onset import OnsetWatch

Verdict = Literal["quiet", "undecided", "stop", "keep"]
BargeIn = Literal["polite", "eager", "never"]

DUCK_VOICED_SAMPLES = LINE_RATE_HZ * 64 // 1000
"""Two windows of voice: one alone is often a click."""
PREROLL_SAMPLES = LINE_RATE_HZ * 100 // 1000
"""Before the first voiced window, for a glimpse: the detector comes after soft consonants."""
WORDS_PREROLL_SAMPLES = LINE_RATE_HZ * 300 // 1000
"""The same for a transcription, as for every turn's."""
GLIMPSES_AT = tuple(LINE_RATE_HZ * ms // 1000 for ms in (128, 192, 288, 416, 480, 544, 608))
"""After the first voiced window began. The fourth and later ones come while the voice goes on: they see
whether "okay" is followed by "and how"."""
SURE = (1.6, 0.9, 0.9, 0.6, 0.4, 0.2, 0.0)
"""Log odds that stop the agent, for each glimpse: the longer a voice goes on, the less evidence it needs."""
SURE_OF_STOP = 1.0
"""Log odds at which a stop word is believed at the first look."""
DECIDED_BY_SAMPLES = LINE_RATE_HZ * 320 // 1000
"""The detector's grid, a packet and the wait for the last glimpse come on top: 400 ms in all."""
LAST_GLIMPSE_SAMPLES = LINE_RATE_HZ * 96 // 1000
"""How long a glimpse that is on its way at the decision is waited for."""
GOES_ON_SAMPLES = LINE_RATE_HZ * 700 // 1000
"""Of voice: hardly a backchannel lasts so long ("mm-hmm": 0.3-0.55 s)."""
WORD_LASTS_SAMPLES = {1: LINE_RATE_HZ * 544 // 1000, 2: LINE_RATE_HZ * 608 // 1000}
"""By its syllables: a listener's word that a glimpse has read is over by then ("right" takes 0.3-0.47 s,
"okay" 0.43-0.56 s), and who still sounds says something behind it."""
FALLEN_DB = 20.0
"""Below the loudest window: the end of the word, though the detector goes on for 0.1 s."""
DIP_SAMPLES = LINE_RATE_HZ * 48 // 1000
"""A voice that goes on may be as quiet as a consonant for so long."""
ENDS_SAMPLES = LINE_RATE_HZ * 300 // 1000
"""Silence that ends the utterance; the breath inside "mm-hmm" takes 0.1 s."""

LATEST = 0.7
"""Weight of the latest glimpse; the rest is what was thought before: "sure" may look like "sorry" once."""
BELIEVED = 1.0
"""Log odds by all glimpses under which a transcriber's words are taken for invented."""
LEAST_SHARE = 0.02
"""A glimpse's certainty goes no further."""
LEVEL_ODDS = 0.35
"""Per dB over `_LISTENERS_DB`. A listener's sounds are softer than speech for the floor."""
_LISTENERS_DB, _MOST_LEVEL_DB = -1.0, 4.0
LOUDEST_OVER_USUAL_DB = 4.5
"""How far the loudest window of a syllable lies over the RMS of speech. It is what an utterance's level is
taken from: a mean would call every word soft that begins with a fricative."""
ASIDE_DB = -8.0
"""Under the caller's usual level: somebody else, or the caller to somebody else."""
AUDIBLE_DB = -18.0
"""Under the usual level: echo and rustle are no voice here, whatever the detector says."""
UNKNOWN_DBFS = -23.0
"""Taken for the usual level until the caller has spoken, or was louder: what telephone networks aim at, and a
little more, is -26 (ITU-T P.56)."""
UNKNOWN_ASIDE_SAMPLES = LINE_RATE_HZ * 1500 // 1000
"""So long a voice is let pass for its level alone before that level is known."""
USUAL_MEMORY_SAMPLES = 3 * LINE_RATE_HZ
"""Of voice: the usual level's memory."""
ECHO_SHARE = 0.5
"""From here on a window is our own voice come back."""
NOISE_SHARE = 0.6

STOP_WORDS = frozenset(
    [
        *("stop", "wait", "no", "nope", "don't", "enough", "quiet", "hold", "hang", "excuse", "sorry"),
        *("top", "star", "up", "weight", "whoa"),
    ]
)
"""First words that stop the agent however softly they are said; and what a short one is misheard as."""
_LISTENING = frozenset(
    word
    for line in (
        "yeah yes yep yup ya okay ok right alright all sure mm mmm mhm hmm hm uh huh uhhuh mmhmm um oh ah",
        "aha great good fine cool exactly i see got it thanks thank you",
    )
    for word in line.split()
)

_SYLLABLES = {
    **dict.fromkeys(("yeah", "yes", "yep", "yup", "right", "sure", "fine", "great", "good", "cool"), 1),
    **dict.fromkeys(("okay", "ok", "alright"), 2),
}
"""Of listeners' words whose length tells."""
_AT_ONCE = frozenset(["stop", "wait", "no", "nope", "hold", "hang", "don't"])
"""Of the stop words, those that no backchannel is mistaken for ("sorry" is "sure" now and then)."""

_LEADS = frozenset(["yeah", "yes", "yep", "okay", "ok", "right", "alright", "sure", "fine"])
"""What is often followed by more."""


def takes_floor(text: str, *, aside: bool = False) -> bool:
    """Whether words ask the agent to stop: any but a listener's; spoken `aside`, only a stop word."""
    words = _words(text)
    if aside:
        return bool(words) and words[0] in STOP_WORDS
    return any(word not in _LISTENING for word in words)


def _goes_further(text: str) -> bool:
    """Whether a listener's word is followed by another one: "okay, and". The last word may be cut."""
    words = _words(text)
    begins = bool(words) and words[0] in _LEADS
    return begins and any(word not in _LISTENING and len(word) > 1 for word in words[1:])


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z']+|\d+", text.lower().replace("-", ""))


class UsualLevel:
    """How loud a caller speaks: the mean power of the voice so far, the last seconds counting most."""

    def __init__(self) -> None:
        self._power: float | None = None

    def hear(self, probability: float, level_dbfs: float, samples: int) -> None:
        """A window of a caller who has the floor."""
        if probability < ONSET_PROBABILITY:
            return
        power = 10 ** (level_dbfs / 10)
        part = 1.0 if self._power is None else samples / USUAL_MEMORY_SAMPLES
        self._power = power if self._power is None else self._power + part * (power - self._power)

    @property
    def dbfs(self) -> float | None:
        """RMS while voiced; None before the first voice."""
        return None if self._power is None else 10 * math.log10(max(self._power, 1e-10))


@dataclass(slots=True)
class _Utterance:
    start_sample: int
    end_sample: int
    """Of the last voiced window."""
    voiced_samples: int = 0
    loudest_dbfs: float = -120.0
    glimpses: int = 0
    """Of `GLIMPSES_AT`, how many were taken or passed by."""
    awaited: int | None = None
    noise: bool = False
    """So the latest glimpse."""
    odds: float | None = None
    """Log odds for the floor by all glimpses so far, the level left out."""
    listens: str = ""
    """The listener's word that the latest glimpse read."""
    loud_windows: int = 0
    """The last ones in a row, by level."""
    verdict: Verdict = "undecided"
    words_asked: bool = False


class OverlapJudge:
    """One call's. `policy` as in the persona; `eager_s` is its `barge_in_s`."""

    def __init__(self, policy: BargeIn = "polite", *, eager_s: float = 0.16) -> None:
        self._policy = policy
        self._eager_samples = round(eager_s * LINE_RATE_HZ)
        self._utterance: _Utterance | None = None
        self._onset = OnsetWatch()
        self._numbers = 0
        self._heard_to = 0
        self._last: _Utterance | None = None
        self._asked: _Utterance | None = None
        """Whose words are being transcribed."""
        self._overheard_dbfs = -math.inf
        """Level of the loudest backchannel so far."""
        self.usual = UsualLevel()
        """Feed it the windows of the caller's own turns."""

    @property
    def verdict(self) -> Verdict:
        utterance = self._utterance
        if utterance is None or utterance.voiced_samples < DUCK_VOICED_SAMPLES:
            return "quiet" if self._onset.start_sample is None else "undecided"
        return utterance.verdict

    @property
    def start_sample(self) -> int | None:
        """Where the voice that is judged began; None while there is none."""
        return None if self._utterance is None else self._utterance.start_sample

    @property
    def aside(self) -> bool:
        """Whether the utterance in hand, or the last one, is far below the caller's usual level."""
        utterance = self._utterance or self._last
        return utterance is not None and self._relative_db(utterance) < ASIDE_DB

    def reset(self) -> None:
        """The agent fell silent, or begins to speak: what was heard before is not over its voice."""
        self._utterance = self._last = self._asked = None
        self._onset.reset()

    def hear(
        self, probability: float, level_dbfs: float, echo: float, start_sample: int, end_sample: int
    ) -> Verdict:
        """The window [start_sample, end_sample) while the agent speaks; `echo` is our own voice's share."""
        self._heard_to = end_sample
        if self._utterance is None or self._utterance.voiced_samples < DUCK_VOICED_SAMPLES:
            self._onset.hear(probability if echo < ECHO_SHARE else 0.0, level_dbfs, start_sample, end_sample)
        audible = level_dbfs >= self._usual_dbfs() + AUDIBLE_DB
        needed = ONSET_PROBABILITY if self._utterance is None else OFFSET_PROBABILITY
        if probability >= needed and audible and echo < ECHO_SHARE:
            self._voice(level_dbfs, start_sample, end_sample)
        elif self._utterance is not None:
            self._silence(self._utterance)
        if self._utterance is not None:
            self._decide(self._utterance)
        return self.verdict

    def _voice(self, level_dbfs: float, start_sample: int, end_sample: int) -> None:
        if self._utterance is None:
            noticed = self._onset.start_sample
            self._utterance = _Utterance(start_sample if noticed is None else noticed, end_sample)
        utterance = self._utterance
        utterance.end_sample = end_sample
        utterance.voiced_samples += end_sample - start_sample
        utterance.loudest_dbfs = max(utterance.loudest_dbfs, level_dbfs)
        fallen = level_dbfs < utterance.loudest_dbfs - FALLEN_DB
        utterance.loud_windows = 0 if fallen else utterance.loud_windows + 1
        if utterance.voiced_samples >= DUCK_VOICED_SAMPLES:
            self._onset.found()

    def _silence(self, utterance: _Utterance) -> None:
        utterance.loud_windows = 0
        click = utterance.voiced_samples < DUCK_VOICED_SAMPLES
        ended = utterance.verdict == "keep" and self._heard_to - utterance.end_sample >= ENDS_SAMPLES
        if click or ended:
            self._last = self._last if click else utterance
            if not click and not utterance.noise:
                level_dbfs = utterance.loudest_dbfs - LOUDEST_OVER_USUAL_DB
                self._overheard_dbfs = max(self._overheard_dbfs, level_dbfs)
            self._utterance = None

    # Glimpses

    def wanted_glimpse(self) -> tuple[int, int, int] | None:
        """(number, start, end): glimpse at these samples now, and tell `glimpsed`. Each is asked for once,
        and none while another is on its way."""
        utterance = self._utterance
        if (
            self._policy != "polite"
            or utterance is None
            or utterance.verdict == "stop"
            or utterance.awaited is not None
            or utterance.voiced_samples < DUCK_VOICED_SAMPLES
            or (utterance.verdict == "keep" and not self._sounding(utterance))
        ):
            return None
        due = sum(self._heard_to >= utterance.start_sample + at for at in GLIMPSES_AT)
        if due <= utterance.glimpses:
            return None
        utterance.glimpses = due
        self._numbers += 1
        utterance.awaited = self._numbers
        return self._numbers, max(0, utterance.start_sample - PREROLL_SAMPLES), self._heard_to

    def glimpsed(self, number: int, glimpse: Glimpse | None) -> Verdict:
        """What the glimpse `number` saw, None if it failed; one of a former utterance is ignored."""
        utterance = self._utterance
        if utterance is None or utterance.awaited != number:
            return self.verdict
        utterance.awaited = None
        if glimpse is not None:
            self._weigh(utterance, glimpse)
            self._decide(utterance)
        return self.verdict

    def last_say(self) -> tuple[int, int] | None:
        """(start, end) of an utterance that was let pass and is over: its words have the last say. Transcribe
        these samples and tell `transcribed`. Each is asked for once."""
        utterance = self._utterance or self._last
        if self._policy != "polite" or utterance is None or utterance.verdict != "keep":
            return None
        if utterance.words_asked:
            return None
        utterance.words_asked = True
        self._asked = utterance
        return max(0, utterance.start_sample - WORDS_PREROLL_SAMPLES), self._heard_to

    @property
    def oldest_needed_sample(self) -> int | None:
        """Where the oldest utterance begins that may still become a turn; None: there is none."""
        starts = [u.start_sample for u in (self._utterance, self._asked) if u is not None]
        return min(starts, default=None)

    def transcribed(self, text: str) -> Verdict:
        """All words of the utterance of `last_say`, "" where there were none. "stop" when they ask for the
        floor after all."""
        utterance, self._asked = self._asked, None
        if self._policy != "polite" or utterance is None:
            return self.verdict
        # Transcribers write words for a hum, too: against the glimpses only a stop word is believed.
        doubted = utterance.odds is not None and utterance.odds < BELIEVED
        if takes_floor(text, aside=self.aside or doubted):
            utterance.verdict = "stop"
            self._utterance = utterance
        return self.verdict

    # The decision

    def _decide(self, utterance: _Utterance) -> None:
        if utterance.verdict == "stop" or utterance.voiced_samples < DUCK_VOICED_SAMPLES:
            return
        if self._policy == "never":
            utterance.verdict = "keep"
            return
        if self._policy == "eager":
            if utterance.voiced_samples >= self._eager_samples:
                utterance.verdict = "stop"
            elif self._heard_to - utterance.end_sample >= ENDS_SAMPLES:
                utterance.verdict = "keep"
            return
        elapsed = self._heard_to - utterance.start_sample
        if utterance.verdict == "undecided" and elapsed >= DECIDED_BY_SAMPLES:
            late = elapsed >= DECIDED_BY_SAMPLES + LAST_GLIMPSE_SAMPLES
            if utterance.awaited is None or late:
                utterance.verdict = "keep"
        goes_on = utterance.voiced_samples >= GOES_ON_SAMPLES or self._outlasts_word(utterance)
        if goes_on and not self._lets_pass(utterance):
            utterance.verdict = "stop"

    def _outlasts_word(self, utterance: _Utterance) -> bool:
        """Somebody still sounds when the listener's word must be over: "yes, but"."""
        lasts = WORD_LASTS_SAMPLES.get(_SYLLABLES.get(utterance.listens, 0))
        long_enough = lasts is not None and self._heard_to - utterance.start_sample >= lasts
        return long_enough and utterance.loud_windows >= 2

    def _lets_pass(self, utterance: _Utterance) -> bool:
        """However long it lasts: talk to somebody else, or no voice."""
        waits = self.usual.dbfs is not None or utterance.voiced_samples < UNKNOWN_ASIDE_SAMPLES
        return utterance.noise or (waits and self._relative_db(utterance) < ASIDE_DB)

    def _weigh(self, utterance: _Utterance, glimpse: Glimpse) -> None:
        odds = math.log(max(glimpse.speech, LEAST_SHARE) / max(1 - glimpse.speech, LEAST_SHARE))
        words = _words(glimpse.text)
        first = words[0] if words else ""
        utterance.listens = first if odds < 0 else ""
        at_once = first in _AT_ONCE and odds >= SURE_OF_STOP
        before = odds if utterance.odds is None else utterance.odds
        utterance.odds = odds = LATEST * odds + (1 - LATEST) * before
        utterance.noise = glimpse.noise >= NOISE_SHARE
        relative_db = self._relative_db(utterance)
        if relative_db < ASIDE_DB:
            if takes_floor(glimpse.text, aside=True) and glimpse.speech > 0.5:
                utterance.verdict = "stop"
            return
        shift = min(_MOST_LEVEL_DB, max(-_MOST_LEVEL_DB, relative_db - _LISTENERS_DB))
        if self.usual.dbfs is None:
            # Louder than a guess is no evidence.
            shift = min(0.0, shift)
        odds += LEVEL_ODDS * shift
        further = not utterance.noise and self._sounding(utterance) and _goes_further(glimpse.text)
        # By the time at which it was taken, not at which it came.
        if odds >= SURE[utterance.glimpses - 1] or further or at_once:
            utterance.verdict = "stop"

    def _sounding(self, utterance: _Utterance) -> bool:
        return self._heard_to - utterance.end_sample <= DIP_SAMPLES

    def _relative_db(self, utterance: _Utterance) -> float:
        return utterance.loudest_dbfs - LOUDEST_OVER_USUAL_DB - self._usual_dbfs()

    def _usual_dbfs(self) -> float:
        known = self.usual.dbfs
        return max(UNKNOWN_DBFS, self._overheard_dbfs) if known is None else known
