"""Whole calls of an agent with tools, in virtual time: what the model writes is scripted."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from models.base import Message
from models.scripted import ScriptedChat
from pipeline.events import CallEvent
from pipeline.line import KeyPressed, TransferFailed
from pipeline.persona import Persona
from pipeline.service import CallService
from pipeline.tools.python import python_tool
from pipeline.tools.toolbox import Toolbox
from tests.pipeline.hand_line import HandLine
from tests.pipeline.virtual_calls import PERSONA, House, hears, tone

E = TypeVar("E", bound=CallEvent)

NOTED = "The message was noted."
ORDER = '{"tool": "order_status", "arguments": {"number": "4711"}}'
MESSAGE = '{"tool": "take_message", "arguments": {"name": "Tom", "text": "Late."}}'


def transfer_to(target: str) -> str:
    return f'{{"tool": "transfer", "arguments": {{"target": "{target}"}}}}'


def persona(*functions: Callable[..., Any], **fields: object) -> Persona:
    """The test desk with every built-in tool, and with `functions`."""
    built_in = ("hang_up", "transfer", "press_keys", "take_message", "say_time")
    recording = ("pause_recording", "resume_recording")
    settings: dict[str, object] = {
        "tools": {"built_in": (*built_in, *recording)},
        "transfer": {"targets": {"reception": "+15550100100", "billing": "sip:billing@example.com"}},
        "keys": {"allowed": {"sales": "1", "extension": "4711#"}, "menu": {"0": "transfer:reception"}},
        **fields,
    }
    desk = Persona.model_validate(PERSONA.model_dump() | settings)
    if not functions:
        return desk
    tools = (*desk.toolbox.tools, *(python_tool(function) for function in functions))
    return desk.with_tools(Toolbox(tools))


def house_of(desk: Persona, script: Sequence[str] | Callable[[Sequence[Message]], str], *hear: str) -> House:
    return House(
        transcriber=hears(*(hear or ("please",))),
        chat=ScriptedChat(list(script) if not callable(script) else script, first_token_s=0.1),
        persona=desk,
    )


def events(house: House, kind: type[E]) -> list[E]:
    return [event for event in house.observed.events if isinstance(event, kind)]


class ToolLine(HandLine):
    """A line with keys, which passes callers on as `transfers` say: a reason to fail, or "" for success,
    each after `ringing_s`. `dialled` keeps the targets."""

    def __init__(self, *transfers: str, ringing_s: float = 5.0, marks: bool = True) -> None:
        super().__init__(marks=marks)
        self._transfers = list(transfers)
        self._ringing_s = ringing_s
        self.dialled: list[str] = []
        self.dialled_at: list[float] = []
        self.silent_when_dialled: list[bool] = []

    def press(self, digits: str) -> None:
        for digit in digits:
            self._arrived.put_nowait(KeyPressed(digit))

    async def transfer(self, target: str) -> None:
        self.dialled.append(target)
        self.dialled_at.append(self.now())
        self.silent_when_dialled.append(self.play_end_s <= self.now())
        await asyncio.sleep(self._ringing_s)
        self._check_open()
        reason = self._transfers.pop(0)
        if reason:
            raise TransferFailed(reason)
        self.close("transferred")


async def asks(line: HandLine, seconds: float = 1.0, *, then_silent_s: float = 8.0) -> None:
    """The caller waits for the greeting, asks, and listens."""
    await line.silent(4)
    await line.say(tone("please", seconds))
    await line.silent(then_silent_s)


def call(
    house: House,
    caller: Callable[[ToolLine, CallService], Awaitable[None]] | None = None,
    line: Callable[[], HandLine] = ToolLine,
) -> HandLine:
    async def default(line: HandLine, service: CallService) -> None:
        await asks(line)

    return house.by_hand(caller or default, line)  # type: ignore[arg-type]
