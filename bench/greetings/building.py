"""Greetings as sound, from their seeds: voices, lines and pauses differ, and so does how long it takes."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from bench.corpus import PartName, held_out, tuning
from bench.corpus.line import FULL_SCALE, noise
from bench.corpus.speech import LEVEL_DBFS, has_flite, joined, speak
from bench.corpus.templates import Voice
from bench.greetings.held_out import BEEPS_HZ, HELD_OUT, VOICES
from bench.greetings.texts import TUNING, TUNING_TOO, Texts
from pipeline.line import LINE_RATE_HZ, Pcm
from telephony import g711

ROUNDS = 3
"""How often each sentence is said, by another voice over another line."""
_TAIL_S = 6.0


@dataclass(frozen=True, slots=True)
class Source:
    """Sentences and who says them over which lines. `name` seeds everything that varies."""

    name: str
    texts: Texts
    voices: Sequence[Voice]
    noises: Sequence[str]
    beeps_hz: Sequence[int]


PARTS: dict[PartName, tuple[Source, ...]] = {
    "tuning": (
        Source("tuning", TUNING, tuning.PART.voices, tuning.PART.noises, (440, 1000, 1400)),
        Source("held_out", TUNING_TOO, held_out.PART.voices, held_out.PART.noises, (520, 850, 1200)),
    ),
    # Its kinds of noise are not new: the line's model has no others.
    "held_out": (Source("held_out_2", HELD_OUT, VOICES, held_out.PART.noises, BEEPS_HZ),),
}


@dataclass(frozen=True)
class Greeting:
    id: str
    kind: str
    """The field of `Texts` that it is from."""
    machine: bool
    text: str
    voice: str
    line: Pcm
    """(n,) int16 at 8 kHz from the moment of answering."""
    begins: int
    """The sample with which the voice begins."""
    ends: int
    """The sample behind the greeting's last, its beep included."""


def greetings(part: PartName) -> list[Greeting]:
    """Blocks for half a minute, for the tuning part longer. Raises `VoiceUnavailable` without hibari."""
    return [greeting for source in PARTS[part] for greeting in _greetings(source)]


def _greetings(source: Source) -> Iterator[Greeting]:
    chance = random.Random(f"greetings {source.name}")
    texts = source.texts
    voices = [voice for voice in source.voices if voice.engine == "hibari" or has_flite()]
    number = 0
    for _ in range(ROUNDS):
        for kind in ("people", "shops", "own_machines", "network_machines", "shop_machines"):
            for template in getattr(texts, kind):
                text = template.format_map({k: chance.choice(v) for k, v in texts.fillings.items()})
                yield _greeting(source, number, kind, text, voices[number % len(voices)], chance)
                number += 1


def _greeting(
    source: Source, number: int, kind: str, text: str, voice: Voice, chance: random.Random
) -> Greeting:
    machine = kind.endswith("machines")
    pieces = [piece.strip() for piece in text.split("|")]
    sounds = speak(pieces, voice)
    spoken, _ = joined(sounds, [chance.uniform(0.3, 0.65) for _ in pieces[1:]])
    # Machines answer and speak at once or after a click; people lift the phone to the ear.
    lead = round((chance.uniform(0.1, 0.8) if machine else chance.uniform(0.3, 1.4)) * LINE_RATE_HZ)
    wave = np.concatenate([np.zeros(lead), spoken.astype(np.float64)])
    if machine and kind != "shop_machines":
        wave = np.concatenate([wave, np.zeros(round(chance.uniform(0.3, 1.2) * LINE_RATE_HZ))])
        wave = np.concatenate([wave, _beep(chance.choice(source.beeps_hz), chance.uniform(0.25, 0.8))])
    ends = len(wave)
    wave = np.concatenate([wave, np.zeros(round(_TAIL_S * LINE_RATE_HZ))])
    background = chance.choice(source.noises)
    wave = wave * 10 ** (chance.uniform(-8, 2) / 20)
    wave += noise(background, len(wave), chance.uniform(-65, -48), number)
    coded = np.clip(np.rint(wave), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
    line = g711.decode(g711.encode(coded))
    return Greeting(
        f"{source.name}-{number:03}", kind, machine, " ".join(pieces), voice.name, line, lead, ends
    )


def _beep(hertz: float, seconds: float) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    count = round(seconds * LINE_RATE_HZ)
    ramp = np.minimum(1, np.minimum(np.arange(count), np.arange(count)[::-1]) / 80)
    loud = FULL_SCALE * 10 ** (LEVEL_DBFS / 20) * np.sqrt(2)
    return np.asarray(loud * ramp * np.sin(2 * np.pi * hertz * np.arange(count) / LINE_RATE_HZ))
