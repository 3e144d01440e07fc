"""One reply of an agent that has tools: words, or a call of a tool, its result, and words again.

    model: "Let me look."  {"tool": "order_status", "arguments": {"number": "4711"}}
    tool:  {"status": "on its way"}
    model: "It is on its way."

Nothing of this happens for a turn that may not be over: a tool is used only behind the reply's open gate.
What a tool returns is text that anybody may have written. It goes to the model as a message of the tool's,
never as the house's or the caller's; and after it, until the caller speaks again, nothing that changes
something in the world is done any more, whatever the model asks for.
"""

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from models.base import ChatSession, Message
from pipeline.tools.desk import Desk
from pipeline.tools.running import Run, Running
from pipeline.tools.tool import Tool
from pipeline.tools.toolbox import BadCall, Toolbox, ToolCall, call_text

CALL_TOKENS = 200
"""What a call may take on top of a reply: a message of two or three sentences, as JSON."""
FILLER_AGAIN_S = 8.0
REFUSED_MORE = "Not now: first answer the caller in words."
REFUSED_ROUNDS = "Enough: now answer the caller in words."
NOT_A_CALL = "That was no tool call. Answer in words."

_OVERTURES = ("<tool_call>", "```json", "`json")
_OVERTURE = re.compile(r"\s*(<tool_call>|`{1,3}\s*(json)?)?\s*")
"""What models put before a call out of habit; nobody should hear it."""
_LONGEST_OVERTURE = 14
_decoder = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Pause:
    """What was written so far is complete, and may be said."""


@dataclass(frozen=True, slots=True)
class Filler:
    """Said so that the line is not silent; no part of the answer."""

    text: str


Written = str | Pause | Filler


class Watcher(Protocol):
    """What the call does about the tools of one reply. Called on the event loop."""

    def tool_begins(self, tool: Tool) -> None: ...

    def tool_works(self, running: Running) -> None:
        """Keep hold of it until it ends: it may outlast the reply."""
        ...

    def tool_ended(self, run: Run) -> None:
        """Of every run, also of a refusal, and also when the reply is long over."""
        ...


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    filler: str = "One moment, please."
    filler_after_s: float = 0.7
    rounds: int = 3


@dataclass(slots=True)
class _Part:
    """What the model wrote between two calls."""

    text: str = ""
    call: str = ""


class ToolUse:
    """`write()` once. `given`: the reply begins with this call, without asking the model."""

    def __init__(
        self,
        toolbox: Toolbox,
        policy: ToolPolicy,
        session: ChatSession,
        messages: Sequence[Message],
        desk: Desk,
        watcher: Watcher,
        *,
        max_tokens: int,
        on_turn_end: Callable[[float], None],
        given: str = "",
    ) -> None:
        self._toolbox = toolbox
        self._policy = policy
        self._session = session
        self._messages = list(messages)
        self._desk = desk
        self._watcher = watcher
        self._max_tokens = max_tokens
        self._on_turn_end = on_turn_end
        self._given = given
        self.runs: list[Run] = []
        """In order; the words of part i stood before run i."""
        self.ended = False
        """A run ended the reply: that nothing follows is no failure."""

    async def write(
        self, gate: asyncio.Event, heard: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[Written, None]:
        """The reply as it is written. Waits for `gate` before it uses a tool. `heard()` returns when the
        caller has heard all that was yielded before the last `Pause`. Closing it cancels what may be
        cancelled, within one step. Errors of the language model propagate; tools' do not."""
        part = _Part(call=self._given)
        while True:
            if not part.call:
                async with aclosing(self._ask(part)) as pieces:
                    async for piece in pieces:
                        yield piece
            if not part.call or len(self.runs) > self._policy.rounds:
                return
            await gate.wait()
            yield Pause()
            async with aclosing(self._use(part, heard)) as fillers:
                async for filler in fillers:
                    yield filler
            run = self.runs[-1]
            if run.ends:
                self.ended = True
                return
            said = f"{part.text.strip()} {run.call}".strip()
            self._messages += [Message("assistant", said), Message("tool", run.result)]
            part = _Part()

    # The model's part

    async def _ask(self, part: _Part) -> AsyncGenerator[str, None]:
        replying = self._session.reply(
            self._messages,
            max_tokens=self._max_tokens + CALL_TOKENS,
            on_turn_end=self._on_turn_end if not self.runs else None,
            grammar=self._toolbox.grammar_of(self._open_tools()),
        )
        splitter = Splitter()
        pieces = 0
        async with aclosing(replying) as written:
            async for piece in written:
                pieces += 1
                words = splitter.push(piece)
                if words:
                    part.text += words
                    yield words
                if splitter.complete or (not splitter.in_call and pieces >= self._max_tokens):
                    break
        rest = splitter.rest()
        if rest:
            part.text += rest
            yield rest
        part.call = splitter.call

    # The tool's part

    async def _use(self, part: _Part, heard: Callable[[], Awaitable[None]]) -> AsyncGenerator[Written, None]:
        try:
            call = self._toolbox.read(part.call, by_key=part.call == self._given)
        except BadCall as bad:
            self._refuse(Run(bad.name, "{}", _now(), detail=str(bad)), NOT_A_CALL)
            return
        tool = call.tool
        invented = self._drop_invented(call)
        given = call.arguments.model_dump(mode="json", exclude_unset=True, exclude=invented)
        run = Run(tool.name, call_text(tool.name, given), _now(), given, tool.cancellable)
        refusal = self._refusal(tool)
        if refusal:
            self._refuse(run, refusal)
            return
        if tool.announce and not part.text.strip():
            part.text = tool.announce
            yield tool.announce
            yield Pause()
        if tool.after_speech:
            await heard()
        self._watcher.tool_begins(tool)
        run.begun_s = _now()
        self.runs.append(run)
        running = Running(call, run, self._desk, _now, self._watcher.tool_ended)
        self._watcher.tool_works(running)
        try:
            async with aclosing(self._fill(running, tool, silent=not part.text.strip())) as fillers:
                async for filler in fillers:
                    yield filler
        finally:
            if tool.cancellable:
                running.task.cancel()

    def _drop_invented(self, call: ToolCall) -> set[str]:
        """Leave out digits that the caller never said: the arguments that held them."""
        said = _digits(" ".join(message.content for message in self._messages if message.role == "user"))
        invented = {
            name for name in call.tool.only_said if _digits(getattr(call.arguments, name)) not in said
        }
        for name in invented:
            setattr(call.arguments, name, "")
        return invented

    def _open_tools(self) -> frozenset[str]:
        """Those that the model may call now."""
        return frozenset(tool.name for tool in self._toolbox.tools if not self._refusal(tool))

    def _refusal(self, tool: Tool) -> str:
        """Why `tool` is not used now; "" where it is."""
        if len(self.runs) >= self._policy.rounds:
            return REFUSED_ROUNDS
        used = [self._toolbox.get(run.name) for run in self.runs if run.outcome != "refused"]
        spent = any(one is not None and (one.side_effects or not one.trusted) for one in used)
        if tool.side_effects:
            return REFUSED_MORE if spent else ""
        # Without arguments it would say the same again.
        return REFUSED_MORE if tool in used and not tool.arguments.model_fields else ""

    def _refuse(self, run: Run, told: str) -> None:
        run.outcome, run.result = "refused", told
        self.runs.append(run)
        self._watcher.tool_ended(run)

    async def _fill(self, running: Running, tool: Tool, *, silent: bool) -> AsyncGenerator[Written, None]:
        """Wait for the tool, and say so when it takes long."""
        wait_s = self._policy.filler_after_s if silent else FILLER_AGAIN_S
        while True:
            done, _ = await asyncio.wait({running.task}, timeout=wait_s)
            if done:
                return
            wait_s = FILLER_AGAIN_S
            if tool.filler and self._policy.filler:
                yield Filler(self._policy.filler)


class Splitter:
    """Tells words from a call in what a model writes: the first `{` begins one, and nobody hears it."""

    def __init__(self) -> None:
        self._held = ""
        self._began = False
        self._json = ""
        self._whole = 0

    @property
    def in_call(self) -> bool:
        return bool(self._json)

    @property
    def complete(self) -> bool:
        """The call's last brace was written."""
        return self._whole > 0

    @property
    def call(self) -> str:
        """The call, as far as it was written; "": there is none."""
        return self._json[: self._whole] if self._whole else self._json

    def push(self, piece: str) -> str:
        """Words that are certain to be words."""
        if self._json:
            self._take(piece)
            return ""
        words, brace, rest = piece.partition("{")
        if brace:
            self._take(brace + rest)
            words = self._release(words)
            return "" if _OVERTURE.fullmatch(words) else words
        return self._hold(words)

    def rest(self) -> str:
        """Words that were held back, when the model has ended."""
        held, self._held = self._held, ""
        return "" if self._json or _OVERTURE.fullmatch(held) else held

    def _hold(self, words: str) -> str:
        """Keep the end back that may open a call."""
        text = self._held + words
        for at in range(max(0, len(text) - _LONGEST_OVERTURE), len(text)):
            if _may_open(text[at:]):
                self._held = text[at:]
                return text[:at]
        self._held = ""
        return text

    def _release(self, words: str) -> str:
        held, self._held = self._held + words, ""
        return "" if _OVERTURE.fullmatch(held) else held

    def _take(self, piece: str) -> None:
        self._json += piece
        if "}" in piece:
            try:
                _, self._whole = _decoder.raw_decode(self._json)
            except (ValueError, RecursionError):
                self._whole = 0


def _may_open(text: str) -> bool:
    """May `text` grow into what stands before a call out of habit?"""
    return any(opening.startswith(text.strip()) for opening in _OVERTURES)


def _digits(text: str) -> str:
    return "".join(char for char in text if char.isdigit())


def _now() -> float:
    return asyncio.get_running_loop().time()
