"""The CSM voice for all calls of a process, on one engine or several."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from models.base import ModelBusy, ModelError, ModelFailed
from models.csm.engine import Engine
from models.csm.host import EngineHost
from models.csm.measures import EngineStats
from models.csm.shapes import RATE_HZ
from models.csm.shared_voice import CsmVoiceOptions, SharedVoice
from models.csm.slot_voice import CsmVoice
from models.csm.stepping import Rows
from models.csm.text import TextTokenizer

__all__ = ["CsmSynthesizer", "CsmVoice", "CsmVoiceOptions"]

T = TypeVar("T")

log = logging.getLogger(__name__)

ANSWER_S = 10.0
"""An engine that does not answer within this hangs: its longest step, a chunk of a prefill by the full model
on a slow CPU, takes a few seconds."""


class CsmSynthesizer:
    """`models.base.Synthesizer`. A call stays with the engine that had the fewest calls when it began."""

    sample_rate_hz: int = RATE_HZ

    def __init__(
        self, hosts: Sequence[EngineHost], tokenizer: TextTokenizer, options: CsmVoiceOptions | None = None
    ) -> None:
        """Owns `hosts`. Needs no event loop yet. Raises `ModelError` for a voice prompt that is too long."""
        if not hosts:
            raise ValueError("a voice needs at least one engine")
        self._shared = SharedVoice(tokenizer, options or CsmVoiceOptions())
        self._calls: dict[EngineHost, int] = dict.fromkeys(hosts, 0)
        self._failing: set[EngineHost] = set()
        self._opened = 0

    @property
    def stats(self) -> list[EngineStats]:
        """Of each engine."""
        return [host.stats for host in self._calls]

    async def open(self, voice: str = "", *, speed: float = 1.0) -> CsmVoice:
        """A slot. `voice` is a speaker's number; "" is the configured one. Raises `ModelBusy` when no engine
        has a slot, `ModelFailed` when none works, `ModelError` for other names and for a speed."""
        configured = self._shared.options.speaker
        if voice and not voice.isdecimal():
            raise ModelError(f"No voice {voice!r}. CSM's are speaker numbers; the default is {configured}.")
        if speed != 1.0:
            raise ModelError(f"Voice speed is {speed}; CSM speaks as its voice prompt does: leave speed out.")
        if not self._opened and len(self._shared.prompt):
            self._set_prompt(self._shared.prompt)
        number, self._opened = self._opened, self._opened + 1
        host, slot = await self._reserve()
        return CsmVoice(
            self._shared,
            host,
            slot,
            number=number,
            speaker=int(voice) if voice else configured,
            on_prompt=self._set_prompt,
            on_closed=lambda: self._leave(host),
        )

    async def _reserve(self) -> tuple[EngineHost, int]:
        """Engines that failed to answer last time come last: a broken one has the fewest calls, and must not
        draw every one."""
        refusal: ModelError = ModelFailed("the voice has no engine")
        for host in sorted(self._calls, key=lambda host: (host in self._failing, self._calls[host])):
            self._calls[host] += 1
            try:
                slot = await self._open_slot(host)
            except ModelError as error:
                self._leave(host)
                if isinstance(error, ModelBusy):
                    self._failing.discard(host)
                else:
                    log.error("an engine of the voice takes no call: %s", error)
                    self._failing.add(host)
                if not isinstance(refusal, ModelBusy):
                    refusal = error
            except BaseException:
                self._leave(host)
                raise
            else:
                return host, slot
        raise refusal

    async def _open_slot(self, host: EngineHost) -> int:
        try:
            async with asyncio.timeout(ANSWER_S):
                slot = await ask(host, Engine.open, undo=Engine.close)
        except TimeoutError as error:
            raise ModelFailed(f"the voice did not answer within {ANSWER_S:.0f} s") from error
        self._failing.discard(host)
        return slot

    def _leave(self, host: EngineHost) -> None:
        self._calls[host] -= 1

    def _set_prompt(self, rows: Rows) -> None:
        for host in self._calls:
            with suppress(ModelFailed):  # Its calls hear of it.
                host.post(lambda engine: engine.set_prompt(rows))

    async def aclose(self) -> None:
        await asyncio.gather(*(host.aclose() for host in self._calls))


async def ask(
    host: EngineHost, fn: Callable[[Engine], T], *, undo: Callable[[Engine, T], object] | None = None
) -> T:
    """`fn(engine)`, from its thread. Raises what it raises. Cancelled: `undo` takes its result back."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def deliver(result: T) -> None:
        if answer.cancelled():
            take_back(result)
        else:
            answer.set_result(result)

    def take_back(result: T) -> None:
        if undo is not None:
            with suppress(ModelError):
                host.post(lambda engine: undo(engine, result))

    def refuse(error: Exception) -> None:
        if not answer.cancelled():
            answer.set_exception(error)

    def run(engine: Engine) -> None:
        try:
            result = fn(engine)
        except Exception as error:
            loop.call_soon_threadsafe(refuse, error)
        else:
            loop.call_soon_threadsafe(deliver, result)

    host.post(run)
    try:
        return await answer
    except asyncio.CancelledError:
        # The answer may be there and its reader cancelled before it woke.
        if answer.done() and not answer.cancelled() and answer.exception() is None:
            take_back(answer.result())
        raise
