"""When each word of the bundled voice ends, told by the voice itself.

hibari's network (0.2.1) first decides how many steps of 25 ms every phoneme takes, and then draws the
spectrum over those steps. The running count of steps is a value inside its graph; `with_step_counts` makes it
an output, which costs nothing and leaves every sample as it was. `Reader` stands where hibari keeps its
pronunciation and remembers which phonemes came from which word.

What the steps mean in the sound was measured against an alignment that knows nothing of them (every word
synthesised by itself, all joined, and warped onto the sentence by their mel spectra): 95 borders between
words lie 32 ms before the middle of the space between them, with a standard deviation of 23 ms, half of them
within 15 ms; at speeds of 0.7 and 1.4 it is 38 and 25 ms. Steps before a pause hold its silence, so there
the sound decides where the word ends.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.base import Samples

STEP_COUNTS = "/CumSum_output_0"
"""Inside hibari's graph: (n_phonemes,) int64, how many steps have passed when each phoneme ends."""

_EARLY_S = 0.030
"""How much earlier a border sounds than its step says; see above."""
_PAUSE_MARKS = frozenset(';:,.!?—…"“”()')
_BLOCK_S = 0.005
_QUIET = 10 ** (-50 / 20)
_PAUSE_S, _SHORT_PAUSE_S = 0.1, 0.04
"""Silence that is a pause, and not the closure of a p, t or k; and where a mark makes one likely."""
_LONGEST_MATCHED = 4_000
"""Letters up to which two readings of a text are compared; the time it takes grows with the square."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A word between two spaces, and the phonemes that it was given, its marks included."""

    word: str
    phonemes: str


@dataclass(frozen=True, slots=True)
class Phoneme:
    symbol: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class SpokenWord:
    word: str
    end_s: float


def with_step_counts(network: bytes) -> bytes:
    """The network, an ONNX file, with the step counts as its last output; unchanged if it has none.

    Two protobuf messages joined are one that has the lists of both (protobuf.dev, "Encoding", last-one-wins
    and merging), so the file is followed by a model of nothing but one output: field 7 of ModelProto is the
    graph, 12 of GraphProto an output, 1 of ValueInfoProto its name (onnx.proto3, IR version 8)."""
    name = STEP_COUNTS.encode()
    return network + _field(7, _field(12, _field(1, name))) if name in network else network


def _field(number: int, content: bytes) -> bytes:
    """A protobuf field of wire type 2, of fewer than 128 bytes."""
    return bytes((number << 3 | 2, len(content))) + content


class Reader:
    """`hibari.g2p.G2P`, with a memory: `readings` grows with every sentence until it is cleared."""

    def __init__(self, british: bool) -> None:
        from hibari.g2p import G2P
        from hibari.g2p.normalize import normalize

        self._g2p = G2P(british=british)
        self._normalize = normalize
        self.readings: list[Reading] = []

    def __call__(self, text: str) -> str:
        """The phonemes of one sentence, as `G2P` itself gives them."""
        word = said = sentence = ""
        for token in self._g2p.phonemize_tokens(self._g2p.tokenize(self._normalize(text))):
            phonemes = token.phonemes or ""
            word, said = word + token.text, said + phonemes
            sentence += phonemes + (" " if token.whitespace else "")
            if token.whitespace:
                self.readings.append(Reading(word, said))
                word = said = ""
        if word:
            self.readings.append(Reading(word, said))
        return sentence.strip()


def phonemes_of(
    phonemes: str, step_counts: NDArray[np.int64], start_s: float, length_s: float
) -> list[Phoneme]:
    """Where each of the `phonemes` lies: those of one run of the network, whose audio begins at `start_s` and
    takes `length_s`. The counts have one entry more at each end: the network's own padding."""
    ends = start_s + step_counts * (length_s / int(step_counts[-1]))
    return [
        Phoneme(symbol, float(before), float(end))
        for symbol, before, end in zip(phonemes, ends[:-2], ends[1:-1], strict=True)
    ]


def spoken_words(
    readings: Sequence[Reading],
    phonemes: Sequence[Phoneme],
    known: Container[str],
    audio: Samples,
    rate_hz: int,
) -> list[SpokenWord]:
    """When each word read ends in `audio`, in seconds. `known` are the symbols that the network knows; others
    were not spoken. Empty when readings and phonemes are not of the same text."""
    sounds = [phoneme for phoneme in phonemes if phoneme.symbol != " "]
    spans: list[tuple[Reading, list[Phoneme]]] = []
    at = 0
    for reading in readings:
        count = sum(symbol in known and symbol != " " for symbol in reading.phonemes)
        spans.append((reading, sounds[at : at + count]))
        at += count
    if at != len(sounds):
        return []
    quiet = _quiet_blocks(audio, rate_hz)
    length_s = len(audio) / rate_hz
    starts = [span[0].start_s for _, span in spans if span]
    words: list[SpokenWord] = []
    end_s, place = 0.0, 0
    for reading, span in spans:
        if span:
            place += 1
            following_s = starts[place] if place < len(starts) else length_s
            end_s = max(end_s, _end(span, following_s, last=place == len(starts), quiet=quiet))
        words.append(SpokenWord(reading.word, min(end_s, length_s)))
    return words


def _end(span: Sequence[Phoneme], following_s: float, *, last: bool, quiet: NDArray[np.bool_]) -> float:
    voiced = [phoneme for phoneme in span if phoneme.symbol not in _PAUSE_MARKS] or span
    marked = last or len(voiced) < len(span)
    middle_s = (voiced[0].start_s + voiced[-1].end_s) / 2 - _EARLY_S
    pause_s = _longest_pause(quiet, middle_s, following_s, _SHORT_PAUSE_S if marked else _PAUSE_S)
    return (voiced[-1].end_s + following_s) / 2 - _EARLY_S if pause_s is None else pause_s


def _quiet_blocks(audio: Samples, rate_hz: int) -> NDArray[np.bool_]:
    block = round(_BLOCK_S * rate_hz)
    blocks = len(audio) // block
    power = np.mean(audio[: blocks * block].reshape(blocks, block) ** 2, axis=1)
    return np.asarray(power < _QUIET**2, np.bool_)


def _longest_pause(quiet: NDArray[np.bool_], from_s: float, until_s: float, least_s: float) -> float | None:
    """Where the longest silence between the two begins, if it is long enough."""
    first = max(0, round(from_s / _BLOCK_S))
    window = quiet[first : round(until_s / _BLOCK_S)]
    borders = np.flatnonzero(np.diff(np.concatenate(([False], window, [False])).astype(np.int8)))
    if borders.size == 0:
        return None
    runs = borders.reshape(-1, 2)
    start, end = max(runs.tolist(), key=lambda run: int(run[1] - run[0]))
    return (first + start) * _BLOCK_S if (end - start) * _BLOCK_S >= least_s else None


def ends_of(words: Sequence[str], spoken: Sequence[SpokenWord]) -> tuple[float, ...]:
    """Where each of the `words` ends, given when those ended that the voice made of them: mostly the same
    ones, but a voice may join a mark to the word before it or read a number its own way. They are matched
    letter by letter. Empty when it cannot be told."""
    if [said.word for said in spoken] == list(words):
        return tuple(said.end_s for said in spoken)
    ours, theirs = [_letters(word) for word in words], [_letters(said.word) for said in spoken]
    written, read = "".join(ours), "".join(theirs)
    if not written or not read or max(len(written), len(read)) > _LONGEST_MATCHED:
        return ()
    places, times = [0], [0.0]
    for letters, said in zip(theirs, spoken, strict=True):
        if letters:
            places.append(places[-1] + len(letters))
            times.append(said.end_s)
    end, ends = 0, []
    for letters in ours:
        end += len(letters)
        ends.append(end)
    knots = [(0, 0)]
    for _, _, written_end, _, read_end in SequenceMatcher(None, written, read, autojunk=False).get_opcodes():
        knots.append((written_end, read_end))
    # Both maps are piecewise linear: a border inside a word that was read in one piece falls by its share.
    knots = _rising(knots)
    in_read = np.interp(ends, [knot[0] for knot in knots], [knot[1] for knot in knots])
    return tuple(np.interp(in_read, places, times).tolist())


def _rising(knots: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Of knots at the same letter (something was read that is not written) the last one counts."""
    return [knot for knot, following in pairwise([*knots, (-1, -1)]) if knot[0] != following[0]]


def _letters(word: str) -> str:
    return "".join(character for character in word.casefold() if character.isalnum())


def network_outputs(
    session: Any, ids: Sequence[int], speed: float
) -> tuple[list[Any], NDArray[np.int64] | None]:
    """One run of hibari's network: what its `dsp.synth` takes, and the step counts if it tells them."""
    feeds = {"ids": np.asarray([ids], np.int64), "speed": np.asarray([speed], np.float32)}
    names = [output.name for output in session.get_outputs()]
    values = dict(zip(names, session.run(None, feeds), strict=True))
    counts = values.pop(STEP_COUNTS, None)
    return [value[0] for value in values.values()], None if counts is None else counts.reshape(-1)
