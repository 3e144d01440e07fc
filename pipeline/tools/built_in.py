"""Tools that every persona may have by name. What they reach, the persona lists; the model picks a name."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, create_model

from pipeline.tools.desk import Desk
from pipeline.tools.settings import BuiltIn
from pipeline.tools.tool import Ends, Example, Tool, ToolFailed

RINGING_PATIENCE_S = 120.0
"""Longest that a line may take to pass a caller on."""
PRESSING_PATIENCE_S = 60.0
_FORBID = ConfigDict(extra="forbid")


class _Nothing(BaseModel):
    model_config = _FORBID


class _Message(BaseModel):
    model_config = _FORBID
    name: str
    text: str
    number: str = ""


def built_in_tool(
    name: BuiltIn,
    *,
    targets: Mapping[str, str],
    announce: str,
    sequences: Mapping[str, str],
    timezone: str,
    goodbye: str,
) -> Tool:
    """`targets` and `sequences` are the only numbers and keys that there are, by name."""
    match name:
        case "hang_up":
            return _hang_up(goodbye)
        case "transfer":
            return _transfer(targets, announce)
        case "press_keys":
            return _press_keys(sequences)
        case "take_message":
            return _take_message()
        case "say_time":
            return _say_time(timezone)
        case "pause_recording":
            return _recording(
                name, "stop recording, before the caller says a secret such as a card number", paused=True
            )
        case "resume_recording":
            return _recording(name, "record again, after the secret", paused=False)


def _hang_up(goodbye: str) -> Tool:
    async def use(arguments: Any, desk: Desk) -> object:
        desk.leave()
        return Ends()

    return Tool(
        "hang_up",
        "end the call, when the caller says goodbye",
        _Nothing,
        use,
        trusted=True,
        announce=goodbye,
        filler=False,
        example=Example("That is all, thank you. Goodbye."),
    )


def _transfer(targets: Mapping[str, str], announce: str) -> Tool:
    async def use(arguments: Any, desk: Desk) -> object:
        target = targets.get(arguments.target)
        if target is None:
            raise ToolFailed("There is nobody of that name to transfer to.")
        await desk.transfer(arguments.target, target)
        return Ends()

    first = next(iter(targets))
    return Tool(
        "transfer",
        "put the caller through to a person or a department",
        _one_of("transfer", "target", tuple(targets)),
        use,
        cancellable=False,
        timeout_s=RINGING_PATIENCE_S,
        trusted=True,
        announce=announce,
        after_speech=True,
        holds_floor=True,
        filler=False,
        example=Example(f"Can you put me through to {first}?", {"target": first}),
        refusal=(
            "Can you put me through to my bank?",
            f"I am sorry, I can only put you through to {_listed(tuple(targets))}.",
        ),
    )


def _press_keys(sequences: Mapping[str, str]) -> Tool:
    async def use(arguments: Any, desk: Desk) -> object:
        digits = sequences.get(arguments.keys)
        if digits is None:
            raise ToolFailed("There are no keys of that name.")
        await desk.press_keys(digits)
        return "The keys were pressed."

    first = next(iter(sequences))
    return Tool(
        "press_keys",
        "press keys, where a machine at the other end asks for them",
        _one_of("press_keys", "keys", tuple(sequences)),
        use,
        cancellable=False,
        timeout_s=PRESSING_PATIENCE_S,
        trusted=True,
        after_speech=True,
        holds_floor=True,
        filler=False,
        example=Example(f"For {first}, press a key now.", {"keys": first}),
    )


def _listed(names: tuple[str, ...]) -> str:
    return " or ".join((", ".join(names[:-1]), names[-1])) if len(names) > 1 else names[0]


def _one_of(tool: str, argument: str, names: tuple[str, ...]) -> type[BaseModel]:
    fields: dict[str, Any] = {argument: (Literal[names], Field())}
    made: type[BaseModel] = create_model(tool, __config__=_FORBID, **fields)
    return made


def _take_message() -> Tool:
    async def use(arguments: Any, desk: Desk) -> object:
        desk.take_message(arguments.name, arguments.number, arguments.text)
        return "The message was noted."

    return Tool(
        "take_message",
        "write down a message for a colleague, when the caller has said the name and the message",
        _Message,
        use,
        trusted=True,
        filler=False,
        only_said=("number",),
        example=Example(
            "Please tell them that Tom Hill will be late.",
            {"name": "Tom Hill", "text": "He will be late."},
            "The message was noted.",
            "I will pass it on.",
        ),
    )


def _say_time(timezone: str) -> Tool:
    async def use(arguments: Any, desk: Desk) -> object:
        return f"{desk.now(timezone):%A, %B %-d, %Y, %-I:%M %p}"

    return Tool(
        "say_time",
        "look up what time it is now and today's date",
        _Nothing,
        use,
        side_effects=False,
        trusted=True,
        filler=False,
        example=Example(
            "What time is it?",
            {},
            "Tuesday, June 2, 2026, 4:15 PM",
            "It is 4:15 p.m. on Tuesday, June 2.",
        ),
    )


def _recording(name: str, description: str, *, paused: bool) -> Tool:
    async def use(arguments: Any, desk: Desk) -> object:
        if paused:
            desk.pause_recording()
            return "The recording is paused."
        desk.resume_recording()
        return "The recording goes on."

    return Tool(name, description, _Nothing, use, trusted=True, filler=False)
