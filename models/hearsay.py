"""When not to believe what Whisper wrote: loops, too many words, words out of noise. Pure decisions.

Whisper was trained on subtitles. Given silence or noise it writes what subtitles say there ("Thank you.",
"Thanks for watching!"), and given a window shorter than it knows it may repeat itself to the end.
"""

import re
import zlib
from dataclasses import dataclass

import numpy as np

from models.base import STT_RATE_HZ, Samples

_BLOCK_S = 0.02

COMPRESSION_LIMIT = 2.4
"""UTF-8 bytes over zlib bytes above which a text repeats itself (whisper's own default)."""
WORDS_PER_SECOND = 6.0
SPARE_WORDS = 3
"""Fast telephone speech has 4-5 words a second; a clipped "yes I do" still fits into 0.2 s."""
DOUBLED_PER_SECOND = 4.5
LEAST_LOG_PROBABILITY = -1.2
LEAST_OF_SHORT = -1.4
"""Mean log probability below which a text is a guess; the second for one or two words, which have no context
to be sure by. On telephone speech the worst usable ones had -1.06 and -1.07 ("Alright"); noise that Whisper
did not call noise had less than -1.26 for sentences, -1.6 for single words."""

STOCK_PHRASES = frozenset(
    phrase
    for line in (
        "you|bye|bye bye|okay|oh|so|uh|um|hmm|mm|mmm|the|i|thank you|thank you very much|thank you so much",
        "thanks|thanks for watching|thank you for watching|thank you for watching this video|i m sorry",
        "please subscribe|please subscribe to my channel|like and subscribe|see you next time|good night",
        "see you in the next video|i ll see you in the next video|subtitles by the amara org community",
        "subtitles by|transcription by castingwords|the end|to be continued|music|applause|laughter|silence",
        "all right|alright|i don t know|i m going to go|we ll be right back|amen|wow|beep|bell|ding",
    )
    for phrase in line.split("|")
)
"""What subtitles say over noise and silence. People on the phone say some of it too ("okay", "thank you"), so
a phrase is dropped only together with low confidence."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What stands behind a text."""

    text: str
    mean_log_probability: float
    no_speech_probability: float
    finished: bool
    """False where decoding hit its length limit instead of ending the sentence."""
    voiced_s: float
    """Seconds that are louder than the clip's background, see `voiced_seconds`."""


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


def looped(text: str) -> bool:
    """Whether a text repeats itself as stuck decoders do. Digits may repeat in a phone number."""
    encoded = text.encode()
    if len(encoded) / len(zlib.compress(encoded)) > COMPRESSION_LIMIT:
        return True
    return _repeated(words(text)) is not None


def _repeated(said: list[str]) -> tuple[int, int] | None:
    """(start, length) of the first group of words that follows itself too often."""
    for length in range(1, len(said) // 3 + 1):
        times = 6 if length == 1 else 4 if length == 2 else 3
        for start in range(len(said) - length * times + 1):
            groups = (said[at : at + length] for at in range(start, start + length * times, length))
            if all(group == said[start : start + length] for group in groups):
                return start, length
    return None


def once(text: str) -> str:
    """A looped text up to the end of its first round; other texts as they are."""
    found = _repeated(words(text))
    if found is None:
        return text
    kept = list(re.finditer(r"[a-z0-9]+", text.lower()))[: sum(found)]
    return text[: kept[-1].end()] + "."


def suspicious(evidence: Evidence) -> bool:
    """Whether a text from a short window deserves a second look."""
    said = words(evidence.text)
    half = len(said) // 2
    # The end of the sentence was missed once: "Yes. Yes." said in the time of one yes.
    doubled = half > 0 and said[:half] == said[half:] and len(said) > DOUBLED_PER_SECOND * evidence.voiced_s
    return not evidence.finished or doubled or looped(evidence.text) or _too_many(said, evidence)


def _too_many(said: list[str], evidence: Evidence) -> bool:
    return len(said) > SPARE_WORDS + WORDS_PER_SECOND * evidence.voiced_s


def noise(evidence: Evidence) -> bool:
    """Whether Whisper itself takes the clip for anything but speech. On telephone speech the probability
    of no speech stayed below 0.35, on noises above 0.6 (breath and babble: 0.4); whisper's own rule, which
    lets any text of more than -1.0 pass, was made for films."""
    return evidence.no_speech_probability > 0.6 and evidence.mean_log_probability < -0.15


def unspoken(evidence: Evidence) -> bool:
    """Whether a text was most likely never said: dropped rather than answered."""
    said = words(evidence.text)
    if not said or noise(evidence) or _too_many(said, evidence):
        return True
    least = LEAST_OF_SHORT if len(said) <= 2 else LEAST_LOG_PROBABILITY
    if evidence.mean_log_probability < least:
        return True
    doubtful = evidence.no_speech_probability > 0.4 or evidence.mean_log_probability < LEAST_LOG_PROBABILITY
    return doubtful and " ".join(said) in STOCK_PHRASES


def recited(evidence: Evidence, hot_words: str) -> bool:
    """Whether Whisper read out its prompt, as it does over noise."""
    said = words(evidence.text)
    doubtful = evidence.no_speech_probability > 0.35 or evidence.mean_log_probability < -0.5
    return doubtful and len(said) > 2 and " ".join(said) in " ".join(words(hot_words))


def voiced_seconds(audio: Samples) -> float:
    """Seconds of (n,) 16 kHz audio, in 20 ms blocks, above -55 dBFS and within 25 dB of the loudest 5 %.

    Not a voice detector: noise counts. It bounds how many words there is room for."""
    level = _block_levels(audio)
    if not len(level):
        return 0.0
    floor = max(10 ** (-55 / 20), float(np.quantile(level, 0.95)) * 10 ** (-25 / 20))
    return float(np.count_nonzero(level > floor) * _BLOCK_S)


def loud_level(audio: Samples) -> float:
    """RMS that 5 % of the 20 ms blocks of (n,) 16 kHz audio exceed; 0 for less than a block."""
    level = _block_levels(audio)
    return float(np.quantile(level, 0.95)) if len(level) else 0.0


def _block_levels(audio: Samples) -> Samples:
    size = round(_BLOCK_S * STT_RATE_HZ)
    blocks = len(audio) // size
    levels: Samples = np.sqrt(np.mean(audio[: blocks * size].reshape(blocks, size) ** 2, axis=1))
    return levels
