"""The ledger of the agent's voice: lead, marks, what was heard, what the recording gets."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.line import AUDIO_FRAME_S, AUDIO_FRAME_SAMPLES, LINE_RATE_HZ, Pcm
from pipeline.playout import (
    BEAT_S,
    DUCK_DB,
    LEAD_S,
    MARK_EVERY_SAMPLES,
    MARK_PATIENCE_S,
    RAMP_SAMPLES,
    Playout,
    SendAudio,
    SendMark,
)


def tone(seconds: float, value: int = 1000) -> Pcm:
    return np.full(round(seconds * LINE_RATE_HZ), value, np.int16)


class Shell:
    """Obeys a playout in virtual time; a mark comes back `echo_s` after its audio was played."""

    def __init__(self, playout: Playout, *, echo_s: float = 0.06) -> None:
        self.playout = playout
        self.echo_s = echo_s
        self.now = 50.0
        self.sent: list[Pcm] = []
        self.sent_at: list[float] = []
        self.play_end = 0.0
        self.echoes: list[tuple[float, str]] = []

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            deadline = self.playout.next_deadline()
            echo = self.echoes[0][0] if self.echoes else None
            upcoming = [t for t in (deadline, echo) if t is not None and max(t, self.now) <= end]
            if not upcoming:
                break
            self.now = max(self.now, min(upcoming))
            while self.echoes and self.echoes[0][0] <= self.now:
                self.playout.mark_reached(self.echoes.pop(0)[1], self.now)
            for action in self.playout.due(self.now):
                if isinstance(action, SendAudio):
                    self.sent.append(action.pcm)
                    self.sent_at.append(self.now)
                    self.play_end = max(self.play_end, self.now) + action.pcm.size / LINE_RATE_HZ
                else:
                    self.echoes.append((self.play_end + self.echo_s, action.name))
        self.now = end


def test_audio_leaves_in_frames_at_most_the_lead_and_a_beat_ahead() -> None:
    playout = Playout()
    shell = Shell(playout)
    playout.append(tone(2.0))
    playout.finish()
    shell.run(3.0)
    assert sum(p.size for p in shell.sent) == 2 * LINE_RATE_HZ
    assert all(p.size == AUDIO_FRAME_SAMPLES for p in shell.sent)
    for index, at in enumerate(shell.sent_at):
        lead = index * AUDIO_FRAME_S - (at - 50.0)
        assert lead <= LEAD_S + BEAT_S + 1e-9
    assert playout.drained


@given(st.floats(0, 1e6), st.floats(0, 0.019), st.sampled_from([0.0, 0.0123]))
def test_calls_that_begin_at_any_moment_send_one_frame_each_on_the_same_beats(
    began: float, late: float, phase_s: float
) -> None:
    playout = Playout(phase_s=phase_s)
    playout.append(tone(1.0))
    frames = playout.due(began)
    in_advance = sum(isinstance(action, SendAudio) for action in frames)
    assert LEAD_S <= in_advance * AUDIO_FRAME_S <= LEAD_S + 2 * BEAT_S
    beats: list[float] = []
    for index in range(in_advance, 45):
        beat = playout.next_deadline()
        assert beat is not None
        beats.append(beat)
        # It still is one frame where the process is late, but by less than a beat.
        due = [action for action in playout.due(beat + late) if isinstance(action, SendAudio)]
        assert len(due) == 1
        ahead = began + index * AUDIO_FRAME_S - beat
        assert LEAD_S - 1e-6 <= ahead <= LEAD_S + BEAT_S + 1e-6
    assert np.allclose(np.diff(beats), BEAT_S)
    places = (np.array(beats) - phase_s) / BEAT_S
    assert np.allclose(places, np.round(places), atol=1e-4)


def test_marks_are_unique_and_regular() -> None:
    playout = Playout()
    names: list[str] = []
    since = 0
    playout.append(tone(1.0))
    playout.finish()
    now = 0.0
    while (deadline := playout.next_deadline()) is not None and len(names) < 100:
        now = max(now, deadline)
        for action in playout.due(now):
            if isinstance(action, SendMark):
                names.append(action.name)
                assert since <= MARK_EVERY_SAMPLES
                since = 0
            else:
                since += action.pcm.size
        if playout.drained:
            break
    assert len(names) == len(set(names)) >= 6


def test_heard_is_the_last_mark_and_the_time_since() -> None:
    playout = Playout()
    shell = Shell(playout)
    playout.append(tone(2.0))
    shell.run(1.0)
    truth = round((1.0 - shell.echo_s) * LINE_RATE_HZ)
    assert playout.heard_samples(shell.now) == pytest.approx(truth, abs=AUDIO_FRAME_SAMPLES)


def test_heard_stands_still_while_nothing_is_sent() -> None:
    playout = Playout()
    shell = Shell(playout)
    playout.append(tone(0.5))
    shell.run(5.0)
    assert playout.heard_samples(shell.now) == 4000
    assert not playout.drained, "more of the reply may come"


def test_a_clear_starts_anew_and_old_marks_mean_nothing() -> None:
    playout = Playout()
    playout.append(tone(1.0))
    (mark,) = [a for a in playout.due(0.0) if isinstance(a, SendMark)]
    playout.clear(0.1)
    playout.append(tone(1.0))
    playout.due(0.2)
    playout.mark_reached(mark.name, 0.25)
    assert playout.heard_samples(0.25) == pytest.approx(400, abs=1)


def test_clauses_know_their_part() -> None:
    playout = Playout()
    shell = Shell(playout)
    playout.begin_clause("One.")
    playout.append(tone(0.5))
    playout.begin_clause("Two.")
    playout.append(tone(0.5))
    shell.run(0.75)
    one, two = playout.heard(shell.now)
    assert (one.text, one.samples, one.heard_samples, one.complete) == ("One.", 4000, 4000, True)
    assert (two.samples, two.complete) == (4000, False)
    assert two.heard_samples == pytest.approx(0.19 * LINE_RATE_HZ, abs=AUDIO_FRAME_SAMPLES)


def test_a_line_that_loses_its_last_mark_does_not_hold_the_floor() -> None:
    playout = Playout()
    playout.append(tone(0.1))
    playout.finish()
    playout.due(0.0)
    assert playout.next_deadline() == pytest.approx(0.1 + MARK_PATIENCE_S)
    playout.due(0.1 + MARK_PATIENCE_S)
    assert playout.drained


def test_the_recording_gets_what_was_played_and_not_what_was_cleared() -> None:
    playout = Playout()
    playout.append(tone(1.0))
    playout.due(10.0)
    pieces = playout.played(10.05) + playout.clear(10.07)
    assert sum(p.pcm.size for p in pieces) == pytest.approx(0.07 * LINE_RATE_HZ, abs=1)
    for before, after in itertools.pairwise(pieces):
        assert after.at_s == pytest.approx(before.at_s + before.pcm.size / LINE_RATE_HZ)


def test_an_underrun_moves_the_rest_later() -> None:
    playout = Playout()
    shell = Shell(playout)
    playout.append(tone(0.3))
    shell.run(1.0)
    playout.append(tone(0.3))
    playout.finish()
    shell.run(1.0)
    pieces = playout.played(shell.now)
    starts = [p.at_s for p in pieces]
    assert starts[0] == pytest.approx(50.0)
    assert any(s == pytest.approx(51.0) for s in starts)


@given(
    chunks=st.lists(st.integers(0, 900), max_size=20),
    steps=st.lists(st.floats(0.0, 0.3), min_size=1, max_size=40),
)
def test_nothing_is_lost_repeated_or_reordered(chunks: list[int], steps: list[float]) -> None:
    playout = Playout()
    total = sum(chunks)
    audio = np.arange(total, dtype=np.int64).astype(np.int16)
    position = 0
    sent: list[Pcm] = []
    now = 0.0
    for index, step in enumerate(steps):
        if index < len(chunks):
            playout.append(audio[position : position + chunks[index]])
            position += chunks[index]
        now += step
        sent += [a.pcm for a in playout.due(now) if isinstance(a, SendAudio)]
        assert playout.heard_samples(now) <= sum(p.size for p in sent)
    sent += [a.pcm for a in playout.due(now + 1000) if isinstance(a, SendAudio)]
    joined = np.concatenate(sent) if sent else np.zeros(0, np.int16)
    assert np.array_equal(joined, audio[: joined.size])


@given(
    chunks=st.lists(st.integers(1, 3000), min_size=1, max_size=20),
    waits=st.lists(st.floats(0.0, 0.6), min_size=20, max_size=20),
)
def test_marks_stay_regular_whatever_the_chunks(chunks: list[int], waits: list[float]) -> None:
    """Never more than a mark's distance and one AudioFrame without a mark, and none after the last one."""
    playout = Playout()
    since, now = 0, 0.0
    for size, wait_s in [*zip(chunks, waits, strict=False), (0, 60.0)]:
        playout.append(np.ones(size, np.int16))
        until = now + wait_s
        while (deadline := playout.next_deadline()) is not None and max(deadline, now) <= until:
            now = max(deadline, now)
            for action in playout.due(now):
                since = 0 if isinstance(action, SendMark) else since + action.pcm.size
                assert since < MARK_EVERY_SAMPLES + AUDIO_FRAME_SAMPLES
        now = until
    assert since == 0, "the end of the reply has a mark"


def underrun(playout: Playout, *, marks: bool) -> float:
    """Half a second of the first clause is long over when the second one comes, at the returned time."""
    shell = Shell(playout)
    playout.begin_clause("One.")
    playout.append(tone(0.5))
    while shell.now < 50.7:
        shell.run(0.02)
        if not marks:
            shell.echoes.clear()
    playout.begin_clause("Two three four.")
    playout.append(tone(1.0))
    playout.due(52.0)
    return 52.0


@pytest.mark.parametrize("marks", [True, False])
def test_a_clause_that_has_just_been_sent_is_not_heard_yet(marks: bool) -> None:
    """The time that passed while nothing was queued is no playing time."""
    playout = Playout()
    now = underrun(playout, marks=marks)
    assert playout.heard_samples(now) <= 4000
    assert playout.heard_samples(now + 0.1) <= 4000 + 800
    one, two = playout.heard(now)
    assert one.heard_samples == 4000
    assert two.heard_samples == 0


def test_a_reply_whose_last_mark_is_on_its_way_has_been_heard() -> None:
    playout = Playout()
    shell = Shell(playout, echo_s=10.0)
    playout.append(tone(0.5))
    shell.run(0.6)
    assert not playout.all_heard(shell.now), "more of the reply may come"
    playout.finish()
    assert playout.all_heard(shell.now)
    assert not playout.drained


def test_a_reply_that_still_sounds_has_not_been_heard() -> None:
    playout = Playout()
    shell = Shell(playout)
    playout.append(tone(0.5))
    playout.finish()
    shell.run(0.4)
    assert not playout.all_heard(shell.now)


def test_a_passage_after_a_drained_one_counts_from_its_own_first_sample() -> None:
    playout = Playout()
    shell = Shell(playout)
    playout.append(tone(0.5))
    playout.finish()
    shell.run(1.0)
    assert sum(p.pcm.size for p in playout.next_passage(shell.now)) == 4000
    assert (playout.active, playout.drained, playout.heard_samples(shell.now)) == (False, False, 0)
    assert playout.next_deadline() is None


def test_nothing_queued_asks_for_nothing() -> None:
    playout = Playout()
    playout.append(np.zeros(0, np.int16))
    assert playout.next_deadline() is None
    assert playout.due(1.0) == []
    assert not playout.active
    assert playout.clear(1.0) == []


class Ear:
    """What a line with a buffer plays: `clear` drops what is due after now."""

    def __init__(self, start_s: float) -> None:
        self.start_s = start_s
        self.samples = np.zeros(0, np.int16)

    def queue(self, pcm: Pcm, now: float) -> None:
        late = round((now - self.start_s) * LINE_RATE_HZ) - self.samples.size
        self.samples = np.concatenate([self.samples, np.zeros(max(0, late), np.int16), pcm])

    def clear(self, now: float) -> None:
        self.samples = self.samples[: round((now - self.start_s) * LINE_RATE_HZ)]


def heard_with_changes(audio: Pcm, changes: dict[float, str], *, chunk: int = 4000) -> tuple[Pcm, Playout]:
    """Play `audio` from 50.0 s on; at each time of `changes` the voice is turned "down" or "up"."""
    playout, ear, now = Playout(), Ear(50.0), 50.0
    for at in range(0, audio.size, chunk):
        playout.append(audio[at : at + chunk])
    playout.finish()
    pending = sorted(changes.items())
    while True:
        deadline = playout.next_deadline()
        if deadline is None or (not playout._waiting and not pending):
            return ear.samples, playout
        change = pending[0][0] if pending else float("inf")
        now = max(now, min(deadline, change)) if playout._waiting else change
        if pending and now >= change:
            _, direction = pending.pop(0)
            if playout.duck(now) if direction == "down" else playout.restore(now):
                ear.clear(now)
        for action in playout.due(now):
            if isinstance(action, SendAudio):
                ear.queue(action.pcm, now)


def test_a_duck_goes_on_quieter_from_the_very_sample_and_a_restore_loses_none() -> None:
    audio = (np.arange(16_000) % 1000 + 2000).astype(np.int16)
    heard, playout = heard_with_changes(audio, {50.5131: "down", 50.9007: "up"})
    assert heard.size == audio.size
    down, up = round(0.5131 * LINE_RATE_HZ), round(0.9007 * LINE_RATE_HZ)
    gain = 10 ** (DUCK_DB / 20)
    assert np.array_equal(heard[:down], audio[:down])
    assert np.array_equal(heard[up + RAMP_SAMPLES :], audio[up + RAMP_SAMPLES :])
    quiet = slice(down + RAMP_SAMPLES, up)
    assert np.abs(heard[quiet] - audio[quiet] * gain).max() <= 0.5
    assert not playout.ducked


@given(quarters=st.lists(st.integers(0, 70_000), max_size=8), chunk=st.integers(100, 5000))
def test_no_sample_is_lost_or_repeated_however_often_the_level_changes(
    quarters: list[int], chunk: int
) -> None:
    audio = (np.arange(16_000) + 4000).astype(np.int16)
    # Between samples too, but never half way: which one that is depends on rounding.
    times = [50.0 + (q - (q % 4 == 2)) / 4 / LINE_RATE_HZ for q in quarters]
    changes = {at: ("down", "up")[number % 2] for number, at in enumerate(sorted(times))}
    heard, _ = heard_with_changes(audio, changes, chunk=chunk)
    assert heard.size == audio.size
    ratio = heard / audio
    gain = 10 ** (DUCK_DB / 20)
    assert ratio.min() > gain * 0.99
    assert ratio.max() <= 1.0
    settled = np.isclose(ratio, 1.0, atol=1e-3) | np.isclose(ratio, gain, atol=1e-3)
    assert np.count_nonzero(~settled) <= RAMP_SAMPLES * len(times)


def test_what_was_sent_before_a_duck_and_not_played_is_neither_heard_nor_recorded() -> None:
    playout = Playout()
    playout.begin_clause("One.")
    playout.append(tone(1.0))
    marks = [a.name for a in playout.due(10.0) if isinstance(a, SendMark)]
    assert playout.duck(10.05)
    assert playout.heard_samples(10.05) == 400
    playout.mark_reached(marks[0], 10.06)
    assert playout.heard_samples(10.06) <= 400
    assert sum(p.pcm.size for p in playout.played(10.05)) == 400
    sent = sum(a.pcm.size for a in playout.due(10.05) if isinstance(a, SendAudio))
    assert sent >= LEAD_S * LINE_RATE_HZ
    assert playout.heard_samples(10.15) == 1200


def test_a_voice_that_is_turned_down_between_two_clauses_needs_no_clear() -> None:
    playout = Playout()
    playout.append(tone(0.1))
    playout.due(10.0)
    assert not playout.duck(10.5)
    playout.append(tone(0.1))
    (first, *_) = [a.pcm for a in playout.due(10.6) if isinstance(a, SendAudio)]
    assert first[-1] == pytest.approx(1000 * 10 ** (DUCK_DB / 20), abs=1)


def test_a_new_passage_is_at_full_level() -> None:
    playout = Playout()
    playout.append(tone(0.5))
    playout.due(10.0)
    playout.duck(10.1)
    playout.clear(10.2)
    assert not playout.ducked
