"""The pytest fixture, as a project would use it, and the Python API."""

import subprocess
import sys

import pytest
import soundfile

import maya
from tests.telephony.parrot import Parrot, parrots, tone

pytest_plugins = "pytester"


def test_a_scenario_in_virtual_time(maya_caller, tmp_path):
    soundfile.write(tmp_path / "one.wav", tone(1.0), 8000)
    maya_caller.scenario_dir = tmp_path
    report = maya_caller.call_virtual(
        {"steps": ["listen", {"play": "one.wav"}, "listen"], "network": {"jitter_ms": 0}}, parrots(Parrot())
    )
    assert report.edge_gap_ms.p50 == pytest.approx(800, abs=1)
    assert report.recording.parent == tmp_path


def test_a_scenario_beside_the_test(maya_caller, tmp_path):
    maya_caller.scenario_dir = tmp_path
    (tmp_path / "call.yaml").write_text("name: short\nsteps: [{wait: 1}, drop]\n")
    assert maya_caller.call_virtual("call.yaml", parrots(Parrot())).ending == "connection dropped"


async def test_a_call_that_cannot_be_made(maya_caller):
    with pytest.raises(maya.CannotCall):
        await maya_caller.call({"steps": ["hang_up"]}, url="ws://127.0.0.1:9/twilio/media")


def test_the_fixture_starts_at_the_tests_own_folder(maya_caller, request):
    assert maya_caller.scenario_dir == request.path.parent


def test_the_api_offers_what_it_names():
    for name in maya.__all__:
        assert getattr(maya, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = maya.nonsense


def test_importing_plugin_and_api_is_cheap():
    code = (
        "import sys, maya, telephony.pytest_plugin; "
        "print([name for name in ('numpy', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


EXPECTING = """
name: hours
repeat: 2
network: {jitter_ms: 0}
steps:
  - listen
  - play: {file: one.wav, text: "When are you open?"}
  - listen
  - expect: {reply: noon, gap: 1.5}
"""


def expecting(maya_caller, tmp_path, agent_says, **options):
    soundfile.write(tmp_path / "one.wav", tone(1.0), 8000)
    (tmp_path / "hours.yaml").write_text(EXPECTING)
    maya_caller.scenario_dir = tmp_path
    account = [maya.ServerTurn("", "Hello.", "Hello."), maya.ServerTurn("when", agent_says, agent_says)]
    return maya_caller.call_virtual(
        "hours.yaml", parrots(Parrot()), transcripts=lambda call_id: account, **options
    )


def test_expectations_that_hold_let_the_test_go_on(maya_caller, tmp_path):
    report = expecting(maya_caller, tmp_path, "From nine until noon.")
    assert [verdict.passed for verdict in report.verdicts] == [True, True]
    assert len(maya_caller.reports) == 2
    assert maya_caller.reports[-1] is report


def test_an_expectation_that_fails_fails_the_test(maya_caller, tmp_path):
    with pytest.raises(AssertionError) as caught:
        expecting(maya_caller, tmp_path, "I do not know.")
    text = str(caught.value)
    assert '"hours" passed in 0 of 2 runs' in text
    assert f'{tmp_path}/hours.yaml:9: expected the reply to say "noon", but the agent said "I do not' in text
    assert str(maya_caller.reports[1].recording) in text


def test_the_check_may_be_left_to_the_test(maya_caller, tmp_path):
    report = expecting(maya_caller, tmp_path, "I do not know.", check=False)
    with pytest.raises(AssertionError, match="1 of 2 expectations"):
        report.check()


def test_a_failing_test_shows_the_message_and_its_own_line(pytester):
    """As a user's project would see it."""
    pytester.makepyfile(
        """
        from tests.telephony.parrot import Parrot, parrots

        def test_hours(maya_caller):
            steps = [{"interrupt": {"after_s": 1, "say": "stop"}}, {"expect": {"stop_within": 0.1}}, "listen"]
            from telephony.simulator.caller import Speech
            from tests.telephony.parrot import tone
            speeches = {0: Speech.of("stop", tone(1.0))}
            maya_caller.call_virtual({"name": "hours", "steps": steps}, parrots(Parrot(greeting=tone(4.0))),
                                     speeches=speeches)
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:asyncio")
    result.assert_outcomes(failed=1)
    output = result.stdout.str()
    assert 'step 2 of "hours": expected the agent to stop within 0.1 s, but it was audible for 0.' in output
    assert "maya_caller.call_virtual(" in output
    assert "runs.py" not in output
