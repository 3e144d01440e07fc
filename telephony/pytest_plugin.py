"""Pytest fixture `maya_caller`: simulated calls in a project's own tests.

Against a server that runs:

    async def test_opening_hours(maya_caller):
        report = await maya_caller.call("hours.yaml", url="ws://127.0.0.1:8080/twilio/media")
        assert report.edge_gap_ms.max < 3000

The test fails with what happened instead when one of the scenario's own expectations does; `check=False`
leaves that to `report.check()`. A scenario with `repeat: 5` is played five times; the last report is
returned, and `maya_caller.reports` holds those of all calls. What the agent understood and said is read from
the server's calls folder (`calls_dir=`), or told by `transcripts=`.

Against an agent in this process, in virtual time (a plain test, not a coroutine):

    def test_opening_hours(maya_caller):
        witness = maya.Witness()                  # for CallService(..., observe=witness.observe)
        report = maya_caller.call_virtual("hours.yaml", clinic, transcripts=witness)
        assert not report.violations              # `clinic`: see telephony.simulator.virtual

Scenarios are paths (relative to the test's own folder), dicts or `Scenario`s. Each call's recording lies in
the test's `tmp_path`. Pytest imports this module in every run, so it imports nothing heavy itself.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from telephony.simulator.report import Report
    from telephony.simulator.scenario import Scenario
    from telephony.simulator.virtual import AnswerFactory


class MayaCaller:
    """Plays scenarios. `scenario_dir` is where relative paths start, `recording_dir` where recordings go."""

    def __init__(self, scenario_dir: Path, recording_dir: Path) -> None:
        self.scenario_dir = scenario_dir
        self.recording_dir = recording_dir
        self.reports: list[Report] = []

    def scenario(self, source: "Path | str | Mapping[str, Any] | Scenario") -> "Scenario":
        """Raises `pipeline.documents.DocumentError` with file and line, or pydantic's error for a dict."""
        from telephony.simulator.scenario import Scenario

        if isinstance(source, Scenario):
            return source
        if isinstance(source, Mapping):
            return Scenario.model_validate({"folder": self.scenario_dir, **source})
        return Scenario.load(self.scenario_dir / source)

    async def call(
        self,
        scenario: "Path | str | Mapping[str, Any] | Scenario",
        *,
        url: str,
        auth_token: str | None = None,
        check: bool = True,
        **options: Any,
    ) -> "Report":
        """In real time over a WebSocket; `options` are those of `maya.simulate`. Raises `AssertionError`
        when an expectation failed."""
        from telephony.simulator.realtime import simulate

        options = {"recording_dir": self.recording_dir, **options}
        script = self.scenario(scenario)
        reports = [await simulate(run, url=url, auth_token=auth_token, **options) for run in script.runs()]
        return self._kept(script, reports, check)

    def call_virtual(
        self,
        scenario: "Path | str | Mapping[str, Any] | Scenario",
        answer_factory: "AnswerFactory",
        *,
        check: bool = True,
        **options: Any,
    ) -> "Report":
        """In virtual time; `options` are those of `maya.simulate_virtual`. Raises `AssertionError` when an
        expectation failed."""
        from telephony.simulator.virtual import simulate_virtual

        options = {"recording_dir": self.recording_dir, **options}
        script = self.scenario(scenario)
        reports = [simulate_virtual(run, answer_factory, **options) for run in script.runs()]
        return self._kept(script, reports, check)

    def _kept(self, scenario: "Scenario", reports: "list[Report]", check: bool) -> "Report":
        __tracebackhide__ = True  # pytest shows the caller's line, and the message
        from telephony.simulator.runs import Runs

        self.reports += reports
        if check:
            Runs(scenario, tuple(reports)).check()
        return reports[-1]


@pytest.fixture
def maya_caller(request: pytest.FixtureRequest, tmp_path: Path) -> MayaCaller:
    """A simulated caller whose scenarios lie beside the test and whose recordings go to `tmp_path`."""
    return MayaCaller(request.path.parent, tmp_path)
