"""What a simulated caller does: one YAML file, read once, frozen.

    name: opening hours
    voice: ruth
    network: {delay_ms: 60, jitter_ms: 15, loss: 0.01, seed: 7}
    noise: {kind: street, level_dbfs: -45}
    echo: {level_db: -30, delay_ms: 250}
    repeat: 3
    expect: {gap: "< 3", no_violations: true}
    steps:
      - listen
      - say: When are you open on Saturday?
      - expect: {transcript: saturday, reply: noon, gap: "< 1.5"}
      - backchannel: {after_s: 1.0, say: mm-hmm}
      - expect: {no_stop: true}
      - interrupt: {after_s: 1.2, say: "Sorry, I meant Sunday."}
      - expect: {stop_within: 0.45, reply: /closed|not open/}
      - listen
      - hang_up

Steps: `listen` (until the agent has spoken and finished), `say` (text, or `{text, voice}`), `play` (a WAV
or FLAC file beside the scenario), `wait` (seconds), `interrupt` (speak `after_s` after the agent became
audible), `backchannel` ("mm-hmm", which takes no turn), `sound` (a cough, a door: not speech), `keys` or
`dtmf` ("12#"), `expect` (about the turn or the overlap before it; judged when the call is over), `hang_up`,
`drop` (the connection is lost, without a goodbye). The `expect` of the whole scenario is about every turn and
overlap in it.
"""

import difflib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from pipeline.documents import read_yaml
from pipeline.documents.yaml_nodes import read_yaml_nodes
from telephony.simulator.expect import Expect, Throughout
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
    """Noise under everything the caller sends. Times are measured in the speech without it."""

    model_config = _FROZEN
    kind: Literal["white", "room", "street", "babble", "hum", "crackle", "music"] = "white"
    """See `telephony.simulator.noise`."""
    level_dbfs: Annotated[float, Field(ge=-90, le=0)]
    """RMS; 0 dBFS is 32,768."""
    seed: int = 0


class Echo(BaseModel):
    """The agent's voice comes back out of the caller's ear into the caller's microphone, as on a
    speakerphone. Times are measured in the speech without it."""

    model_config = _FROZEN
    level_db: Annotated[float, Field(ge=-90, le=0)] = -30.0
    """Against what reached the ear."""
    delay_ms: Annotated[float, Field(ge=20, le=2_000)] = 250.0
    """From the ear to the microphone."""


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
    """Speak while the agent is audible: `after_s` after it became so since the caller's last word, or after
    the last overlap. If it has finished by then, this is an ordinary turn, and the report says that nothing
    was interrupted."""

    model_config = _FROZEN
    kind: Literal["interrupt"] = "interrupt"
    after_s: _Seconds
    say: _Text
    voice: str = ""
    timeout_s: _Seconds = 20.0
    """Speak after so long without a word from the agent."""


class Backchannel(BaseModel):
    """Say "mm-hmm" while the agent is audible, `after_s` after it became so since the caller's last word, or
    after the last overlap. It takes no turn: the agent should talk on. Never said into silence: when the
    agent does not speak within `timeout_s`, or has finished, the report says that it was not placed."""

    model_config = _FROZEN
    kind: Literal["backchannel"] = "backchannel"
    after_s: _Seconds
    say: _Text
    voice: str = ""
    timeout_s: _Seconds = 20.0


class Sound(BaseModel):
    """A cough, a door, a dog: as `backchannel`, but not speech."""

    model_config = _FROZEN
    kind: Literal["sound"] = "sound"
    after_s: _Seconds
    like: Literal["cough", "click", "door", "breath"] | None = None
    """See `telephony.simulator.sounds`."""
    file: str = ""
    """In place of `like`: WAV or FLAC, relative to the scenario's folder. Both may be left out where
    `speeches` holds the step."""
    text: str = ""
    """What it is, for the report."""
    timeout_s: _Seconds = 20.0


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
_ALIASES = {"dtmf": "keys"}
_KINDS = (
    *("listen", "say", "play", "wait", "interrupt", "backchannel", "sound", "keys", "dtmf", "expect"),
    *("hang_up", "drop"),
)


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
    written, kind = kind, _ALIASES.get(kind, kind)
    if value is None:
        if kind not in _ALONE:
            raise ValueError(f'step "{written}" needs a value')
        return {"kind": kind}
    if isinstance(value, dict):
        return {"kind": kind, **value}
    if kind not in _BARE:
        raise ValueError(f'step "{written}" takes no plain value ({value!r})')
    if kind == "keys" and not isinstance(value, str):
        raise ValueError(f'keys must be quoted: {written}: "{value}"')
    return {"kind": kind, _BARE[kind]: value}


_SPEAKING = ("say", "play", "interrupt")
_OVERLAPPING = ("interrupt", "backchannel", "sound")


def _sensible(steps: tuple["Step", ...]) -> tuple["Step", ...]:
    if not steps:
        raise ValueError("a scenario needs at least one step")
    before: list[str] = []
    for number, step in enumerate(steps, 1):
        if isinstance(step, Expect):
            _of_what_is_there(step, before, number)
        before.append(step.kind)
    return steps


def _of_what_is_there(step: "Expect", before: list[str], number: int) -> None:
    wanted = step.wanted()
    last = next((kind for kind in reversed(before) if kind in _SPEAKING or kind in _OVERLAPPING), "")
    for name in ("no_stop", "stop_within"):
        if name in wanted and last not in _OVERLAPPING:
            raise ValueError(
                f"step {number} expects {name}, but no interrupt, backchannel or sound stands just before it"
            )
    for name in ("transcript", "gap", "edge_gap", "no_cut_off"):
        if name in wanted and not any(kind in _SPEAKING for kind in before):
            raise ValueError(f"step {number} expects {name}, but the caller has said nothing before it")


Step = Annotated[
    Annotated[
        Listen | Say | Play | Wait | Interrupt | Backchannel | Sound | Keys | Expect | HangUp | Drop,
        Field(discriminator="kind"),
    ],
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
    echo: Echo | None = None
    repeat: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often it is played by what plays whole files (`maya simulate`, `maya_caller`); see `runs`."""
    expect: Throughout | None = None
    """What must hold in every turn and overlap of the call."""
    steps: Annotated[tuple[Step, ...], AfterValidator(_sensible)]
    folder: Path = Path()
    """Where `play` files lie; `load` sets it to the scenario's own folder."""

    _source: Path | None = PrivateAttr(default=None)
    _lines: tuple[int, ...] = PrivateAttr(default=())
    """Of the steps, and last of `expect`."""

    @classmethod
    def load(cls, path: Path | str) -> "Scenario":
        """Read a YAML scenario. Raises `pipeline.documents.DocumentError` with file and line."""
        path = Path(path)
        scenario = read_yaml(path, cls)
        scenario = scenario.model_copy(update={"folder": path.parent / scenario.folder})
        _, lines = read_yaml_nodes(path.read_text(encoding="utf-8-sig"))
        scenario._source = path
        steps = tuple(lines[("steps", number)] for number in range(len(scenario.steps)))
        scenario._lines = (*steps, lines.get(("expect",), 0))
        return scenario

    def where(self, step: int | None) -> str:
        """Where step number `step` (from 0), or the `expect` of the whole, is written: `hours.yaml:9`, or
        `step 4 of "call"`."""
        if self._source is not None:
            return f"{self._source}:{self._lines[-1 if step is None else step]}"
        return f'"{self.name}"' if step is None else f'step {step + 1} of "{self.name}"'

    def runs(self) -> "tuple[Scenario, ...]":
        """The scenario `repeat` times, the network's and the noise's seed one higher each time."""
        return tuple(self._run(number) for number in range(self.repeat))

    def _run(self, number: int) -> "Scenario":
        network = self.network.model_copy(update={"seed": self.network.seed + number})
        noise = self.noise and self.noise.model_copy(update={"seed": self.noise.seed + number})
        return self.model_copy(update={"network": network, "noise": noise})
