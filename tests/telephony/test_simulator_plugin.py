"""The pytest fixture, as a project would use it, and the Python API."""

import subprocess
import sys

import pytest
import soundfile

import maya
from tests.telephony.parrot import Parrot, parrots, tone


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
