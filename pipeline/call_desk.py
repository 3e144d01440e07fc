"""What a call does about its tools: what they may do with the call, and what is told of them."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from models.base import ChatSession, Message
from pipeline.conversation import SpokenClause
from pipeline.events import (
    CallObserver,
    CallTransferred,
    MessageTaken,
    RecordingPaused,
    RecordingResumed,
    ToolRan,
)
from pipeline.history import History
from pipeline.key_tones import key_tones
from pipeline.line import Line, Pcm, SendsKeys, TransferFailed, TransfersCalls
from pipeline.persona import Persona
from pipeline.playout import Playout
from pipeline.tools.running import Run, Running
from pipeline.tools.tool import Tool, ToolFailed
from pipeline.tools.toolbox import menu_call
from pipeline.tools.use import ToolPolicy, ToolUse
from pipeline.turn_events import HandedOver, Leaving, ToolBegan, ToolEnded, TurnEvent

log = logging.getLogger(__name__)

RESULT_EXCERPT = 300
"""Characters of a result that the record keeps."""
SILENCE_PATIENCE_S = 20.0
"""What was said is taken as heard by then, whatever the line acknowledges."""
SEEN_OFF_S = 10.0
"""A line that has passed its caller on closes by then, or is closed."""
LAST_WORK_S = 15.0
"""What must not be cut short, such as an order that is being placed, has so long after the call's end."""
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class CallTools:
    """What tools need of the call that they are used in."""

    line: Line
    persona: Persona
    session: ChatSession
    history: History
    playout: Playout
    observer: CallObserver
    at: Callable[[], float]
    """Seconds on the call's own clock."""
    tell: Callable[[TurnEvent], None]
    sound: Callable[[Pcm], None]
    """Play keys' tones to the caller, behind what was said."""
    turn: Callable[[], int]
    """The number of the turn that is being answered."""
    wall: Callable[[], datetime] = lambda: datetime.now(UTC)


class CallDesk:
    """One call's tools. `answer` for each reply; `finish` when the call is over."""

    def __init__(self, call: CallTools) -> None:
        self.call = call
        self._working: set[Running] = set()
        self._shown: dict[int, Message] = {}
        """What stands in the history for results that are not known yet, by the run's identity."""
        self._ringing: tuple[str, str] | None = None
        self._seeing_off: asyncio.Task[None] | None = None
        self._recording_paused = False
        self.transferred = False
        self.runs = 0

    def answer(
        self, attempt: int, messages: Sequence[Message], *, on_turn_end: Callable[[float], None], chosen: str
    ) -> ToolUse | None:
        """For one reply; None where the persona has no tools. `chosen`: what the menu of keys makes of it."""
        persona = self.call.persona
        toolbox = persona.toolbox
        if not toolbox and not chosen:
            return None
        settings = persona.tools
        desk = _ReplyDesk(self, attempt)
        return ToolUse(
            toolbox,
            ToolPolicy(settings.filler, settings.filler_after_s, settings.rounds),
            self.call.session,
            messages,
            desk,
            desk,
            max_tokens=persona.limits.reply_tokens,
            on_turn_end=on_turn_end,
            given=menu_call(chosen) if chosen else "",
        )

    def remember(self, runs: Sequence[Run], said: Sequence[tuple[SpokenClause, str]]) -> str:
        """A reply is over: put its runs into the history, each behind the words that were heard before it.
        Returns the words that were heard after the last one."""
        for number, run in enumerate(runs):
            shown = self.call.history.agent_acted(_words(said, number), run.call, run.shown)
            if run.outcome is None:
                self._shown[id(run)] = shown
        return _words(said, len(runs))

    async def silence(self) -> None:
        """Returns when the caller has heard all that was queued."""
        loop = asyncio.get_running_loop()
        playout, until = self.call.playout, loop.time() + SILENCE_PATIENCE_S
        while loop.time() < until:
            heard = all(clause.heard_samples >= clause.samples for clause in playout.heard(loop.time()))
            if not playout.active or (heard and playout.dry_since is not None):
                return
            await asyncio.sleep(_POLL_S)

    def line_closed(self, reason: str) -> None:
        """The line may close before it has said that the caller was passed on."""
        if reason == "transferred" and self._ringing is not None:
            self._handed_over(*self._ringing)

    async def finish(self) -> None:
        """Wait for what must not be cut short, and stop the rest."""
        self._stop(all_of_them=False)
        tasks = {running.task for running in self._working}
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_WORK_S)
        self.abandon()

    def abandon(self) -> None:
        self._stop(all_of_them=True)

    def _stop(self, *, all_of_them: bool) -> None:
        if self._seeing_off is not None:
            self._seeing_off.cancel()
        for running in self._working:
            if all_of_them or running.tool.cancellable or running.tool.holds_floor:
                running.task.cancel()

    # For the desks of replies

    def works(self, running: Running) -> None:
        self._working.add(running)
        running.task.add_done_callback(lambda _: self._working.discard(running))

    def ended(self, run: Run, turn: int) -> None:
        self.runs += 1
        excerpt = run.result[:RESULT_EXCERPT]
        told = (run.name, dict(run.arguments), run.outcome or "cancelled", run.seconds, excerpt, run.detail)
        self.call.observer.observe(ToolRan(self.call.at(), turn, *told))
        shown = self._shown.pop(id(run), None)
        if shown is not None:
            self.call.history.result_known(shown, run.result)

    async def transfer(self, name: str, target: str) -> None:
        line = self.call.line
        if not isinstance(line, TransfersCalls):
            raise ToolFailed("Calls cannot be transferred on this line. The caller is still here.")
        self._ringing = name, target
        try:
            await line.transfer(target)
        except TransferFailed as failed:
            self._ringing = None
            raise ToolFailed(f"{name}: {failed.reason}. The caller is still here.") from failed
        if self._ringing is not None:
            self._handed_over(name, target)
            self._seeing_off = asyncio.create_task(self._see_off(), name="see-off")

    def _handed_over(self, name: str, target: str) -> None:
        self._ringing, self.transferred = None, True
        call = self.call
        call.observer.observe(CallTransferred(call.at(), call.turn(), name, target))
        call.tell(HandedOver())

    async def _see_off(self) -> None:
        await asyncio.sleep(SEEN_OFF_S)
        log.warning("call %s: transferred, but its line stays open", self.call.line.info.call_id)
        await self.call.line.hang_up("goodbye")

    async def press_keys(self, digits: str) -> None:
        line = self.call.line
        if isinstance(line, SendsKeys):
            await line.send_keys(digits)
            return
        self.call.sound(key_tones(digits))
        await self.silence()

    def record(self, *, paused: bool) -> None:
        if paused == self._recording_paused:
            return
        self._recording_paused = paused
        at_s = self.call.at()
        self.call.observer.observe(
            RecordingPaused(at_s, "a secret is to be said") if paused else RecordingResumed(at_s)
        )


class _ReplyDesk:
    """`pipeline.tools.desk.Desk` and `pipeline.tools.use.Watcher` of one reply."""

    def __init__(self, desk: CallDesk, attempt: int) -> None:
        self._desk = desk
        self._call = desk.call
        self._attempt = attempt
        self._turn: int | None = None

    def _turn_number(self) -> int:
        """That of the turn in which the tools were used, also when it is over."""
        if self._turn is None:
            self._turn = self._call.turn()
        return self._turn

    # Watcher

    def tool_begins(self, tool: Tool) -> None:
        self._turn_number()
        self._call.tell(ToolBegan(self._attempt, tool.side_effects, tool.holds_floor))

    def tool_works(self, running: Running) -> None:
        self._desk.works(running)

    def tool_ended(self, run: Run) -> None:
        self._desk.ended(run, self._turn_number())
        if not self._desk.transferred:
            self._call.tell(ToolEnded(self._attempt))

    # Desk

    def now(self, timezone: str) -> datetime:
        return self._call.wall().astimezone(ZoneInfo(timezone))

    async def transfer(self, name: str, target: str) -> None:
        await self._desk.transfer(name, target)

    async def press_keys(self, digits: str) -> None:
        await self._desk.press_keys(digits)

    def take_message(self, name: str, number: str, text: str) -> None:
        number = number.strip() or self._call.line.info.caller
        self._call.observer.observe(MessageTaken(self._call.at(), self._turn_number(), name, number, text))

    def pause_recording(self) -> None:
        self._desk.record(paused=True)

    def resume_recording(self) -> None:
        self._desk.record(paused=False)

    def leave(self) -> None:
        self._call.tell(Leaving(self._attempt))


def _words(said: Sequence[tuple[SpokenClause, str]], part: int) -> str:
    return " ".join(heard for clause, heard in said if heard and clause.part == part and not clause.filler)
