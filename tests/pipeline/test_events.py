"""What a turn's stages add up to."""

from dataclasses import replace

import pytest

from pipeline.events import TurnTimes

ALL = TurnTimes(
    turn=1,
    speech_end_s=9.98,
    audible_end_s=10.0,
    transcribe_started_s=10.15,
    transcribed_s=10.5,
    committed_s=10.7,
    first_token_s=10.65,
    first_clause_s=10.9,
    first_audio_s=10.95,
    first_played_s=10.96,
    first_audible_s=10.98,
)


def test_the_stages_add_up_to_the_gap() -> None:
    assert ALL.stages_ms() == {
        "endpoint_wait_ms": pytest.approx(150),
        "transcription_ms": pytest.approx(350),
        "first_token_ms": pytest.approx(150),
        "first_clause_ms": pytest.approx(250),
        "first_audio_ms": pytest.approx(50),
        "playout_ms": pytest.approx(30),
    }
    assert sum(ALL.stages_ms().values()) == pytest.approx(980)


def test_a_reply_that_waits_for_the_turns_end_waits_in_the_first_stage() -> None:
    waited = replace(ALL, committed_s=11.4, first_played_s=11.4, first_audible_s=11.43)
    stages = waited.stages_ms()
    assert stages["endpoint_wait_ms"] == pytest.approx(150 + 450)
    assert stages["playout_ms"] == pytest.approx(30)
    assert sum(stages.values()) == pytest.approx(1430)


@pytest.mark.parametrize("missing", ["audible_end_s", "first_token_s", "committed_s", "first_audible_s"])
def test_what_is_no_answer_has_no_stages(missing: str) -> None:
    assert replace(ALL, **{missing: None}).stages_ms() == {}
