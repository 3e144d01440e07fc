from pathlib import Path

import pytest

from pipeline.documents import DocumentError
from telephony.simulator.scenario import Drop, HangUp, Interrupt, Keys, Listen, Play, Say, Scenario, Wait

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
