"""The simulated caller: plays a scripted call against a media stream server and measures what was heard.

`simulate` calls over a real WebSocket in real time; `simulate_virtual` runs the server's own stream shell
and the caller in virtual time. Importing this package is cheap: what needs numpy or a network is imported
on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from telephony.simulator.errors import CannotCall, SimulatorError, VoiceUnavailable
    from telephony.simulator.expectations import Verdict
    from telephony.simulator.realtime import simulate
    from telephony.simulator.report import OverlapReport, Report, ServerTurn, TurnReport
    from telephony.simulator.runs import virtual_speedup
    from telephony.simulator.scenario import Scenario
    from telephony.simulator.virtual import simulate_virtual
    from telephony.simulator.witness import Witness

_HOMES = {
    "CannotCall": "errors",
    "OverlapReport": "report",
    "Report": "report",
    "Scenario": "scenario",
    "ServerTurn": "report",
    "SimulatorError": "errors",
    "TurnReport": "report",
    "Verdict": "expectations",
    "VoiceUnavailable": "errors",
    "Witness": "witness",
    "simulate": "realtime",
    "simulate_virtual": "virtual",
    "virtual_speedup": "runs",
}

__all__ = [
    "CannotCall",
    "OverlapReport",
    "Report",
    "Scenario",
    "ServerTurn",
    "SimulatorError",
    "TurnReport",
    "Verdict",
    "VoiceUnavailable",
    "Witness",
    "simulate",
    "simulate_virtual",
    "virtual_speedup",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
