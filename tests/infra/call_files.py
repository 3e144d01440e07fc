"""A constructed call, for tests of what stays of a call."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from infra.records.recorder import CallRecords
from pipeline.events import (
    AgentAudio,
    AgentClause,
    AgentTurn,
    CallEnded,
    CallerAudio,
    CallerSpoke,
    CallerTurn,
    CallObserver,
    CallStarted,
    Observers,
    TurnTimes,
)
from pipeline.line import LineInfo, Pcm

INFO = LineInfo("CAconstructed", "twilio", "+4930111", "+4930222")
GREETING = "Hello, this is Maya at the Riverside clinic. How can I help you?"
ASKED = [
    "What time do you open on Saturdays?",
    "And do I need an appointment for a flu shot?",
    "No wait.",
    "Thanks!",
]
ANSWERED = [
    "We open at nine on Saturdays and close at noon.",
    "Yes, please book a flu shot ahead; you can do that online, by phone, or at the desk on any weekday.",
    "Of course, take your time.",
    "You are welcome. Goodbye.",
]


def speech(duration_s: float, seed: int) -> Pcm:
    """Noise with the rise and fall of syllables."""
    n = int(duration_s * 8000)
    t = np.arange(n) / 8000
    loudness = np.clip(np.sin(2 * np.pi * 4 * t + seed), 0, None) * 6000
    return (
        (np.random.default_rng(seed).standard_normal(n) * loudness / 2).clip(-32768, 32767).astype(np.int16)
    )


def constructed_call(
    root: Path,
    turns: int = 4,
    *,
    ended: bool = True,
    info: LineInfo = INFO,
    records: CallRecords | None = None,
    also: Callable[[LineInfo, Callable[[], Path | None]], CallObserver] | None = None,
) -> Path:
    """Write a call of the conversation above (repeated as needed), the second answer interrupted. `also` is
    told the same, and where the call is recorded."""
    recording = (records or CallRecords(root, inline=True)).observer(info)
    recorder = Observers(recording, *([also(info, lambda: recording.folder)] if also is not None else []))
    recorder.observe(CallStarted(0.0, info, "clinic"))
    recorder.observe(AgentClause(0.0, 0, GREETING))
    recorder.observe(AgentAudio(1600, speech(3.5, 0)))
    now_s = 3.7
    recorder.observe(AgentTurn(now_s, 0, GREETING, GREETING, False, TurnTimes(0, first_played_s=0.2)))
    now_s += 0.8
    for turn in range(1, turns + 1):
        asked, answered = ASKED[(turn - 1) % 4], ANSWERED[(turn - 1) % 4]
        spoken_s, answer_s = 0.06 * len(asked), 0.06 * len(answered)
        interrupted = turn % 4 == 2
        heard = answered[: len(answered) // 2].rsplit(" ", 1)[0] if interrupted else answered
        played_s = answer_s / 2 if interrupted else answer_s
        recorder.observe(CallerAudio(int(now_s * 8000), speech(spoken_s, turn)))
        recorder.observe(CallerSpoke(now_s, now_s + spoken_s))
        end_s = now_s + spoken_s
        recorder.observe(CallerTurn(end_s + 0.7, turn, asked))
        times = TurnTimes(
            turn,
            speech_end_s=end_s,
            transcribe_started_s=end_s + 0.13,
            transcribed_s=end_s + 0.52,
            committed_s=end_s + 0.7,
            first_token_s=end_s + 0.95,
            first_clause_s=end_s + 1.25,
            first_audio_s=end_s + 1.31,
            first_played_s=end_s + 1.34,
        )
        recorder.observe(AgentClause(end_s + 1.25, turn, answered))
        recorder.observe(AgentAudio(int((end_s + 1.34) * 8000), speech(played_s, turn + 50)))
        now_s = end_s + 1.34 + played_s
        recorder.observe(AgentTurn(now_s, turn, answered, heard, interrupted, times))
        now_s += -0.2 if interrupted else 0.9
    if ended:
        recorder.observe(CallEnded(now_s, "caller hung up", "completed"))
    folder = recording.folder
    assert folder is not None
    return folder
