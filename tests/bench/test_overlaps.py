"""With scripted ears: when windows, glimpses and transcripts arrive, and what is counted."""

import numpy as np
import pytest

from bench.corpus import Condition, Overlap, OverlapKind
from bench.overlaps import BEFORE_S, Ears, Judged, judge, report
from models.base import Glimpse
from models.scripted import EnergyVoiceActivity, ScriptedTranscriber, voiced_signal
from pipeline.line import LINE_RATE_HZ, Pcm
from pipeline.resample import to_pcm

SPEAKS, YEAH = Glimpse(0.02, 0.0, 0.98, "what"), Glimpse(0.95, 0.0, 0.05, "Yeah")
AGENT = to_pcm(voiced_signal("The agent speaks for a while.", 3.0, LINE_RATE_HZ))


def overlap(
    seconds: float = 1.0,
    *,
    kind: OverlapKind = "interruption",
    text: str = "What about Sunday?",
    level_db: float = 0.0,
    echo_db: float | None = None,
) -> Overlap:
    sound: Pcm = to_pcm(voiced_signal(text, seconds, LINE_RATE_HZ) * np.float32(10 ** (level_db / 20)))
    condition = Condition(
        noise=None,
        level_dbfs=-100.0,
        loss=0.0,
        echo_db=echo_db,
        echo_delay_ms=200.0,
        delay_ms=0.0,
        jitter_ms=0.0,
        seed=1,
    )
    return Overlap(f"held_out-{kind}-00", "held_out", kind, "somebody", text, sound, level_db, condition)


def ears(glimpse: Glimpse, heard: str = "Yeah.", **waits: float) -> tuple[Ears, ScriptedTranscriber]:
    transcriber = ScriptedTranscriber(lambda audio: heard, glimpses=lambda audio: glimpse)
    return Ears(EnergyVoiceActivity(), transcriber, **waits), transcriber


async def test_a_stop_is_the_first_glimpses_time_and_its_wait() -> None:
    listening, transcriber = ears(SPEAKS, glimpse_s=0.06)
    judged = await judge(overlap(), AGENT, listening)
    # 128 ms from the window that holds the first voice, a packet of grid, the wait, the packet under way: the
    # first window may hold little of it.
    assert judged.stop_ms is not None and 186 <= judged.stop_ms <= 128 + 32 + 20 + 60 + 20
    assert judged.duck_ms is not None and 32 <= judged.duck_ms <= 64 + 32 + 20
    assert transcriber.glimpsed_s == [pytest.approx(0.228, abs=0.001)]
    later, _ = ears(SPEAKS, glimpse_s=0.09)
    slower = await judge(overlap(), AGENT, later)
    assert slower.stop_ms == pytest.approx(judged.stop_ms + 30)


async def test_a_backchannel_is_transcribed_when_it_has_passed_and_nothing_stops() -> None:
    listening, transcriber = ears(YEAH)
    judged = await judge(overlap(0.4, kind="backchannel", text="Yeah."), AGENT, listening)
    assert judged.stop_ms is None and judged.duck_ms is not None
    assert judged.transcript == "Yeah." and len(transcriber.durations_s) == 1
    assert 0.9 <= transcriber.durations_s[0] <= 1.1


async def test_a_stop_word_that_only_the_transcriber_hears_stops_late() -> None:
    listening, _ = ears(YEAH, "Stop.", transcription_s=0.4)
    judged = await judge(overlap(0.4, kind="stop_word", text="Stop."), AGENT, listening)
    assert judged.stop_ms is not None and 400 + 300 + 400 <= judged.stop_ms <= 1_300


async def test_the_agents_echo_alone_turns_nothing_down() -> None:
    listening, transcriber = ears(SPEAKS)
    judged = await judge(
        overlap(0.1, kind="line_noise", text="", level_db=-60, echo_db=-26), AGENT, listening
    )
    assert judged.duck_ms is None and judged.stop_ms is None and not transcriber.glimpsed_s


async def test_what_turns_the_agent_down_before_the_overlap_is_counted_apart() -> None:
    listening, _ = ears(SPEAKS)
    heard = await judge(overlap(0.5, echo_db=0.0), AGENT, listening)
    assert heard.ducked_before, "so loud an echo is taken for a caller until its delay is known"
    assert not (await judge(overlap(0.5), AGENT, listening)).ducked_before


async def test_a_soft_voice_is_let_pass_for_good_only_when_the_level_is_known() -> None:
    aside = overlap(2.2, kind="side_talk", text="Put it there.", level_db=-13)
    listening, _ = ears(SPEAKS)
    assert (await judge(aside, AGENT, listening)).stop_ms is None
    assert (await judge(aside, AGENT, listening, knows_level=False)).stop_ms is not None


async def test_eager_stops_without_looking() -> None:
    listening, transcriber = ears(YEAH)
    judged = await judge(overlap(0.4), AGENT, listening, policy="eager")
    assert judged.stop_ms is not None and not transcriber.glimpsed_s


def test_the_report_counts_each_kind_and_names_what_went_wrong() -> None:
    def one(kind: OverlapKind, stop_ms: float | None, text: str = "") -> Judged:
        return Judged(overlap(0.1, kind=kind, text=text), 80.0, stop_ms, (SPEAKS,), "")

    made = report(
        [
            one("interruption", 240.0, "What about it?"),
            one("interruption", 640.0, "Okay, and when?"),
            one("stop_word", None, "No."),
            one("backchannel", None, "Yeah."),
            one("backchannel", 300.0, "Okay."),
            one("cough", None),
            one("line_noise", None),
            one("side_talk", 300.0, "Come here."),
        ],
        "whisper-tiny.en",
        "polite",
    )
    figures = made.figures
    assert (figures["yield_rate"], figures["yield_rate_n"]) == (round(2 / 3, 4), 3)
    assert (figures["backchannel_kept"], figures["noise_kept"], figures["sidetalk_kept"]) == (0.5, 1.0, 0.0)
    assert figures["noise_ducked"] == 1.0 and figures["ducked_for_nothing"] == 0.0
    assert figures["stop_n"] == 2 and figures["stop_max_ms"] == 640
    assert figures["stop_unlike_backchannels_n"] == 1 and figures["stop_unlike_backchannels_max_ms"] == 240
    wrong, slow = made.details["wrong"], made.details["slow"]
    assert isinstance(wrong, list) and [row["text"] for row in wrong] == ["No.", "Okay.", "Come here."]
    assert isinstance(slow, list) and [row["text"] for row in slow] == ["Okay, and when?"]
    assert BEFORE_S >= 1.0
