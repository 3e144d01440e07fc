"""`[capacity]`: how many calls this server takes at once."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.admission.slots import Capacity

Slots = Annotated[int, Field(ge=1, le=10_000)]


class CapacitySettings(BaseModel):
    """What is left out follows from the profile: the language model's sequences and the voice's slots."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    calls: Slots | None = None
    """Calls at once, whatever each model could serve."""
    stt: Slots | None = None
    """Calls that the transcriber serves at once."""
    llm: Slots | None = None
    """Calls whose conversation the language model keeps at once; it is loaded with so many sequences."""
    tts: Slots | None = None
    """Calls that the voice speaks for at once; for CSM `tts_slots` says the same."""
    lease_s: Annotated[float, Field(ge=5, le=3_600)] = 90.0
    """A call that has shown no life for so long is ended and counted. A transfer may ring
    for 40 s, and an answering machine greet for 60 s."""

    when_full: Literal["busy", "wait"] = "busy"
    """What callers through Twilio hear when there is no place: that all lines are busy, or `wait_words`, and
    then a place as soon as one is free, in the order in which they came. SIP phones get 486 either way."""
    wait_words: Annotated[str, Field(min_length=1, max_length=500)] = (
        "All our lines are busy. Please hold the line, we will be with you shortly."
    )
    wait_limit_s: Annotated[float, Field(ge=5, le=1_800)] = 120.0
    """Who has waited for so long hears that all lines are busy. Twilio bills waiting as any call."""
    wait_ask_s: Annotated[int, Field(ge=1, le=60)] = 5
    """So often it is asked whether a place is free."""

    def capacity(self, *, llm: int, tts: int) -> Capacity:
        """`llm` and `tts` are what the models serve by themselves. A transcriber keeps nothing of a call
        between two requests, so that it serves whatever the others do unless it is told."""
        most_llm = self.llm or self.calls or llm
        most_tts = self.tts or self.calls or tts
        most_stt = self.stt or self.calls or min(most_llm, most_tts)
        most = self.calls or max(most_stt, most_llm, most_tts)
        return Capacity(stt=min(most, most_stt), llm=min(most, most_llm), tts=min(most, most_tts))
