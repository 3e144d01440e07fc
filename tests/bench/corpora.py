"""A small corpus without a voice: bursts of noise where words would be."""

from typing import Any

import numpy as np

from bench.corpus import Condition, Corpus, Overlap, OverlapKind, Turn

QUIET = Condition(
    noise=None, level_dbfs=-100.0, loss=0.0, echo_db=None, echo_delay_ms=250, delay_ms=40, jitter_ms=0, seed=1
)
KINDS: tuple[OverlapKind, ...] = (
    *("backchannel", "cough", "side_talk", "line_noise", "interruption", "stop_word"),
)


def turn(number: int, *, voice: str = "ann", pauses: int = 0, **changes: Any) -> Turn:
    """One turn of half a second of sound for each span, and half a second between two."""
    generator = np.random.default_rng(number)
    spans = tuple((8000 * place, 8000 * place + 4000) for place in range(pauses + 1))
    pcm = np.zeros(spans[-1][1], np.int16)
    for start, stop in spans:
        pcm[start:stop] = generator.normal(0, 3000, stop - start).clip(-32_768, 32_767)
    texts = tuple(f"words {number} {place}" for place in range(pauses + 1))
    fields: dict[str, Any] = {
        "id": f"held_out-{number:03}",
        "part": "held_out",
        "kind": "question",
        "voice": voice,
        "text": " ".join(texts),
        "question": "",
        "pcm": pcm,
        "spans": spans,
        "texts": texts,
        "condition": QUIET,
    }
    return Turn(**fields | changes)


def overlap(number: int, kind: OverlapKind) -> Overlap:
    pcm = np.random.default_rng(number).normal(0, 3000, 3200).astype(np.int16)
    text = "" if kind in ("cough", "line_noise") else f"{kind} {number}"
    return Overlap(f"held_out-{kind}-{number}", "held_out", kind, "ann", text, pcm, 0.0, QUIET)


def corpus(turns: int = 60) -> Corpus:
    """Two voices; every other turn of each has a pause."""
    return Corpus(
        tuple(turn(n, voice=("ann", "bob")[n % 2], pauses=(n // 2) % 2) for n in range(turns)),
        tuple(overlap(number, kind) for kind in KINDS for number in range(7)),
    )
