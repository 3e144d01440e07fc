from pathlib import Path

import pytest

from pipeline.documents import DocumentError
from telephony.simulator.scenario import (
    Backchannel,
    Drop,
    HangUp,
    Interrupt,
    Keys,
    Listen,
    Play,
    Say,
    Scenario,
    Sound,
    Wait,
)

WHOLE = """
name: opening hours
caller: "+15005550006"
called: "+15005550001"
voice: martin
network: {delay_ms: 80, jitter_ms: 20, loss: 0.01, seed: 7}
noise: {level_dbfs: -55}
steps:
  - listen
  - say: When are you open?
  - say: {text: "And you?", voice: lily}
  - play: line.wav
  - wait: 1.5
  - interrupt: {after_s: 1.2, say: "Sorry, I meant Sunday."}
  - listen: {pause_s: 2, timeout_s: 5}
  - keys: "12#"
  - hang_up
"""


def load(tmp_path: Path, text: str) -> Scenario:
    path = tmp_path / "call.yaml"
    path.write_text(text)
    return Scenario.load(path)


def test_a_whole_scenario(tmp_path):
    scenario = load(tmp_path, WHOLE)
    assert scenario.steps == (
        Listen(),
        Say(text="When are you open?"),
        Say(text="And you?", voice="lily"),
        Play(file="line.wav"),
        Wait(seconds=1.5),
        Interrupt(after_s=1.2, say="Sorry, I meant Sunday."),
        Listen(pause_s=2.0, timeout_s=5.0),
        Keys(digits="12#"),
        HangUp(),
    )
    assert scenario.network.model().delay_s == 0.08
    assert scenario.folder == tmp_path
    assert scenario.noise is not None


def test_defaults_are_a_phone_call(tmp_path):
    scenario = load(tmp_path, "steps: [drop]")
    network = scenario.network
    assert (network.delay_ms, network.jitter_ms, network.loss, network.seed) == (60, 15, 0, 0)
    assert scenario.steps == (Drop(),)
    assert scenario.noise is None


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("nam: x\nsteps: [listen]", 1, 'unknown key "nam" (did you mean "name"?)'),
        ("name: x\nsteps:\n  - listen\n  - lisen\n", 4, 'unknown step "lisen" (did you mean "listen"?)'),
        ("steps:\n  - dance: 3\n", 2, "the steps are listen, say"),
        ("steps:\n  - listen\n  - say:\n", 3, 'step "say" needs a value'),
        ("steps:\n  - interrupt: {after: 1, say: x}\n", 2, 'did you mean "after_s"?'),
        ("steps:\n  - dtmf: 12\n", 2, 'keys must be quoted: dtmf: "12"'),
        ("steps:\n  - dtmf:\n", 2, 'step "dtmf" needs a value'),
        ("steps:\n  - sound: {after_s: 1, like: cow}\n", 2, "cough"),
        ("steps:\n  - keys: 12\n", 2, 'keys must be quoted: keys: "12"'),
        ("steps:\n  - keys: '1x'\n", 2, "pattern"),
        ("steps:\n  - wait: -1\n", 2, "greater than or equal to 0"),
        ("steps:\n  - say: a\n    wait: 1\n", 2, "one step has one action, not 2"),
        ("steps:\n  - hang_up: 3\n", 2, "takes no plain value"),
        ("steps:\n  - 7\n", 2, ""),
        ("steps: []\n", 1, "at least one step"),
        ("steps: [listen]\nnetwork:\n  loss: 2\n", 3, "less than or equal to 1"),
        ("steps: [listen]\nnetwork:\n  delay: 3\n", 3, 'did you mean "delay_ms"?'),
        ("name: x\n", None, "steps"),
    ],
)
def test_mistakes_are_named_with_file_and_line(tmp_path, text, line, words):
    with pytest.raises(DocumentError) as caught:
        load(tmp_path, text)
    assert len(caught.value.problems) == 1, str(caught.value)
    assert caught.value.line == line or line is None
    assert words in str(caught.value)
    assert "call.yaml" in str(caught.value)


def test_what_sounds_over_the_agent(tmp_path):
    scenario = load(
        tmp_path,
        "steps:\n  - backchannel: {after_s: 3, say: mm-hmm}\n  - sound: {after_s: 1, file: cough.wav}\n"
        "  - sound: {after_s: 1, like: door, timeout_s: 5}\n  - dtmf: '1#'\n",
    )
    assert scenario.steps == (
        Backchannel(after_s=3, say="mm-hmm"),
        Sound(after_s=1, file="cough.wav"),
        Sound(after_s=1, like="door", timeout_s=5),
        Keys(digits="1#"),
    )


def test_steps_know_where_they_are_written(tmp_path):
    scenario = load(tmp_path, "name: x\nsteps:\n  - listen\n\n  - say:\n      text: a\n  - hang_up\n")
    assert [scenario.where(number) for number in range(3)] == [f"{tmp_path}/call.yaml:{n}" for n in (3, 5, 7)]
    assert Scenario.model_validate({"steps": ["listen"]}).where(0) == 'step 1 of "call"'
    assert scenario.runs()[0].where(1) == scenario.where(1)


SHIPPED = sorted((Path(__file__).parents[2] / "infra" / "scenarios").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_scenarios_that_come_along_can_be_read(path):
    assert Scenario.load(path).steps
