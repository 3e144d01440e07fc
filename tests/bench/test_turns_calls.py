from collections import Counter

from bench.corpus import Condition
from bench.turns_calls import (
    ANNOUNCEMENT,
    INTERRUPTIONS_A_CALL,
    OVERLAP_CALLS,
    TURNS_A_CALL,
    conversation_calls,
    overlap_calls,
)
from infra.settings import CLINIC_PERSONA
from pipeline.persona import load_persona
from telephony import g711
from telephony.simulator.scenario import Backchannel, Interrupt, Listen, Say, Sound
from tests.bench.corpora import corpus, turn


def test_conversations_hold_the_wanted_turns_and_the_corpus_share_of_pauses() -> None:
    calls = conversation_calls(corpus(), turns=24)
    turns = [turn for call in calls for turn in call.turns]
    assert len(turns) == 24 and len({turn.id for turn in turns}) == 24
    assert sum(bool(turn.pauses_s) for turn in turns) == 12
    assert Counter(turn.voice for turn in turns) == {"ann": 12, "bob": 12}
    assert all(len(call.turns) <= TURNS_A_CALL for call in calls)
    assert all(len({turn.voice for turn in call.turns}) == 1 for call in calls)
    # The first calls have all voices, for those who play only a few.
    assert [call.turns[0].voice for call in calls[:2]] == ["ann", "bob"]


def test_a_conversation_says_the_corpus_own_samples() -> None:
    call = conversation_calls(corpus(), turns=4)[0]
    said = [n for n, step in enumerate(call.scenario.steps) if isinstance(step, Say)]
    assert sorted(call.speeches) == said
    for number, spoken in zip(said, call.turns, strict=True):
        assert isinstance(call.scenario.steps[number + 1], Listen)
        sent = b"".join(call.speeches[number].audio_frames)
        assert sent[: len(spoken.pcm)] == g711.encode(spoken.pcm)


def test_a_call_has_the_line_of_its_first_turn() -> None:
    line = Condition(
        noise="cafe",
        level_dbfs=-48.0,
        loss=0.02,
        echo_db=-31.0,
        echo_delay_ms=300,
        delay_ms=20,
        jitter_ms=30,
        seed=9,
    )
    material = corpus(2)
    noisy = [turn(0, condition=line), turn(1, condition=line)]
    (call,) = conversation_calls(type(material)(tuple(noisy), material.overlaps), turns=2)
    scenario = call.scenario
    assert scenario.noise is not None and scenario.echo is not None
    assert (scenario.noise.kind, scenario.noise.level_dbfs) == ("babble", -48.0)
    assert (scenario.echo.level_db, scenario.echo.delay_ms) == (-31.0, 300)
    assert (scenario.network.loss, scenario.network.delay_ms) == (0.02, 20)
    # An AudioFrame cannot arrive before it was sent.
    assert scenario.network.jitter_ms == 20


def test_overlap_calls_sound_over_the_agent_in_the_order_that_they_name() -> None:
    calls = overlap_calls(corpus())
    assert len(calls) == OVERLAP_CALLS
    for call in calls:
        steps = call.scenario.steps[: len(call.overlaps)]
        for number, (step, planned) in enumerate(zip(steps, call.overlaps, strict=True)):
            wanted = {"backchannel": Backchannel, "interruption": Interrupt, "stop_word": Interrupt}
            assert isinstance(step, wanted.get(planned.kind, Sound)), (step, planned)
            assert b"".join(call.speeches[number].audio_frames).startswith(g711.encode(planned.pcm))
        assert isinstance(steps[-INTERRUPTIONS_A_CALL], Interrupt)
        assert not any(isinstance(step, Interrupt) for step in steps[:-INTERRUPTIONS_A_CALL])
    kinds = Counter(overlap.kind for call in calls for overlap in call.overlaps)
    # Enough for a 95th percentile of stop times, and for rates.
    assert kinds["interruption"] + kinds["stop_word"] >= 60 and kinds["backchannel"] >= 60
    assert kinds["cough"] + kinds["line_noise"] >= 20
    assert min(kinds["side_talk"], kinds["cough"], kinds["line_noise"], kinds["stop_word"]) >= 10


def test_what_is_likeliest_to_stop_the_agent_comes_last() -> None:
    for call in overlap_calls(corpus(), calls=4):
        kinds = [overlap.kind for overlap in call.overlaps[:-INTERRUPTIONS_A_CALL]]
        assert kinds[-1] == "side_talk" and "side_talk" not in kinds[:-1]


def test_what_the_corpus_has_little_of_is_heard_again() -> None:
    said = [
        o.id for call in overlap_calls(corpus(), calls=4) for o in call.overlaps if o.kind == "backchannel"
    ]
    assert len(said) == 10 and len(set(said)) == 7


def test_the_announcement_is_the_clinic_speaking_long_enough() -> None:
    announcing, clinic = load_persona(ANNOUNCEMENT), load_persona(CLINIC_PERSONA)
    assert announcing.facts == clinic.facts and announcing.system == clinic.system
    assert not announcing.turns.protect_greeting
    words = len(announcing.greeting.split())
    # Fewer than three words a second; the sounds of a call need about 25 s.
    assert words / 2.9 > 45 and "\n" not in announcing.greeting.strip()


def test_voices_with_few_turns_say_what_they_have() -> None:
    calls = conversation_calls(corpus(6), turns=40)
    assert sorted(turn.id for call in calls for turn in call.turns) == [f"held_out-{n:03}" for n in range(6)]
