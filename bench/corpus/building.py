"""Everything of the corpus from its seeds: who says what, with which pauses, over which line.

What it does not have: callers with habits (all draw their pauses from one distribution, wherever the words
allow one, so nothing can be learnt about a caller), words that are drawn out before a pause, and turns that
begin before the agent has finished. Its noises and coughs are synthetic, and so are all voices but recorded
ones.
"""

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from bench.corpus import held_out, tuning
from bench.corpus.line import FULL_SCALE
from bench.corpus.model import Condition, Corpus, Overlap, OverlapKind, Turn
from bench.corpus.sounds import from_afar, mm_hmm, sound
from bench.corpus.speech import JOINT_S, LEVEL_DBFS, has_flite, joined, levelled, speak
from bench.corpus.templates import Part, Template, Voice, filled
from pipeline.line import LINE_RATE_HZ, Pcm

PARTS = (tuning.PART, held_out.PART)
PAUSED_TURNS, PLAIN_TURNS = 90, 80
"""In each part: turns with pauses inside and turns without."""
MEDIAN_PAUSE_S, LONG_PAUSE_S, LONG_SHARE = 0.5, 1.2, 0.1
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 3.0
"""Below the first a silence is a comma; the log-normal has 9 % there and 0.4 % above the second."""
MOST_PAUSES = 4
OVERLAPS: dict[OverlapKind, int] = {
    "interruption": 32,
    "stop_word": 12,
    "backchannel": 30,
    "cough": 16,
    "side_talk": 16,
    "line_noise": 12,
}
"""In each part."""
_NOISE_DBFS = {
    **{"room": (-60.0, -50.0), "street": (-56.0, -42.0), "hiss": (-62.0, -50.0)},
    **{"office": (-60.0, -48.0), "traffic": (-56.0, -42.0), "cafe": (-56.0, -44.0)},
}
_HUM = "Mm-hmm."
"""flite spells it, and hibari says "mom": it is hummed instead, at the caller's pitch."""
_PITCH_HZ = 200.0
"""hibari's own, about."""
_LOSSES = (0.0, 0.0, 0.005, 0.01, 0.02, 0.03)


class _Words(NamedTuple):
    template: Template
    voice: Voice
    pieces: tuple[str, ...]
    """What stands between two pauses."""


def build(progress: Callable[[str], None] = lambda line: None) -> Corpus:
    """Blocks for about 20 s of one core. Raises `VoiceUnavailable` without hibari; without `flite`
    its callers' turns go to the others."""
    turns: list[Turn] = []
    overlaps: list[Overlap] = []
    for part in PARTS:
        for turn in _turns(part):
            turns.append(turn)
            if len(turns) % 50 == 0:
                progress(f"{len(turns)} turns spoken")
        overlaps += _overlaps(part)
    return Corpus(tuple(turns), tuple(overlaps))


def _voices(part: Part) -> Sequence[Voice]:
    return [voice for voice in part.voices if voice.engine == "hibari" or has_flite()]


def _turns(part: Part) -> Iterator[Turn]:
    chance = random.Random(f"turns {part.name}")
    words = _everybody_says(part, chance)
    pauses = _pauses(sum(len(each.pieces) - 1 for each in words), chance)
    for number, (template, voice, pieces) in enumerate(words):
        lasting = [pauses.pop() for _ in pieces[1:]]
        pcm, spans = joined(_spoken(pieces, voice), lasting)
        yield Turn(
            id=f"{part.name}-{number:03}",
            part=part.name,
            kind=template.kind,
            voice=voice.name,
            text=" ".join(pieces),
            question=template.question,
            pcm=pcm,
            spans=spans,
            texts=pieces,
            condition=_condition(part, chance, number),
        )


def _everybody_says(part: Part, chance: random.Random) -> list[_Words]:
    pausing = [template for template in part.turns if template.pauses]
    plain = [template for template in part.turns if not template.pauses]
    voices = _voices(part)
    words = []
    for number, paused in enumerate([True] * PAUSED_TURNS + [False] * PLAIN_TURNS):
        # Now and then somebody says such a sentence without a pause.
        fluent = not paused and number % 5 == 0
        template = (pausing if paused or fluent else plain)[
            number % len(pausing if paused or fluent else plain)
        ]
        pieces = filled(template.text, part.fillings, chance)
        places = range(1, len(pieces))
        most = min(len(places), MOST_PAUSES) if paused else 0
        chosen = sorted(chance.sample(places, chance.randint(1, most))) if most else []
        # Voices and templates go round at different speeds, or each template would have voices of its own.
        voice = voices[(number + number // len(part.turns)) % len(voices)]
        words.append(_Words(template, voice, _merged(pieces, chosen)))
    chance.shuffle(words)
    return words


def _merged(pieces: Sequence[str], chosen: Sequence[int]) -> tuple[str, ...]:
    edges = [0, *chosen, len(pieces)]
    return tuple(" ".join(pieces[start:stop]) for start, stop in itertools.pairwise(edges))


def _pauses(count: int, chance: random.Random) -> list[float]:
    """`count` pauses in seconds: the quantiles of the log-normal in random order, so that the median and the
    share of long ones hold for each part."""
    sigma = np.log(LONG_PAUSE_S / MEDIAN_PAUSE_S) / NormalDist().inv_cdf(1 - LONG_SHARE)
    normal = NormalDist(float(np.log(MEDIAN_PAUSE_S)), float(sigma))
    pauses = [float(np.exp(normal.inv_cdf((number + 0.5) / count))) for number in range(count)]
    chance.shuffle(pauses)
    return [min(max(pause, SHORTEST_PAUSE_S), LONGEST_PAUSE_S) for pause in pauses]


def _spoken(pieces: Sequence[str], voice: Voice) -> list[Pcm]:
    """The pieces' sound; sentences inside a piece stand close together."""
    sentences = [_split(piece) for piece in pieces]
    sounds = speak([sentence for piece in sentences for sentence in piece], voice)
    together = []
    for piece in sentences:
        own, sounds = sounds[: len(piece)], sounds[len(piece) :]
        together.append(joined(own, [JOINT_S] * (len(own) - 1))[0])
    return together


def _split(piece: str) -> list[str]:
    marked = piece.replace(". ", ".\n").replace("? ", "?\n").replace("! ", "!\n")
    return marked.split("\n")


def _condition(part: Part, chance: random.Random, number: int) -> Condition:
    noise = None if number % 5 == 4 else part.noises[number % len(part.noises)]
    return Condition(
        noise=noise,
        level_dbfs=round(chance.uniform(*_NOISE_DBFS[noise]), 1) if noise else -100.0,
        loss=chance.choice(_LOSSES),
        echo_db=round(chance.uniform(-40, -25), 1) if chance.random() < 0.5 else None,
        echo_delay_ms=round(chance.uniform(100, 600)),
        delay_ms=round(chance.uniform(20, 120)),
        jitter_ms=round(chance.uniform(0, 30)),
        seed=chance.getrandbits(31),
    )


def _overlaps(part: Part) -> Iterator[Overlap]:
    chance = random.Random(f"overlaps {part.name}")
    voices = _voices(part)
    number = 0
    for kind, count in OVERLAPS.items():
        for turn in range(count):
            voice = voices[turn % len(voices)]
            text, pcm, level_db, who = _overlap(part, kind, turn, voice, chance)
            yield Overlap(
                id=f"{part.name}-{kind}-{turn:02}",
                part=part.name,
                kind=kind,
                voice=who,
                text=text,
                pcm=pcm,
                level_db=level_db,
                condition=_condition(part, chance, number),
            )
            number += 1


def _overlap(
    part: Part, kind: OverlapKind, turn: int, voice: Voice, chance: random.Random
) -> tuple[str, Pcm, float, str]:
    """Words, sound, level and whose it is."""
    seed = chance.getrandbits(31)
    if kind in ("cough", "line_noise"):
        names = part.coughs if kind == "cough" else part.line_noises
        name = names[turn % len(names)]
        level_db = round(chance.uniform(-9, 3) if kind == "cough" else chance.uniform(-16, -4), 1)
        return "", levelled(sound(name, seed), level_db), level_db, name
    said = {
        "interruption": part.interruptions,
        "stop_word": part.stop_words,
        "backchannel": part.backchannels,
        "side_talk": part.side_talk,
    }[kind]
    text = " ".join(filled(said[turn % len(said)], part.fillings, chance))
    if text == _HUM:
        level_db = round(chance.uniform(-8, 0), 1)
        return text, levelled(mm_hmm(_PITCH_HZ * voice.pitch, seed), level_db), level_db, voice.name
    samples = joined(_spoken([text], voice), [])[0]
    if kind == "side_talk":
        level_db = round(chance.uniform(-16, -10), 1)
        return text, levelled(from_afar(samples / FULL_SCALE, seed), level_db), level_db, voice.name
    level_db = round(chance.uniform(-8, 0) if kind == "backchannel" else chance.uniform(-3, 3), 1)
    return text, levelled(samples / FULL_SCALE, level_db), level_db, voice.name


def voiced_level_dbfs(pcm: Pcm) -> float:
    """RMS over the windows that `levelled` counts as voiced."""
    windows = pcm[: len(pcm) // 40 * 40].reshape(-1, 40).astype(np.float64)
    power = (windows**2).mean(axis=1)
    voiced = power[power > power.max() * 1e-3]
    return float(10 * np.log10(voiced.mean() / FULL_SCALE**2))


__all__ = ["LEVEL_DBFS", "LINE_RATE_HZ", "OVERLAPS", "PARTS", "build", "voiced_level_dbfs"]
