"""`maya simulate`: what it prints, writes and exits with. The calls are played in virtual time."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from infra import cli
from infra.errors import EXIT_USER
from telephony.simulator import CannotCall, Report, Scenario, ServerTurn, simulate_virtual
from telephony.simulator.caller import Speech
from tests.telephony.parrot import Parrot, parrots, tone
from tests.telephony.talker import Talker

ACCOUNT = [ServerTurn("", "Hello.", "Hello."), ServerTurn("when", "From [nine] until noon.", "From")]
HOURS = """
name: hours
steps:
  - listen
  - say: When are you open?
  - listen
  - expect: {reply: %s, gap: 2}
"""
OVER = """
name: over
steps:
  - backchannel: {after_s: 2, say: mm-hmm}
  - expect: {no_stop: true}
  - sound: {after_s: 2, file: cough.wav}
  - wait: 2
  - backchannel: {after_s: 20, say: yeah, timeout_s: 1}
"""


class Played:
    """Stands where the real call would be made; keeps what was asked of it."""

    def __init__(self) -> None:
        self.scenarios: list[Scenario] = []
        self.agent: Any = Parrot
        self.down = False

    async def __call__(self, scenario: Scenario, *, recording_dir: Path | None, **options: Any) -> Report:
        self.scenarios.append(scenario)
        if self.down:
            raise CannotCall("ws://127.0.0.1:8080 cannot be reached")
        speaking = [n for n, s in enumerate(scenario.steps) if s.kind in ("say", "backchannel", "sound")]
        speeches = {n: Speech.of(getattr(scenario.steps[n], "say", "cough"), tone(0.5)) for n in speaking}
        return await asyncio.to_thread(
            simulate_virtual,
            scenario,
            parrots(self.agent()),
            speeches=speeches,
            transcripts=lambda call_id: ACCOUNT,
            recording_dir=recording_dir,
        )


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Played:
    played = Played()
    monkeypatch.setattr("telephony.simulator.simulate", played)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)
    Path("good.yaml").write_text(HOURS % "noon")
    Path("bad.yaml").write_text(HOURS % "midnight")
    Path("over.yaml").write_text(OVER)
    return played


def maya(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["maya", "simulate", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


def test_expectations_that_hold(played, monkeypatch, capsys):
    assert maya(monkeypatch, "good.yaml") == 0
    said = capsys.readouterr().out
    assert "expectations: 2 of 2 held" in said
    assert "│ From [nine] until noon. │" in said


def test_an_expectation_that_fails_is_told_and_exits_with_1(played, monkeypatch, capsys, tmp_path):
    assert maya(monkeypatch, "bad.yaml", "--recording-dir", "ear", "--junit", "out.xml") == 1
    said = capsys.readouterr().out
    assert "expectations: 1 of 2 held" in said
    assert (
        'FAILED bad.yaml:7: expected the reply to say "midnight", but the agent said "From [nine] until'
        in said
    )
    assert "recording: ear/hours-" in said
    (suite,) = ElementTree.parse("out.xml").getroot()  # noqa: S314 - our own
    assert (suite.get("tests"), suite.get("failures")) == ("3", "1")
    assert next(suite.iter("failure")).get("message").startswith("bad.yaml:7: expected the reply")


def test_runs_are_repeated_and_counted(played, monkeypatch, capsys):
    assert maya(monkeypatch, "bad.yaml", "--repeat", "3") == 1
    said = capsys.readouterr().out
    assert "hours: run 3 of 3" in said
    assert "hours: 0 of 3 runs passed" in said
    assert [scenario.network.seed for scenario in played.scenarios] == [0, 1, 2]


def test_json_is_one_document(played, monkeypatch, capsys):
    assert maya(monkeypatch, "good.yaml", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [verdict["passed"] for verdict in report["expectations"]] == [True, True]
    assert report["turns"][0]["agent"] == "From [nine] until noon."
    assert maya(monkeypatch, "bad.yaml", "--json", "--repeat", "2") == 1
    runs = json.loads(capsys.readouterr().out)
    assert (runs["passed"], len(runs["runs"])) == (0, 2)


def test_several_scenarios_make_several_suites(played, monkeypatch, capsys):
    assert maya(monkeypatch, "good.yaml", "bad.yaml", "--json", "--junit", "out.xml") == 1
    assert len(json.loads(capsys.readouterr().out)) == 2
    assert len(ElementTree.parse("out.xml").getroot()) == 2  # noqa: S314 - our own


def test_a_call_that_cannot_be_made_is_an_error_in_the_file_too(played, monkeypatch, capsys):
    played.down = True
    assert maya(monkeypatch, "good.yaml", "--junit", "out.xml") == EXIT_USER
    assert "cannot be reached" in capsys.readouterr().err
    assert ElementTree.parse("out.xml").getroot().get("errors") == "1"  # noqa: S314 - our own


def test_overlaps_are_told_in_words(played, monkeypatch, capsys):
    played.agent = lambda: Talker("duck and restore")
    assert maya(monkeypatch, "over.yaml") == 0
    said = capsys.readouterr().out
    assert 'backchannel "mm-hmm" at 2.1 s: the agent turned its voice down after 6' in said
    assert "and came back" in said
    assert 'sound "cough" at 4.' in said
    played.agent = lambda: Talker("stop")
    assert maya(monkeypatch, "over.yaml") == 1
    said = capsys.readouterr().out
    assert 'backchannel "mm-hmm" at 2.1 s: the agent stopped after ' in said
    assert 'backchannel "yeah" at ' in said
    assert "the agent was not audible" in said
    assert "FAILED over.yaml:5: expected the agent to talk on over the backchannel, but it stopped" in said
