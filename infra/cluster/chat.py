"""`RemoteChat`: each call's sequence on one replica, opened again on another one when that is lost."""

import asyncio
import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from infra.cluster.fleet import Fleet, Seat
from infra.cluster.link import Link, ReplicaLost, ReplicaSlow
from infra.cluster.wire import messages_out, sampling_out, usage_in
from models.base import GREEDY, Message, ModelBusy, ModelError, ModelFailed, Sampling, Usage

log = logging.getLogger(__name__)

KEPT_PREFIXES = 4
"""Personas whose prompt a replica that comes later evaluates before it has a call of theirs."""

_Trouble = (ReplicaLost, ReplicaSlow, ModelFailed)


class RemoteChat:
    """`models.base.ChatModel`. A prompt that was opened once is evaluated on every replica, also on those
    that come later: a call that has to move waits for its own turns only."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._prefixes: list[tuple[Message, ...]] = []
        self._warming: set[asyncio.Task[None]] = set()
        fleet.on_connected.append(self._greet)

    async def open(self, prefix: Sequence[Message], *, sampling: Sampling = GREEDY) -> "RemoteChatSession":
        kept = tuple(prefix)
        opening = {"prefix": messages_out(kept), "sampling": sampling_out(sampling)}
        seat = await self._fleet.seat("llm", "chat.open", opening)
        if kept not in self._prefixes:
            self._prefixes = [*self._prefixes[-KEPT_PREFIXES + 1 :], kept]
            for link in self._fleet.links("llm"):
                if link is not seat.link and link.connected:
                    self._warm(link, [kept])
        return RemoteChatSession(self._fleet, opening, seat)

    def _greet(self, link: Link) -> None:
        if link.where.role == "llm" and self._prefixes:
            self._warm(link, list(self._prefixes))

    def _warm(self, link: Link, prefixes: Sequence[tuple[Message, ...]]) -> None:
        task = asyncio.create_task(self._evaluate(link, prefixes), name=f"warm-{link.where.replica}")
        self._warming.add(task)
        task.add_done_callback(self._warming.discard)

    async def _evaluate(self, link: Link, prefixes: Sequence[tuple[Message, ...]]) -> None:
        for prefix in prefixes:
            ticket = f"warm-{uuid.uuid4().hex}"
            header = {"op": "chat.open", "ticket": ticket, "prefix": messages_out(prefix)}
            try:
                await link.ask_once(header, within_s=self._fleet.patience.open)
            except (ModelError, ReplicaLost, ReplicaSlow) as error:
                log.info("%s has not evaluated a prompt ahead: %s", link.name, error)
            finally:
                link.post({"op": "close", "ticket": ticket})

    async def aclose(self) -> None:
        for task in list(self._warming):
            task.cancel()


class RemoteChatSession:
    """`models.base.ChatSession`. What was said of a reply is known here, so another replica can go on with
    it."""

    def __init__(self, fleet: Fleet, opening: Mapping[str, Any], seat: Seat) -> None:
        self._fleet = fleet
        self._opening = opening
        """What any replica is told to begin with."""
        self._seat = seat
        self._before = Usage()
        """On replicas that were left."""
        self._here = Usage()
        self._closed = False

    async def prefill(self, messages: Sequence[Message]) -> None:
        header = {"op": "chat.prefill", "messages": messages_out(messages)}
        tried: set[str] = set()
        while True:
            seat = await self._seated(tried)
            try:
                packet = await self._fleet.patient_once(
                    seat.link,
                    {**header, "ticket": seat.ticket},
                    within_s=self._fleet.patience.first_piece,
                )
            except _Trouble as error:
                self._fleet.move_on(seat, tried, error, "No language model answered")
            else:
                self._here = usage_in(packet.header["usage"])
                return

    async def reply(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int = 120,
        on_turn_end: Callable[[float], None] | None = None,
        grammar: str | None = None,
        begun: str = "",
    ) -> AsyncGenerator[str, None]:
        said, pieces = begun, 0
        tried: set[str] = set()
        told = on_turn_end is None
        patience = self._fleet.patience
        while True:
            seat = await self._seated(tried)
            header = {
                "op": "chat.reply",
                "ticket": seat.ticket,
                "messages": messages_out(messages),
                "max_tokens": max(1, max_tokens - pieces),
                "turn_end": not told,
                "grammar": grammar,
                "begun": said,
            }
            packets = self._fleet.stream(
                seat.link, header, first_s=patience.first_piece, next_s=patience.next_piece
            )
            try:
                async with aclosing(packets):
                    async for packet in packets:
                        if "piece" in packet.header:
                            piece = str(packet.header["piece"])
                            said += piece
                            pieces += 1
                            yield piece
                        elif "turn_end" in packet.header:
                            if on_turn_end is not None and not told:
                                told = True
                                on_turn_end(float(packet.header["turn_end"]))
                        else:
                            self._here = usage_in(packet.header["usage"])
                            return
            except _Trouble as error:
                self._fleet.move_on(seat, tried, error, "No language model answered")

    async def _seated(self, tried: set[str]) -> Seat:
        if self._closed:
            raise ModelFailed("this session of the language model is closed")
        if not self._seat.open or not self._seat.link.connected:
            self._fleet.leave(self._seat)
            self._before, self._here = self.usage(), Usage()
            try:
                seat = await self._fleet.seat("llm", "chat.open", self._opening, without=tried)
            except ModelBusy as busy:
                raise ModelFailed(
                    f"The call lost its language model, and no other has room: {busy}"
                ) from busy
            if self._closed:
                self._fleet.leave(seat)
                raise ModelFailed("this session of the language model is closed")
            self._seat = seat
        return self._seat

    def usage(self) -> Usage:
        return Usage(self._before.evaluated + self._here.evaluated, self._here.kept)

    async def aclose(self) -> None:
        self._closed = True
        self._fleet.leave(self._seat)
