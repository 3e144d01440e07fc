"""How much faster than real time a call plays in virtual time, and whether it comes out the same each time.

One conversation call of the corpus against the server's own shell and core; hearing, thinking and voice are
stand-ins with declared latencies, for virtual time does not wait for threads.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.turns_calls import PlannedCall
from models.base import Models
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedSynthesizer, ScriptedTranscriber
from pipeline.events import Unobserved
from pipeline.persona import Persona
from pipeline.service import CallService
from telephony.answer import Answer
from telephony.simulator.report import Report
from telephony.simulator.runs import virtual_speedup
from telephony.simulator.virtual import simulate_virtual

RUNS = 3
_PERSONA = Persona(name="Desk", greeting="Hello, how can I help?", system="You help.")


def virtual_figures(call: PlannedCall) -> dict[str, object]:
    """`virtual_speedup` over the clock on the wall, `virtual_identical` bit for bit. Blocks for seconds."""
    # The stand-in detector goes by level alone: a line's noise would be speech to it.
    scenario = call.scenario.model_copy(update={"noise": None, "echo": None})

    def play() -> Report:
        return simulate_virtual(scenario, _house, speeches=call.speeches)

    speedup = virtual_speedup(play, RUNS)
    return {
        "virtual_speedup": round(speedup.times, 1),
        "virtual_call_s": round(speedup.call_s, 1),
        "virtual_cpu_s": round(speedup.cpu_s, 2),
        "virtual_identical": speedup.identical,
    }


@asynccontextmanager
async def _house() -> AsyncIterator[Answer]:
    models = Models(
        ScriptedTranscriber(lambda audio: "A line of the caller's.", latency_s=0.2, glimpse_s=0.05),
        ScriptedChat(first_token_s=0.2, tokens_per_s=15, turn_end=lambda messages: 0.5),
        ScriptedSynthesizer(latency_s=0.05),
        EnergyVoiceActivity(),
    )
    service = CallService(models, _PERSONA, observe=lambda info: Unobserved(), inline=True)
    await service.start()
    try:
        yield service.answer
    finally:
        await service.aclose()
