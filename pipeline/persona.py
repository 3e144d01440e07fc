"""Who answers the phone: one small TOML file, read once, frozen."""

import re
import zlib
from pathlib import Path
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator

from models.base import Message, Sampling
from pipeline.keys import KeySettings
from pipeline.tools.settings import ToolSettings, TransferSettings
from pipeline.tools.toolbox import Toolbox

_FROZEN = ConfigDict(frozen=True, extra="forbid")
_Text = Annotated[str, Field(min_length=1)]


class Example(BaseModel):
    """One example turn shown to the language model before the call's own turns."""

    model_config = _FROZEN
    caller: _Text
    agent: _Text


class VoiceChoice(BaseModel):
    model_config = _FROZEN
    name: str = ""
    """A voice of the synthesizer; "" is its default."""
    speed: Annotated[float, Field(gt=0.4, lt=2.5)] = 1.0


class Limits(BaseModel):
    model_config = _FROZEN
    reply_tokens: Annotated[int, Field(ge=8, le=1024)] = 120
    call_s: Annotated[float, Field(gt=0)] = 1800.0
    """Longest call; the agent says goodbye when it is reached."""
    warning_s: Annotated[float, Field(ge=0)] = 60.0
    """So long before that it says that the time is nearly up; 0: never. Calls shorter than three times as
    long get no warning."""


class WordChoice(BaseModel):
    """How the language model chooses its words. As it stands, always the likeliest: what is asked twice is
    answered alike, which is best for facts."""

    model_config = _FROZEN
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] = 0.0
    """0: always the likeliest word. 1: as likely as the model finds it."""
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    """Only of the likeliest words that have this much of the probability together. At a temperature of 0 it
    changes nothing."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """Calls of one seed that hear the same say the same; None: each call draws anew."""

    def of(self, call_id: str) -> Sampling:
        """For one call. The same again where the call goes on elsewhere."""
        seed = zlib.crc32(call_id.encode()) if self.seed is None else self.seed
        return Sampling(self.temperature, self.top_p, seed)


class TurnTaking(BaseModel):
    """When the caller's turn is over, and when the caller takes the floor. Seconds."""

    model_config = _FROZEN
    pause_s: Annotated[float, Field(ge=0.06, le=0.5)] = 0.128
    """Silence after which the words so far are transcribed and a reply is begun behind the gate."""
    end_of_turn: Literal["words", "silence"] = "words"
    """What ends the caller's turn. "words": a silence that is the shorter the likelier the language model
    finds it that the words end there. "silence": the same silence always."""
    endpoint_silence_s: Annotated[float, Field(ge=0.2, le=5.0)] = 1.6
    """Silence after which the turn is over; with "words" the one for even odds: most turns end after a third
    of it."""
    barge_in: Literal["polite", "eager", "never"] = "polite"
    """Who may interrupt. "polite": the agent turns its voice down at once, then stops for somebody who wants
    to speak and goes on through "mm-hmm", coughs and talk to others. "eager": any voice of `barge_in_s`
    stops it. "never": the agent finishes what it says."""
    barge_in_s: Annotated[float, Field(ge=0.05, le=2.0)] = 0.16
    """Speech over the agent that takes the floor when "eager"; and always before it is audible."""
    protect_greeting: bool = False
    """The greeting is never interrupted: for announcements that the law wants heard."""
    still_there_s: Annotated[float, Field(ge=2.0, le=120.0)] = 8.0
    """Silence after the agent has finished, after which it asks whether anybody is there."""
    still_there_times: Annotated[int, Field(ge=0, le=10)] = 2
    """How often it asks in a row before it says goodbye and hangs up."""


class Outbound(BaseModel):
    """What the agent says on calls that it makes."""

    model_config = _FROZEN
    opening: str = ""
    """Its first words. They must say that a machine is calling; where they do not, "" included, a sentence
    that does goes first."""
    task: str = ""
    """Why it calls, for the language model: "You call to confirm the appointment on Thursday at ten." """
    message: Annotated[str, Field(max_length=240)] = ""
    """What it leaves on an answering machine; "" leaves nothing."""


_DISCLOSES = re.compile(
    r"\b(?:an AI|an A\.I|artificial intelligence"
    r"|(?:AI|A\.I\.|artificial|automated|automatic|virtual|digital|computer|robot) (?:\w+ )?"
    r"(?:assistant|agent|receptionist|secretary|operator|caller|voice|call|message)"
    r"|(?:I am|I'm|this is)(?: only| just)? a (?:robot|machine|computer))\b",
    re.IGNORECASE,
)
"""Narrow: who repairs washing machines has not said that one calls. Said twice, it does no harm."""
_WANTS_NO_CALLS = "If they want no calls, say that they will not be called again, and say goodbye."


class Persona(BaseModel):
    """`prefix()` is what the language model sees before the first turn of every call."""

    model_config = _FROZEN
    name: _Text
    language: Literal["en"] = "en"
    greeting: _Text
    system: _Text
    """The role, in one or two sentences."""
    facts: tuple[_Text, ...] = ()
    """What the agent knows, one short line each."""
    fallback: str = ""
    """What to say when the facts hold no answer."""
    recording_notice: str = ""
    """Said behind the greeting where calls are recorded: "This call is recorded." """
    pardon: _Text = "Sorry, I did not catch that."
    """Said when a noise has cut the agent off, and when the language model has nothing to say."""
    apology: _Text = "Sorry, something went wrong on our side. Please call again."
    still_there: _Text = "Are you still there?"
    """Said after a long silence, see `TurnTaking.still_there_s`."""
    resumed: str = "Sorry, the line dropped for a moment."
    """Said when the call goes on after its process or its line was lost; "" goes on without a word of it."""
    go_on: str = "Where were we? Please go on."
    """Said behind it where the agent had nothing left to say, or cannot tell what."""
    last_minute: _Text = "We have to finish soon, our time is nearly up."
    """Said `Limits.warning_s` before the longest call ends."""
    goodbye: _Text = "Thank you for calling. Goodbye."
    vocabulary: tuple[_Text, ...] = ()
    """Names and terms that the transcriber should expect."""
    examples: tuple[Example, ...] = ()
    voice: VoiceChoice = VoiceChoice()
    limits: Limits = Limits()
    words: WordChoice = WordChoice()
    turns: TurnTaking = TurnTaking()
    outbound: Outbound = Outbound()
    timezone: str = "UTC"
    """Where the agent is, for the time that it says: a name of the IANA database, such as Europe/Berlin."""
    tools: ToolSettings = ToolSettings()
    transfer: TransferSettings = TransferSettings()
    keys: KeySettings = KeySettings()
    _toolbox: Toolbox | None = PrivateAttr(default=None)

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"no such time zone: {name!r}; write one such as America/New_York") from None
        return name

    @model_validator(mode="after")
    def _reaches_only_what_it_lists(self) -> Self:
        if "transfer" in self.tools.built_in and not self.transfer.targets:
            raise ValueError('the tool "transfer" needs [transfer.targets]')
        if "press_keys" in self.tools.built_in and not self.keys.allowed:
            raise ValueError('the tool "press_keys" needs [keys.allowed]')
        for digit, action in self.keys.menu.items():
            kind, _, name = action.partition(":")
            known = self.transfer.targets if kind == "transfer" else self.keys.allowed
            if name and name not in known:
                raise ValueError(f"the key {digit} of the menu: there is no {name!r} to {action}")
        return self

    @property
    def toolbox(self) -> Toolbox:
        """The tools, made when they are first asked for. Raises `ToolError`; of a persona that `load_persona`
        has read it does not."""
        if self._toolbox is None:
            self._toolbox = make_toolbox(self, None)
        return self._toolbox

    def with_tools(self, toolbox: Toolbox) -> Self:
        """The same persona with these tools instead of those that it names."""
        other = self.model_copy()
        other._toolbox = toolbox
        return other

    def recorded(self) -> "Persona":
        """The same person where calls are recorded."""
        notice = self.recording_notice
        opening = f"{self.outbound.opening} {notice}".strip()
        return self.model_copy(
            update={
                "greeting": f"{self.greeting} {notice}".strip(),
                "outbound": self.outbound.model_copy(update={"opening": opening}),
            }
        )

    def calling(self) -> "Persona":
        """The same person on a call that it makes itself. Nobody interrupts what says who is calling."""
        opening = self.outbound.opening
        if not _DISCLOSES.search(opening):
            disclosure = f"Hello, this is an automated call. I am the AI assistant of {self.name}."
            opening = f"{disclosure} {opening}".strip()
        system = " ".join(part for part in (self.system.strip(), self.outbound.task, _WANTS_NO_CALLS) if part)
        turns = self.turns.model_copy(update={"protect_greeting": True})
        return self.model_copy(update={"greeting": opening, "system": system, "turns": turns})

    def leaving_message(self) -> "Persona":
        """The same person, whose goodbye is the message for a machine. It says who is calling, too."""
        message = self.outbound.message
        if not _DISCLOSES.search(message):
            message = f"This is an automated message from {self.name}. {message}"
        return self.calling().model_copy(update={"goodbye": message})

    def prefix(self) -> tuple[Message, ...]:
        lines = [self.system]
        if self.facts:
            lines += ["Facts:", *(f"- {fact}" for fact in self.facts)]
        if self.toolbox:
            lines.append(self.toolbox.instructions)
        if self.fallback:
            unanswered = "neither the facts nor a tool" if self.toolbox else "the facts do not"
            lines.append(f'If {unanswered} answer, say: "{self.fallback}"')
        # The greeting stands before the example turns: after them, small models begin every answer with it.
        messages = [Message("system", "\n".join(lines)), Message("assistant", self.greeting)]
        messages += self.toolbox.examples
        for example in self.examples:
            messages += [Message("user", example.caller), Message("assistant", example.agent)]
        return tuple(messages)


def load_persona(path: Path) -> Persona:
    """Read a persona's TOML, and its tools. Runs the Python file that it names. Raises `DocumentError` with
    file and line."""
    from pipeline.documents import DocumentError, read_toml
    from pipeline.tools.tool import ToolError

    persona = read_toml(path, Persona)
    try:
        return persona.with_tools(make_toolbox(persona, path.parent))
    except ToolError as error:
        raise DocumentError(path, None, str(error)) from error


def make_toolbox(persona: Persona, folder: Path | None) -> Toolbox:
    """The tools that a persona names; Python ones lie in `folder`. Raises `ToolError`."""
    from pipeline.tools.making import tools_of

    settings = persona.tools
    if not (settings.python or settings.built_in or settings.http or persona.keys.menu):
        return Toolbox()
    return tools_of(
        settings,
        folder,
        transfer=persona.transfer,
        sequences=persona.keys.allowed,
        menu=tuple(persona.keys.menu.values()),
        timezone=persona.timezone,
        goodbye=persona.goodbye,
    )
