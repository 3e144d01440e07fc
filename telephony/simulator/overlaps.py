"""What became of the agent's speech when the caller made a sound over it, seen from Twilio's side alone.

A server can take back what it has sent only by `clear`: to stop, to speak on more quietly (it then sends
the unheard rest again, turned down), or to go back to the full level. So each `clear` that falls between the
first voiced sample of an overlap and `REACTION_S` later (or the caller's next sound) is looked at: was what
followed it the same sound again, how much louder or softer, or was it something else, or nothing? All of it
is exact to the sample of Twilio's playback; a server that falls silent without a `clear` counts as having
finished what it had to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.audible import VOICED_AMPLITUDE, VOICED_WINDOWS, WINDOW_SAMPLES, Run
from pipeline.line import LINE_RATE_HZ, Pcm
from telephony import g711
from telephony.simulator.measure import UTTERANCE_PAUSE_S, stop_time
from telephony.simulator.twilio_side import Cleared, Playback

REACTION_S = 2.0
"""What the agent does later than this is no reaction to the overlap."""
DUCKED_DB = -10.0
_RESTORED_DB = -3.0
_ALIKE = 0.85
"""Correlation above which two sounds are one and the same."""
_PERIODS = (LINE_RATE_HZ * 20 // 1000, LINE_RATE_HZ * 60 // 1000)
_ASSUMED_DUCK_DB = -15.0
_SMALLEST_SHIFT = 1e-5
"""Correlation that a sample more of shift must be worth: of two that fit alike, as in a tone, the smaller one
is meant."""
_RAMP_SAMPLES = LINE_RATE_HZ * 10 // 1000
"""What goes on may glide to its new level for so long, which says nothing about what it is."""
_SLACK_SAMPLES = LINE_RATE_HZ * 120 // 1000
"""How far the server's idea of what was heard may lie beside Twilio's."""
_JUST_HEARD_SAMPLES = LINE_RATE_HZ * 60 // 1000
_COMPARED_SAMPLES = LINE_RATE_HZ * 200 // 1000
_LEVEL_SAMPLES = LINE_RATE_HZ * 2

OverlapKind = Literal["interrupt", "backchannel", "sound"]


@dataclass(frozen=True, slots=True)
class OverlapMeasures:
    """Seconds from the first voiced sample of the overlap, at the server's edge.

    `stopped`: a `clear` cut the agent off, and it did not go on with what it was saying. `stop_s`: its last
    audible sample; None where `stopped` is false, except for an interruption, whose agent may talk on to
    its end. `duck_s`: the first `clear` behind which the agent was 10 dB softer or silent. `restored`: it was
    turned down, or paused, and came back to its level; None if it never was. `slip_s`: of what it
    was saying, how much was lost (above 0) or repeated (below 0) where it went on behind a `clear`, the worst
    of several; None where that cannot be told. `silent_from` is the sample of
    the edge's timeline where the agent was cut off, None if it was not.
    """

    stopped: bool
    stop_s: float | None
    duck_s: float | None
    restored: bool | None
    slip_s: float | None
    silent_from: int | None


class _Followed(NamedTuple):
    """What came behind one `clear`. `gain_db` is None where nothing can be compared."""

    goes_on: bool
    gain_db: float | None
    slip_samples: int | None = None
    """Lost (above 0) or repeated (below 0) between the two."""
    pauses: bool = False
    """It goes on, but not at once: silence lies between."""


def measure_overlap(
    playback: Playback, agent: Pcm, speech: Sequence[Run], overlap: Run, until: int | None, kind: OverlapKind
) -> OverlapMeasures:
    """`agent` is the edge's timeline decoded and `speech` its utterances; `overlap` lies on its time axis,
    voiced at both ends; `until` is where the caller's next sound begins, None if there is none."""
    limit = overlap.start + round(REACTION_S * LINE_RATE_HZ)
    if until is not None:
        limit = min(limit, until)
    level_db, duck_s, silent_from, ducked, restored = 0.0, None, None, False, False
    slips = []
    for number, cleared in enumerate(playback.clears):
        if not overlap.start <= cleared.sample < limit or not _meets_speech(speech, overlap, cleared):
            continue
        followed = _followed(playback, number)
        level_db = _level_behind(level_db, followed)
        if duck_s is None and (level_db <= DUCKED_DB or followed.pauses):
            duck_s = (cleared.sample - overlap.start) / LINE_RATE_HZ
        silent_from = None if followed.goes_on else cleared.sample
        if followed.goes_on and followed.slip_samples is not None:
            slips.append(followed.slip_samples / LINE_RATE_HZ)
        ducked = ducked or (followed.goes_on and (level_db <= DUCKED_DB or followed.pauses))
        if level_db >= -DUCKED_DB:
            # It had turned its voice down without a `clear`: nothing of it lay in the buffer then.
            level_db, ducked = 0.0, True
        restored = ducked and level_db >= _RESTORED_DB
    if ducked and silent_from is None and not restored:
        restored = _came_back(agent, overlap.start, len(agent) if until is None else until)
    return OverlapMeasures(
        stopped=silent_from is not None,
        stop_s=_stop_s(speech, overlap, silent_from, kind),
        duck_s=duck_s,
        restored=restored if ducked else None,
        slip_s=max(slips, key=abs, default=None),
        silent_from=silent_from,
    )


def _stop_s(speech: Sequence[Run], overlap: Run, silent_from: int | None, kind: OverlapKind) -> float | None:
    if silent_from is not None:
        # What began behind the `clear` is something new, even when the caller is still speaking.
        last = max((min(u.stop, silent_from) for u in speech if u.start < silent_from), default=overlap.start)
        return max(0, last - overlap.start) / LINE_RATE_HZ
    stop = stop_time(speech, overlap) if kind == "interrupt" else None
    return None if stop is None else stop / LINE_RATE_HZ


def _meets_speech(speech: Sequence[Run], overlap: Run, cleared: Cleared) -> bool:
    """A `clear` stops nobody who was not speaking about when the overlap began, or had come to an end by
    itself: nothing is buffered then, and nothing was heard just before. (A server that sends no sooner than
    it must has nothing buffered either, but is heard up to the `clear`.)"""
    reach = overlap.start - round(UTTERANCE_PAUSE_S * LINE_RATE_HZ)
    spoke = any(run.start < cleared.sample and run.stop > reach for run in speech)
    speaks = any(run.start < cleared.sample <= run.stop + _JUST_HEARD_SAMPLES for run in speech)
    return spoke and (speaks or bool(cleared.unplayed))


def _level_behind(level_db: float, followed: _Followed) -> float:
    if not followed.goes_on:
        return -np.inf
    if followed.gain_db is None:
        # A server that clears what it then sends again wants it softer, if it was not so already.
        return min(level_db, _ASSUMED_DUCK_DB)
    return level_db + followed.gain_db


def _followed(playback: Playback, number: int) -> _Followed:
    """What the server sent behind `clear` number `number`, against what that `clear` took back."""
    cleared = playback.clears[number]
    if cleared.next_sample is None:
        return _Followed(False, None)
    at_once = cleared.next_sample - cleared.sample < UTTERANCE_PAUSE_S * LINE_RATE_HZ
    taken, sent = g711.decode(cleared.unplayed), g711.decode(_sent_behind(playback, number, cleared))
    likeness = _likeness(taken[:_COMPARED_SAMPLES], sent[: _COMPARED_SAMPLES + _SLACK_SAMPLES])
    if likeness is None:
        # A packet that crossed the `clear` on its way is not speech that goes on.
        return _Followed(at_once and 2 * len(sent) >= min(len(taken), _COMPARED_SAMPLES), None)
    alike, gain_db, slip = likeness
    silence = cleared.next_sample - cleared.sample
    # After a silence, one vowel of the same voice could be taken for the other.
    may_go_on = at_once or (silence < REACTION_S * LINE_RATE_HZ and not _is_periodic(taken))
    return _Followed(may_go_on and alike > _ALIKE, gain_db, slip, silence > _SLACK_SAMPLES)


def _sent_behind(playback: Playback, number: int, cleared: Cleared) -> bytes:
    """Everything that was queued between this `clear` and the next, played or not."""
    start = cleared.next_sample or cleared.sample
    if number + 1 == len(playback.clears):
        return bytes(playback.timeline[start:])
    following = playback.clears[number + 1]
    return bytes(playback.timeline[start : following.sample]) + following.unplayed


def _likeness(taken: Pcm, sent: Pcm) -> tuple[float, float, int] | None:
    """The best correlation of the two over shifts of up to 120 ms, the gain in dB from the one to the other
    there, and the shift: samples of `taken` that `sent` leaves out. None if either holds too little sound to
    tell."""
    if not len(taken) or len(sent) <= _RAMP_SAMPLES:
        return None
    one, other = taken.astype(np.float64), sent[_RAMP_SAMPLES:].astype(np.float64)
    shifts = np.arange(-_SLACK_SAMPLES, _SLACK_SAMPLES + 1) + _RAMP_SAMPLES
    shifts = shifts[(shifts < len(one)) & (-shifts < len(other))]
    from_one, from_other = np.maximum(0, shifts), np.maximum(0, -shifts)
    length = np.minimum(len(one) - from_one, len(other) - from_other)
    products = np.correlate(one, other, "full")[shifts + len(other) - 1]
    energy_one, energy_other = _energy(one, from_one, length), _energy(other, from_other, length)
    tells = (
        (length >= max(VOICED_WINDOWS * WINDOW_SAMPLES, len(one) // 2))
        & (energy_one >= VOICED_AMPLITUDE**2 * VOICED_WINDOWS * WINDOW_SAMPLES)
        & (energy_other > 0)
    )
    if not tells.any():
        return None
    alike = np.where(tells, products / np.sqrt(np.where(tells, energy_one * energy_other, 1.0)), -1.0)
    slips = shifts - _RAMP_SAMPLES
    best = int((alike - _SMALLEST_SHIFT * np.abs(slips)).argmax())
    gain_db = 10 * float(np.log10(energy_other[best] / energy_one[best]))
    return float(alike[best]), gain_db, int(slips[best])


def _is_periodic(taken: Pcm) -> bool:
    """Whether the sound is much like itself one or more periods of a voice later."""
    sound = taken[:_COMPARED_SAMPLES].astype(np.float64)
    shifts = np.arange(*_PERIODS, dtype=np.int64)
    shifts = shifts[shifts < len(sound) // 2]
    if not len(shifts):
        return True
    products = np.correlate(sound, sound, "full")[shifts + len(sound) - 1]
    length = len(sound) - shifts
    energies = _energy(sound, shifts, length) * _energy(sound, np.zeros_like(shifts), length)
    return bool((products > _ALIKE * np.sqrt(np.maximum(energies, 1.0))).any())


def _energy(sound: NDArray[np.float64], start: NDArray[np.int64], length: NDArray[np.int64]) -> Any:
    summed = np.concatenate(([0.0], np.cumsum(sound**2)))
    return summed[start + length] - summed[start]


def _came_back(agent: Pcm, at: int, until: int) -> bool:
    """Whether the voice in the end is closer to its level before `at` than to one 15 dB below."""
    before = _voiced_level_db(agent[max(0, at - _LEVEL_SAMPLES) : at])
    end = min(until, at + round(REACTION_S * LINE_RATE_HZ) + _LEVEL_SAMPLES)
    after = _voiced_level_db(agent[max(at, end - _LEVEL_SAMPLES) : end])
    return before is not None and after is not None and after - before > DUCKED_DB / 2


def _voiced_level_db(pcm: Pcm) -> float | None:
    """The louder half of the 10 ms windows that sound at all."""
    shaped = pcm[: len(pcm) // WINDOW_SAMPLES * WINDOW_SAMPLES].astype(np.float64).reshape(-1, WINDOW_SAMPLES)
    power = (shaped**2).mean(axis=1)
    sounding = np.sort(power[power > (VOICED_AMPLITUDE / 4) ** 2])
    if len(sounding) < 2 * VOICED_WINDOWS:
        return None
    return 10 * float(np.log10(sounding[len(sounding) // 2 :].mean()))
