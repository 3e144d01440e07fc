"""One call's sequence in the language model, asked for one thing at a time."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from models.base import ChatSession, Message

log = logging.getLogger(__name__)


class Thinking:
    """A `ChatSession` takes one request at a time: each starts when all before it have ended, which cancelled
    ones do within one step. Prefills help only; what they fail at is logged. `spawn` makes the call's tasks.
    """

    def __init__(
        self,
        session: ChatSession,
        call_id: str,
        spawn: Callable[[Coroutine[Any, Any, None], str], "asyncio.Task[None]"],
    ) -> None:
        self._session = session
        self._call_id = call_id
        self._spawn = spawn
        self._requests: set[asyncio.Task[None]] = set()
        self._prefilling: asyncio.Task[None] | None = None

    def prefill(self, messages: Sequence[Message]) -> None:
        """Evaluate `messages` ahead. Replaces an earlier prefill that is not through: what it has evaluated
        stays."""
        self._stop_prefilling()
        self._prefilling = self._ask(lambda: self._evaluate(messages), "prefill")

    def reply(self, make: Callable[[], Coroutine[Any, Any, None]]) -> "asyncio.Task[None]":
        """Run `make()`, which makes one reply, as soon as the sequence is free."""
        self._stop_prefilling()
        return self._ask(make, "reply")

    def _stop_prefilling(self) -> None:
        if self._prefilling is not None:
            self._prefilling.cancel()

    async def _evaluate(self, messages: Sequence[Message]) -> None:
        try:
            await self._session.prefill(messages)
        except Exception as error:
            log.warning("call %s: prefill failed: %s", self._call_id, error)

    def _ask(self, request: Callable[[], Coroutine[Any, Any, None]], name: str) -> "asyncio.Task[None]":
        earlier = set(self._requests)

        async def in_turn() -> None:
            if earlier:
                await asyncio.wait(earlier)
            await request()

        task = self._spawn(in_turn(), name)
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        return task
