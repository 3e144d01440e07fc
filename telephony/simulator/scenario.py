"""What a simulated caller does: one YAML file, read once, frozen.

    name: opening hours
    voice: ruth
    network: {delay_ms: 60, jitter_ms: 15, loss: 0.01, seed: 7}
    steps:
      - listen
      - say: When are you open on Saturday?
      - interrupt: {after_s: 1.2, say: "Sorry, I meant Sunday."}
      - listen
      - hang_up

Steps: `listen` (until the agent has spoken and finished), `say` (text, or `{text, voice}`), `play` (a WAV
or FLAC file beside the scenario), `wait` (seconds), `interrupt` (speak `after_s` after the agent became
audible), `keys` ("12#"), `hang_up`, `drop` (the connection is lost, without a goodbye).
"""

import difflib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from pipeline.documents import read_yaml
from telephony.simulator.network import NetworkModel

_FROZEN = ConfigDict(frozen=True, extra="forbid")
_Text = Annotated[str, Field(min_length=1)]
_Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]
_Millis = Annotated[float, Field(ge=0, le=10_000, allow_inf_nan=False)]


class Network(BaseModel):
    """Each way between the caller and Twilio; see `telephony.simulator.network`."""

    model_config = _FROZEN
    delay_ms: _Millis = 60.0
    jitter_ms: _Millis = 15.0
    loss: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Probability that an AudioFrame (20 ms) is lost."""
    seed: int = 0

    def model(self) -> NetworkModel:
        return NetworkModel(self.delay_ms / 1000, self.jitter_ms / 1000, self.loss, self.seed)


class Noise(BaseModel):
    """Room noise under everything the caller sends. Times are measured in the speech without it."""

    model_config = _FROZEN
    level_dbfs: Annotated[float, Field(ge=-90, le=0)]
    """RMS; 0 dBFS is 32,768."""
    seed: int = 0


class Listen(BaseModel):
    """Wait until the agent, heard since the caller's last word, has been silent for `pause_s`."""

    model_config = _FROZEN
    kind: Literal["listen"] = "listen"
    pause_s: Annotated[float, Field(ge=0.1, le=60)] = 1.0
    timeout_s: _Seconds = 20.0
    """Go on after so long without a word from the agent."""


class Say(BaseModel):
    model_config = _FROZEN
    kind: Literal["say"] = "say"
    text: _Text
    voice: str = ""
    """"" is the scenario's voice."""


class Play(BaseModel):
    model_config = _FROZEN
    kind: Literal["play"] = "play"
    file: _Text
    """Relative to the scenario's folder."""
    text: str = ""
    """What is said in the file, for the report."""


class Wait(BaseModel):
    model_config = _FROZEN
    kind: Literal["wait"] = "wait"
    seconds: _Seconds


class Interrupt(BaseModel):
    """Speak while the agent is audible: `after_s` after it became so since the caller's last word. If it has
    finished by then, this is an ordinary turn, and the report says that nothing was interrupted."""

    model_config = _FROZEN
    kind: Literal["interrupt"] = "interrupt"
    after_s: _Seconds
    say: _Text
    voice: str = ""
    timeout_s: _Seconds = 20.0
    """Speak after so long without a word from the agent."""


class Keys(BaseModel):
    model_config = _FROZEN
    kind: Literal["keys"] = "keys"
    digits: Annotated[str, Field(pattern=r"^[0-9*#A-D]+$")]


class HangUp(BaseModel):
    model_config = _FROZEN
    kind: Literal["hang_up"] = "hang_up"


class Drop(BaseModel):
    model_config = _FROZEN
    kind: Literal["drop"] = "drop"


_BARE = {"say": "text", "play": "file", "wait": "seconds", "keys": "digits"}
"""Where the value of `say: text` and its like goes."""
_ALONE = ("listen", "hang_up", "drop")
_KINDS = ("listen", "say", "play", "wait", "interrupt", "keys", "hang_up", "drop")


def _unfolded(step: object) -> object:
    """`{"say": "text"}` and `"listen"`, as people write them, to `{"kind": ..., fields}`."""
    if isinstance(step, str):
        step = {step: None}
    if not isinstance(step, dict) or "kind" in step:
        return step
    if len(step) != 1:
        raise ValueError(f"one step has one action, not {len(step)} ({', '.join(map(str, step))})")
    ((kind, value),) = step.items()
    if kind not in _KINDS:
        close = difflib.get_close_matches(str(kind), _KINDS, n=1)
        hint = f'did you mean "{close[0]}"?' if close else f"the steps are {', '.join(_KINDS)}"
        raise ValueError(f'unknown step "{kind}" ({hint})')
    if value is None:
        if kind not in _ALONE:
            raise ValueError(f'step "{kind}" needs a value')
        return {"kind": kind}
    if isinstance(value, dict):
        return {"kind": kind, **value}
    if kind not in _BARE:
        raise ValueError(f'step "{kind}" takes no plain value ({value!r})')
    if kind == "keys" and not isinstance(value, str):
        raise ValueError(f'keys must be quoted: keys: "{value}"')
    return {"kind": kind, _BARE[kind]: value}


def _not_empty(steps: tuple["Step", ...]) -> tuple["Step", ...]:
    if not steps:
        raise ValueError("a scenario needs at least one step")
    return steps


Step = Annotated[
    Annotated[Listen | Say | Play | Wait | Interrupt | Keys | HangUp | Drop, Field(discriminator="kind")],
    BeforeValidator(_unfolded),
]


class Scenario(BaseModel):
    """A scripted call. Without a last `hang_up` or `drop` the caller hangs up after the last step."""

    model_config = _FROZEN
    name: _Text = "call"
    caller: str = "+15005550006"
    called: str = "+15005550001"
    voice: str = "ruth"
    """One of `telephony.simulator.voices`; must differ from the agent's."""
    network: Network = Network()
    noise: Noise | None = None
    steps: Annotated[tuple[Step, ...], AfterValidator(_not_empty)]
    folder: Path = Path()
    """Where `play` files lie; `load` sets it to the scenario's own folder."""

    @classmethod
    def load(cls, path: Path | str) -> "Scenario":
        """Read a YAML scenario. Raises `pipeline.documents.DocumentError` with file and line."""
        path = Path(path)
        scenario = read_yaml(path, cls)
        return scenario.model_copy(update={"folder": path.parent / scenario.folder})
