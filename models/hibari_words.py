"""When each word of the bundled voice ends, told by the voice itself.

hibari's network (0.2.1) first decides how many steps of 25 ms every phoneme takes, and then draws the
spectrum over those steps. The running count of steps is a value inside its graph; `with_step_counts` makes it
an output, which costs nothing and leaves every sample as it was. `Reader` stands where hibari keeps its
pronunciation and remembers which phonemes came from which word.

What the steps mean in the sound was measured against an alignment that knows nothing of them
(`bench.heard_alignment`): a border between two words lies 30 ms before the middle of the space between them,
nearly the same at speeds of 0.7 and 1.4. With that taken off, the middles of 561 words deviate by 11 ms on
average, 95 % of them by less than 28 ms. Steps before a pause hold its silence, so there the sound decides.
"""

from collections.abc import Container, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
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
    """A word and from when to when it sounds, in seconds; a pause belongs to no word."""

    word: str
    start_s: float
    end_s: float

    def within(self, share: float) -> float:
        """The moment when `share` of the word has sounded."""
        return self.start_s + share * (self.end_s - self.start_s)


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
    """When each word read sounds in `audio`. `known` are the symbols that the network knows; others were not
    spoken. Empty when readings and phonemes are not of the same text."""
    sounds = [phoneme for phoneme in phonemes if phoneme.symbol != " "]
    spans: list[Sequence[Phoneme]] = []
    at = 0
    for reading in readings:
        count = sum(symbol in known and symbol != " " for symbol in reading.phonemes)
        spans.append(sounds[at : at + count])
        at += count
    if at != len(sounds):
        return []
    quiet = _quiet_blocks(audio, rate_hz)
    length_s = len(audio) / rate_hz
    starts = [span[0].start_s for span in spans if span]
    words: list[SpokenWord] = []
    start_s, place = max(0.0, starts[0] - _EARLY_S) if starts else 0.0, 0
    for reading, span in zip(readings, spans, strict=True):
        if not span:
            words.append(SpokenWord(reading.word, start_s, start_s))
            continue
        place += 1
        last = place == len(starts)
        end_s, following_s = _border(span, length_s if last else starts[place], quiet, last=last)
        end_s = min(max(end_s, start_s), length_s)
        words.append(SpokenWord(reading.word, start_s, end_s))
        start_s = min(max(following_s, end_s), length_s)
    return words


def _border(
    span: Sequence[Phoneme], following_s: float, quiet: NDArray[np.bool_], *, last: bool
) -> tuple[float, float]:
    """When a word ends, and when the next one begins."""
    voiced = [phoneme for phoneme in span if phoneme.symbol not in _PAUSE_MARKS] or span
    marked = last or len(voiced) < len(span)
    middle_s = (voiced[0].start_s + voiced[-1].end_s) / 2 - _EARLY_S
    pause = _longest_pause(quiet, middle_s, following_s, _SHORT_PAUSE_S if marked else _PAUSE_S)
    if pause is not None:
        return pause
    border_s = (voiced[-1].end_s + following_s) / 2 - _EARLY_S
    return border_s, border_s


def _quiet_blocks(audio: Samples, rate_hz: int) -> NDArray[np.bool_]:
    block = round(_BLOCK_S * rate_hz)
    blocks = len(audio) // block
    power = np.mean(audio[: blocks * block].reshape(blocks, block) ** 2, axis=1)
    return np.asarray(power < _QUIET**2, np.bool_)


def _longest_pause(
    quiet: NDArray[np.bool_], from_s: float, until_s: float, least_s: float
) -> tuple[float, float] | None:
    """The longest silence that begins between the two, from when to when, if it is long enough."""
    first, until = max(0, round(from_s / _BLOCK_S)), round(until_s / _BLOCK_S)
    borders = np.flatnonzero(np.diff(np.concatenate(([False], quiet[first:], [False])).astype(np.int8)))
    runs = [run for run in borders.reshape(-1, 2).tolist() if first + run[0] < until]
    if not runs:
        return None
    start, end = max(runs, key=lambda run: int(run[1] - run[0]))
    if (end - start) * _BLOCK_S < least_s:
        return None
    return (first + start) * _BLOCK_S, (first + end) * _BLOCK_S


def spans_of(words: Sequence[str], spoken: Sequence[SpokenWord]) -> tuple[tuple[float, float], ...]:
    """From when to when each of the `words` sounds, given those that the voice made of them: mostly the same
    ones, but a voice may join a mark to the word before it or read a number its own way. They are matched
    letter by letter. Empty when it cannot be told."""
    if [said.word for said in spoken] == list(words):
        return tuple((said.start_s, said.end_s) for said in spoken)
    ours = [_letters(word) for word in words]
    theirs = [(_letters(said.word), said) for said in spoken]
    written, read = "".join(ours), "".join(letters for letters, _ in theirs)
    if not written or not read or max(len(written), len(read)) > _LONGEST_MATCHED:
        return ()
    said_at = [(said, at / len(letters)) for letters, said in theirs for at in range(len(letters))]
    step_of = [1 / len(letters) for letters, _ in theirs for _ in letters]
    places = _places(written, read)
    spans = []
    at, end_s = 0, 0.0
    for letters in ours:
        start_s = end_s
        if letters:
            # A border inside a word that was read in one piece falls where its letters are.
            first, last = places[at], places[at + len(letters)]
            said, share = said_at[min(first, len(read) - 1)]
            start_s = max(end_s, said.within(share))
            said, share = said_at[max(0, last - 1)]
            end_s = max(start_s, said.within(share + step_of[max(0, last - 1)]))
        spans.append((start_s, end_s))
        at += len(letters)
    return tuple(spans)


def _places(written: str, read: str) -> list[int]:
    """For each place between two letters of `written`, the place in `read`."""
    places = [0] * (len(written) + 1)
    blocks = SequenceMatcher(None, written, read, autojunk=False).get_opcodes()
    for _, written_start, written_end, read_start, read_end in blocks:
        for at in range(written_start, written_end + 1):
            share = (at - written_start) / max(1, written_end - written_start)
            places[at] = read_start + round(share * (read_end - read_start))
    return places


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
