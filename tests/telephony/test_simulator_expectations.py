"""What scenarios expect, and what they are told when it did not happen."""

import textwrap
from typing import Any

import pytest

import telephony.simulator.scenario as module
from pipeline.documents import DocumentError
from telephony.simulator.caller import Speech
from telephony.simulator.expect import Expect
from telephony.simulator.expectations import says
from telephony.simulator.report import Report, ServerTurn
from telephony.simulator.scenario import Scenario
from telephony.simulator.virtual import simulate_virtual
from tests.telephony.parrot import Parrot, parrots, silence, tone
from tests.telephony.talker import Talker, voice

ACCOUNT = (
    ServerTurn("", "Good morning, the clinic.", "Good morning, the clinic."),
    ServerTurn("When are you open on Saturdays?", "From nine until noon.", "From nine"),
)
LINES = {"one": tone(1.0), "mm-hmm": tone(0.5), "stop": tone(0.8)}


def play(agent: Any, steps: list[Any], account: Any = ACCOUNT, **options: Any) -> Report:
    network = {"delay_ms": 60, "jitter_ms": 0}
    scenario = Scenario.model_validate({"name": "hours", "network": network, "steps": steps})
    return simulate_virtual(
        scenario,
        parrots(agent),
        speeches=spoken(scenario),
        transcripts=(lambda call_id: account) if account is not None else None,
        **options,
    )


def spoken(scenario: Scenario) -> dict[int, Speech]:
    texts = {
        n: getattr(step, "text", None) or getattr(step, "say", None) for n, step in enumerate(scenario.steps)
    }
    return {number: Speech.of(text, LINES[text]) for number, text in texts.items() if text}


def one_turn(account: Any = ACCOUNT, agent: Any = None, **expect: Any) -> Report:
    return play(agent or Parrot(), ["listen", {"say": "one"}, "listen", {"expect": expect}], account)


def over(reaction: Any, **expect: Any) -> Report:
    steps = [{"backchannel": {"after_s": 2, "say": "mm-hmm"}}, {"expect": expect}, {"wait": 3}]
    return play(Talker(reaction), steps)


@pytest.mark.parametrize(
    ("text", "wanted", "holds"),
    [
        ("From nine until noon.", "noon", True),
        ("Closed in the afternoon.", "noon", False),
        ("You open on Saturdays, right?", "SATURDAY", True),
        ("on saturday", "Saturdays", False),
        ("It's nine o'clock", "it’s nine", True),
        ("We open at 9 a.m., and close", "9 a.m. and", True),
        ("We open at 19:30", "9:30", False),
        ("nine until noon", "nine noon", False),
        ("We are closed.", "/closed|shut$/", True),
        ("We are CLOSED", "/^we .* closed$/", True),
        ("We are open", "/closed|shut/", False),
        ("Die Straße", "strasse", True),
        ("", "noon", False),
    ],
)
def test_words_are_words_in_their_order(text, wanted, holds):
    assert says(text, wanted) is holds


@pytest.mark.parametrize(
    "expect",
    [
        {"transcript": "saturday"},
        {"reply": "/noon|twelve/"},
        {"heard": "from nine"},
        {"gap": 1.0},
        {"gap": "< 0.93"},
        {"gap": "> 0.91"},
        {"edge_gap": "<= 0.81 s"},
        {"edge_gap": ">= 0.79"},
        {"no_cut_off": True},
    ],
)
def test_expectations_that_hold(expect):
    report = one_turn(**expect)
    assert [verdict.passed for verdict in report.verdicts] == [True]
    assert report.check() is report


@pytest.mark.parametrize(
    ("expect", "message"),
    [
        ({"transcript": "sunday"}, 'the transcript to say "sunday", but it was "When are you open on'),
        ({"reply": "/midnight/"}, 'to match /midnight/, but the agent said "From nine until noon."'),
        ({"heard": "until noon"}, 'what was heard of the reply to say "until noon", but it was "From nine"'),
        ({"gap": 0.5}, "expected a gap of at most 0.5 s, but it was 0.92 s"),
        ({"gap": "> 2"}, "expected a gap above 2 s, but it was 0.92 s"),
        ({"edge_gap": "< 0.5"}, "expected a gap at the server's edge below 0.5 s, but it was 0.80 s"),
        ({"no_cut_off": False}, "expected the agent to cut into the turn, but it waited"),
    ],
)
def test_a_failure_says_what_happened_instead(expect, message):
    report = one_turn(**expect)
    (verdict,) = report.failures
    assert message in verdict.message
    assert 'the caller said "one" from 2.' in verdict.message
    assert verdict.where == 'step 4 of "hours"'
    with pytest.raises(AssertionError, match='1 of 1 expectations of "hours" failed'):
        report.check()


def test_failures_name_the_line_and_the_recording(tmp_path):
    path = tmp_path / "hours.yaml"
    path.write_text(
        "name: hours\nsteps:\n  - listen\n  - say: one\n  - expect:\n      reply: midnight\n"
        "      transcript: saturday\n  - listen\n"
    )
    scenario = Scenario.load(path)
    report = simulate_virtual(
        scenario,
        parrots(Parrot()),
        speeches=spoken(scenario),
        transcripts=lambda call_id: ACCOUNT,
        recording_dir=tmp_path,
    )
    transcript, reply = report.verdicts
    assert (transcript.passed, reply.passed) == (True, False)
    assert reply.where == f"{path}:5"
    assert reply.message.startswith(f"{path}:5: expected the reply to say ")
    assert f"recording: {report.recording}, from 2." in reply.message


def test_without_the_servers_account_words_cannot_be_judged():
    report = one_turn(None, reply="noon", gap=1.0)
    reply, gap = report.verdicts
    assert not reply.passed
    assert "server's account of the call is not known" in reply.message
    assert gap.passed


def test_a_server_that_understood_nothing():
    (verdict,) = one_turn((), transcript="saturday").failures
    assert "but there was none" in verdict.message


def test_what_is_expected_of_the_greeting():
    report = play(Parrot(), ["listen", {"expect": {"reply": "clinic", "heard": "good morning"}}])
    assert [verdict.passed for verdict in report.verdicts] == [True, True]


def test_a_turn_without_an_answer_has_no_gap():
    report = one_turn(agent=Parrot(answer=lambda heard: silence(0.1)), gap=1.0)
    assert "but the turn was not answered" in report.failures[0].message


def test_an_expectation_that_the_call_did_not_reach_fails():
    steps = ["listen", {"say": "one"}, "listen", {"say": "one"}, {"wait": 60}, {"expect": {"gap": 1}}]
    (verdict,) = play(Parrot(turns=1), steps).failures
    assert "but the call was over (agent hung up at" in verdict.message


@pytest.mark.parametrize(
    ("reaction", "expect", "holds"),
    [
        ("talk on", {"no_stop": True}, True),
        ("duck and restore", {"no_stop": True}, True),
        ("stop", {"no_stop": True}, False),
        ("stop", {"no_stop": False}, True),
        ("stop", {"stop_within": 0.2}, True),
        ("duck and stop", {"stop_within": 0.2}, False),
        ("duck and stop", {"stop_within": 0.45}, True),
        ("talk on", {"stop_within": 0.45}, False),
    ],
)
def test_expectations_of_an_overlap(reaction, expect, holds):
    assert [verdict.passed for verdict in over(reaction, **expect).verdicts] == [holds]


def test_what_is_said_when_an_overlap_goes_wrong():
    assert "to talk on over the backchannel, but it stopped after 0.0" in (
        over("stop", no_stop=True).failures[0].message
    )
    late = over("duck and stop", stop_within=0.2).failures[0].message
    assert "to stop within 0.2 s, but it was audible for 0.36 s more" in late
    assert 'the backchannel "mm-hmm" began at 2.' in late
    assert "but it talked on over the backchannel" in over("talk on", stop_within=1).failures[0].message


def test_an_overlap_that_was_not_placed_meets_nothing():
    steps = [
        {"backchannel": {"after_s": 1, "say": "mm-hmm", "timeout_s": 1}},
        {"expect": {"no_stop": True}},
    ]
    (verdict,) = play(Parrot(greeting=silence(0.1)), steps).failures
    assert "met silence: the agent was not audible at 1.0 s" in verdict.message


@pytest.mark.parametrize("after_s", [1.15, 1.25])
def test_an_interruption_behind_the_agents_last_word_meets_nothing(after_s):
    """At the ear it has just ended, at the edge it had ended before. The parrot sends its `clear` all the
    same."""
    steps = [{"interrupt": {"after_s": after_s, "say": "stop"}}, {"expect": {"no_stop": False}}, {"wait": 1}]
    report = play(Parrot(greeting=tone(1.0)), steps)
    assert (report.overlaps[0].placed, report.overlaps[0].stopped) == (True, False)
    assert not report.verdicts[0].passed


def test_what_is_said_of_an_agent_that_had_just_finished():
    steps = [{"interrupt": {"after_s": 1.25, "say": "stop"}}, {"expect": {"stop_within": 1}}, {"wait": 1}]
    (verdict,) = play(Parrot(greeting=tone(1.0)), steps).failures
    assert "to stop within 1 s, but it had just finished" in verdict.message


def test_an_interruption_is_expected_of_as_a_turn_and_as_an_overlap():
    steps = [
        {"interrupt": {"after_s": 1, "say": "stop"}},
        {"expect": {"stop_within": 0.3, "gap": "< 1", "transcript": "saturday"}},
        "listen",
    ]
    assert not play(Parrot(greeting=voice(4.0)), steps).failures


def test_cut_offs_are_expected_against():
    steps = [
        "listen",
        {"say": "one"},
        {"wait": 1.5},
        {"say": "one"},
        {"expect": {"no_cut_off": True}},
        "listen",
    ]
    (verdict,) = play(Parrot(), steps).failures
    assert "to wait for the end of the turn, but it began to speak within it" in verdict.message


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("steps:\n  - listen\n  - expect: {gap: 1}\n", 1, "the caller has said nothing before it"),
        ("steps:\n  - say: x\n  - expect: {no_stop: true}\n", 1, "no interrupt, backchannel or sound"),
        ("steps:\n  - say: x\n  - expect: {}\n", 3, "expect what? (transcript, reply, heard, gap"),
        ("steps:\n  - say: x\n  - expect:\n", 3, 'step "expect" needs a value'),
        ("steps:\n  - say: x\n  - expect: {gap: soon}\n", 3, 'a gap reads 1.5 (at most), "< 1.5"'),
        ("steps:\n  - say: x\n  - expect: {reply: /(/}\n", 3, "is not a regular expression"),
        ("steps:\n  - say: x\n  - expect: {reply: '...'}\n", 3, "holds no word"),
        ("steps:\n  - say: x\n  - expect: {replay: noon}\n", 3, 'did you mean "reply"?'),
        ("steps: [listen]\nexpect: {reply: noon}\n", 2, "reply"),
        ("steps: [listen]\nexpect: {}\n", 2, "expect what? (gap, edge_gap"),
        ("repeat: 0\nsteps: [listen]\n", 1, "greater than or equal to 1"),
        ("steps: [listen]\nnoise: {kind: rain, level_dbfs: -40}\n", 2, "'white'"),
        ("steps: [listen]\necho: {delay_ms: 5}\n", 2, "greater than or equal to 20"),
    ],
)
def test_mistakes_are_named_with_file_and_line(tmp_path, text, line, words):
    path = tmp_path / "call.yaml"
    path.write_text(text)
    with pytest.raises(DocumentError) as caught:
        Scenario.load(path)
    assert (caught.value.line, len(caught.value.problems)) == (line, 1), str(caught.value)
    assert words in str(caught.value)


def test_the_documented_scenario_can_be_read(tmp_path):
    assert module.__doc__ is not None
    example = module.__doc__.split("frozen.\n")[1].split("Steps:")[0]
    path = tmp_path / "hours.yaml"
    path.write_text(textwrap.dedent(example))
    scenario = Scenario.load(path)
    assert (scenario.repeat, len(scenario.steps)) == (3, 9)
    wanted = {name for step in scenario.steps if isinstance(step, Expect) for name in step.wanted()}
    assert wanted == {"transcript", "reply", "gap", "no_stop", "stop_within"}


def throughout(agent: Any, steps: list[Any], **expect: Any) -> Report:
    network = {"delay_ms": 60, "jitter_ms": 0}
    document = {"name": "whole", "network": network, "steps": steps, "expect": expect}
    scenario = Scenario.model_validate(document)
    return simulate_virtual(scenario, parrots(agent), speeches=spoken(scenario))


TWO = ["listen", {"say": "one"}, "listen", {"say": "one"}]


@pytest.mark.parametrize(
    ("expect", "holds"),
    [
        ({"gap": 1.0}, True),
        ({"gap": 0.5}, False),
        ({"edge_gap": "< 0.7"}, False),
        ({"no_cut_off": True}, True),
        ({"no_violations": True}, True),
        ({"ending": "caller hung up"}, True),
        ({"ending": "agent hung up"}, False),
    ],
)
def test_expectations_of_the_whole_call(expect, holds):
    """The last turn is not waited for, and not held against the agent."""
    assert [verdict.passed for verdict in throughout(Parrot(), TWO, **expect).verdicts] == [holds]


def test_the_first_failure_of_the_whole_call_is_told_and_the_others_are_counted():
    (verdict,) = throughout(Parrot(), [*TWO, "listen"], gap="< 0.5").failures
    assert verdict.where == '"whole"'
    assert 'a gap below 0.5 s, but it was 0.92 s\n    the caller said "one" from 2.' in verdict.message
    assert verdict.message.endswith("and in 1 more")


def test_a_turn_that_was_waited_for_in_vain_fails_the_whole_call():
    mute = Parrot(answer=lambda heard: silence(0.1))
    (verdict,) = throughout(mute, [*TWO, {"wait": 3}], gap=1).failures
    assert "but the turn was not answered" in verdict.message


def test_overlaps_of_the_whole_call():
    steps = [
        *({"backchannel": {"after_s": 2, "say": "mm-hmm"}}, {"wait": 2}),
        *({"interrupt": {"after_s": 1, "say": "stop"}}, {"wait": 2}),
    ]
    report = throughout(Talker("duck and restore"), steps, no_stop=True, stop_within=0.5)
    assert [(verdict.expectation, verdict.passed) for verdict in report.verdicts] == [
        ("no_stop: true", True),
        ("stop_within: 0.5", False),
    ]


def test_a_violation_of_the_protocol_is_told():
    class Dying(Parrot):
        async def __call__(self, line: Any) -> Any:
            raise RuntimeError("dies")

    (verdict,) = throughout(Dying(), [{"wait": 2}], no_violations=True).failures
    assert "expected no violation of the protocol, but at 0." in verdict.message


def test_the_line_of_the_whole_calls_expectations(tmp_path):
    path = tmp_path / "hours.yaml"
    path.write_text("name: hours\nexpect:\n  ending: agent hung up\nsteps: [{wait: 1}]\n")
    (verdict,) = simulate_virtual(Scenario.load(path), parrots(Parrot())).failures
    assert verdict.where == f"{path}:2"
