"""Maya's Python API: call a voice agent with a scripted caller, and measure what was heard.

    import asyncio, maya

    scenario = maya.Scenario.load("hours.yaml")
    report = asyncio.run(maya.simulate(scenario, url="ws://127.0.0.1:8080/twilio/media"))
    report.check()                                                  # the scenario's own expectations
    assert report.edge_gap_ms.max < 3000 and not report.violations

- `Scenario`: a scripted call; `Scenario.load(path)` reads YAML, `Scenario.model_validate({...})` a dict.
- `await simulate(scenario, url=..., auth_token=None, recording_dir=None)`: play it over a real WebSocket
  against any server of Twilio Media Streams, or through its voice webhook.
- `simulate_virtual(scenario, answer_factory)`: play it against an agent in this process, in virtual time.
- `Report`, made of `TurnReport`s, `OverlapReport`s and `Verdict`s: gaps and stop times at the caller's ear
  and at the server's edge, what the agent did when it was spoken over, what became of each expectation,
  protocol violations, the two-channel recording; `check()`, `to_json()`.
- `Witness` tells a call in virtual time what the agent understood and said; `virtual_speedup` times one.
- `SimulatorError` and its kinds `CannotCall` and `VoiceUnavailable` say why no call came about.

Everything is imported on first use.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from telephony.simulator import (
        CannotCall,
        OverlapReport,
        Report,
        Scenario,
        ServerTurn,
        SimulatorError,
        TurnReport,
        Verdict,
        VoiceUnavailable,
        Witness,
        simulate,
        simulate_virtual,
        virtual_speedup,
    )

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
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import telephony.simulator

    return getattr(telephony.simulator, name)
