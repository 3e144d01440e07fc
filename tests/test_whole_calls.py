"""Whole calls, signed, over real sockets, against `maya serve` with real bundled models, in real time."""

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.timeline import read_drawing, render_timeline
from telephony.simulator import Report, Scenario, simulate
from tests.infra.served import served

pytestmark = [pytest.mark.models, pytest.mark.realtime, pytest.mark.timeout(180)]

ASKED = ["What time do you open on Saturdays?", "How much is a first visit?"]


async def call(tmp_path: Path, *steps: Any) -> tuple[Report, dict[str, Any]]:
    scenario = Scenario.model_validate({"name": "whole", "voice": "ruth", "steps": steps})
    with served(tmp_path, "tiny") as server:
        report = await simulate(
            scenario, url=server.stream_url, auth_token=server.auth_token, calls_dir=tmp_path / "calls"
        )
    transcript: dict[str, Any] = json.loads(
        (tmp_path / "calls" / report.call_sid / "transcript.json").read_text()
    )
    return report, transcript


def words(text: str) -> set[str]:
    return {word.strip(".,?!").lower() for word in text.split()}


async def test_two_questions_are_understood_answered_and_kept(tmp_path: Path) -> None:
    report, transcript = await call(
        tmp_path, "listen", {"say": ASKED[0]}, "listen", {"say": ASKED[1]}, "listen", "hang_up"
    )
    assert not report.violations
    assert len(report.turns) == 2
    for asked, turn in zip(ASKED, report.turns, strict=True):
        understood = words(asked) & words(turn.transcript or "")
        assert len(understood) >= len(words(asked)) - 2, turn.transcript
        assert turn.agent
        assert turn.edge_gap_ms is not None
    assert transcript["outcome"]["outcome"] == "completed"
    assert not transcript["faults"]

    folder = tmp_path / "calls" / report.call_sid
    with wave.open(str(folder / "recording.wav")) as file:
        both = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, 2)
    assert len(both) / 8000 == pytest.approx(transcript["call"]["duration_s"], abs=0.5)
    assert (np.abs(both.astype(np.int32)).max(axis=0) > 2000).all()
    assert len(read_drawing(folder).gaps) >= 2
    assert render_timeline(folder).stat().st_size > 20_000


async def test_an_interruption_stops_the_agent_and_is_answered(tmp_path: Path) -> None:
    report, transcript = await call(
        tmp_path,
        {"interrupt": {"after_s": 0.9, "say": "Sorry, how much is a first visit?"}},
        "listen",
        "hang_up",
    )
    assert not report.violations
    assert report.stop_ms.n == 1
    assert report.stop_ms.max is not None
    greeting = transcript["turns"][0]
    assert greeting["interrupted"]
    assert len(greeting["heard"]) < len(greeting["agent"])
    later = [turn for turn in transcript["turns"] if turn["caller"]]
    assert "first" in words(" ".join(turn["caller"] for turn in later))
    assert later[-1]["agent"]


async def test_a_lost_connection_leaves_transcript_and_recording(tmp_path: Path) -> None:
    report, transcript = await call(tmp_path, "listen", {"say": ASKED[0]}, {"wait": 1.0}, "drop")
    assert transcript["outcome"] is not None
    assert (tmp_path / "calls" / report.call_sid / "recording.wav").stat().st_size > 8000 * 4
