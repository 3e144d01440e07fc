"""`RemoteSynthesizer`: each call's voice on one replica; a clause that it cannot finish another one
finishes."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, Literal, cast

from infra.cluster.fleet import Fleet, Seat
from infra.cluster.link import ReplicaLost, ReplicaSlow
from infra.cluster.remaining import Said
from infra.cluster.wire import speech_out
from models.base import SHARED, CallerSpeech, ModelBusy, ModelFailed, Samples, Speech

log = logging.getLogger(__name__)

REMEMBERED = 64
"""Clauses of one voice whose words' ends are kept: more than a reply has."""

_Trouble = (ReplicaLost, ReplicaSlow, ModelFailed)


class RemoteSynthesizer:
    """`models.base.Synthesizer`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._shared: dict[tuple[str, float, str], Said] = {}

    async def open(self, voice: str = "", *, speed: float = 1.0) -> "RemoteVoice":
        seat = await self._fleet.seat("tts", "voice.open", {"voice": voice, "speed": speed})
        return RemoteVoice(self._fleet, seat, voice, speed, self._shared)

    async def aclose(self) -> None:
        await self._fleet.aclose()


class RemoteVoice:
    """`models.base.Voice`."""

    def __init__(
        self,
        fleet: Fleet,
        seat: Seat,
        voice: str,
        speed: float,
        shared: dict[tuple[str, float, str], Said],
    ) -> None:
        self.sample_rate_hz = int(seat.opened["rate_hz"])
        self.takes_context = cast(Literal["nothing", "text", "audio"], seat.opened["takes_context"])
        self._fleet = fleet
        self._seat = seat
        self._voice = voice
        self._speed = speed
        self._shared = shared
        self._said: OrderedDict[str, Said] = OrderedDict()
        self._closed = False

    async def speak(
        self, text: str, *, utterance: str = "", context: Sequence[Speech] = ()
    ) -> AsyncGenerator[Samples, None]:
        """Chunks of 80 ms and more. Raises `ModelFailed` once `Patience.tries` replicas have failed."""
        # What depends on nothing but the text is the same on every replica.
        said = Said(text, self.sample_rate_hz, repeats=self.takes_context == "nothing")
        self._remember(utterance, said)
        tried: set[str] = set()
        loop = asyncio.get_running_loop()
        while not said.over:
            seat = await self._seated(tried)
            asked_at, before = loop.time(), said.delivered
            try:
                async with aclosing(self._from(seat, said, utterance, context)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                return
            except _Trouble as error:
                self._fleet.move_on(seat, tried, error, "No voice speaks")
                took_s = loop.time() - asked_at
                said.lost((said.delivered - before) / self.sample_rate_hz / took_s if took_s > 0 else 0.0)
                log.warning("a clause goes on at %.2f s on another replica: %s", said.delivered_s, error)
                if said.delivered and self.takes_context != "nothing":
                    # The new replica knows the rest of it only: in contexts, its words have to do.
                    utterance = ""

    async def _from(
        self, seat: Seat, said: Said, utterance: str, context: Sequence[Speech]
    ) -> AsyncGenerator[Samples, None]:
        told, audio = self._context(seat, context)
        header = {
            "op": "voice.speak",
            "ticket": seat.ticket,
            "text": said.to_speak(),
            "utterance": utterance,
            "context": told,
        }
        patience = self._fleet.patience
        packets = self._fleet.stream(
            seat.link, header, audio, first_s=patience.first_audio, next_s=patience.next_audio
        )
        async with aclosing(packets):
            async for packet in packets:
                spans = packet.header.get("spans")
                new = said.take(packet.samples, None if spans is None else [(s, e) for s, e in spans])
                if len(new):
                    yield new

    def _context(self, seat: Seat, context: Sequence[Speech]) -> tuple[list[dict[str, Any]], bytes]:
        if self.takes_context == "nothing":
            return [], b""
        if self.takes_context == "text":
            context = [
                CallerSpeech(speech.key, speech.text) if isinstance(speech, CallerSpeech) else speech
                for speech in context
            ]
        return speech_out(context, seat.known)

    async def _seated(self, tried: set[str]) -> Seat:
        if self._closed:
            raise ModelFailed("this call's voice is closed")
        if not self._seat.open or not self._seat.link.connected:
            self._fleet.leave(self._seat)
            header = {"voice": self._voice, "speed": self._speed}
            try:
                seat = await self._fleet.seat("tts", "voice.open", header, without=tried)
            except ModelBusy as busy:
                raise ModelFailed(f"The call lost its voice, and no other has room: {busy}") from busy
            if self._closed or seat.opened["rate_hz"] != self.sample_rate_hz:
                self._fleet.leave(seat)
                raise ModelFailed("this call's voice is closed, or there are voices of two kinds")
            self._seat = seat
        return self._seat

    def _remember(self, utterance: str, said: Said) -> None:
        if utterance.startswith(SHARED):
            self._shared[self._voice, self._speed, utterance] = said
        elif utterance:
            self._said.pop(utterance, None)
            self._said[utterance] = said
            if len(self._said) > REMEMBERED:
                self._said.popitem(last=False)

    def word_spans(self, utterance: str) -> Sequence[tuple[float, float]]:
        said = self._said.get(utterance) or self._shared.get((self._voice, self._speed, utterance))
        return () if said is None else said.word_spans()

    def prepare(self, context: Sequence[Speech]) -> None:
        seat = self._seat
        if self.takes_context != "nothing" and seat.open and seat.link.connected and not self._closed:
            told, audio = self._context(seat, context)
            seat.link.post({"op": "voice.prepare", "ticket": seat.ticket, "context": told}, audio)

    async def aclose(self) -> None:
        self._closed = True
        self._fleet.leave(self._seat)
