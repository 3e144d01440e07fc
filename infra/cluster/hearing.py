"""`RemoteTranscriber`: the transcriber on a replica, and another one when that one is lost."""

import asyncio
import logging
import uuid
from typing import Any

from infra.cluster.fleet import Fleet
from infra.cluster.link import Link, ReplicaLost, ReplicaSlow
from infra.cluster.wire import Packet, body_of, glimpse_in, transcript_in
from models.base import Glimpse, ModelFailed, ModelLate, Samples, Transcript

log = logging.getLogger(__name__)


class RemoteTranscriber:
    """`models.base.Transcriber`. The audio of a turn stays here until its words are there: a replica that
    dies, hangs or is stopped costs the time it took, and another one hears the turn again."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    async def transcribe(
        self,
        audio: Samples,
        *,
        language: str = "en",
        hot_words: str = "",
        deadline_s: float | None = None,
    ) -> Transcript:
        ticket = uuid.uuid4().hex
        header: dict[str, Any] = {
            "op": "transcribe",
            "ticket": ticket,
            "language": language,
            "hot_words": hot_words,
        }
        if deadline_s is not None:
            # The replica puts the earliest deadline first; the clock that counts is this one.
            header["deadline_s"] = deadline_s
        asking = self._ask(header, audio, within_s=self._fleet.patience.hear, counted=True)
        try:
            async with asyncio.timeout(deadline_s):
                packet = await asking
        except TimeoutError:
            raise ModelLate(f"No transcriber heard the turn within {deadline_s} s.") from None
        return transcript_in(packet.header["transcript"])

    async def glimpse(self, audio: Samples, *, language: str = "en") -> Glimpse:
        header = {"op": "glimpse", "language": language}
        packet = await self._ask(header, audio, within_s=self._fleet.patience.glimpse, counted=False)
        return glimpse_in(packet.header["glimpse"])

    async def _ask(self, header: dict[str, Any], audio: Samples, *, within_s: float, counted: bool) -> Packet:
        body = body_of(audio)
        tried: set[str] = set()
        last: Exception | None = None
        for _ in range(self._fleet.patience.tries):
            link = await self._next(tried, last)
            if last is not None:
                self._fleet.moved["stt"] += 1
            tried.add(link.where.replica)
            if counted:
                self._fleet.hold(link, header["ticket"])
            try:
                return await self._fleet.patient_once(link, dict(header), body, within_s=within_s)
            except (ReplicaLost, ReplicaSlow) as error:
                last = error
            except ModelLate:
                raise
            except ModelFailed as error:
                link.failed()
                last = error
            log.warning("the audio of a turn is heard again: %s", last)
        raise ModelFailed(f"No transcriber heard the turn: {last}") from last

    async def _next(self, tried: set[str], last: Exception | None) -> Link:
        """Any that was not tried; one that failed may be the only one there is, and back by now."""
        if self._fleet.patience.replica and not tried:
            return await self._fleet.replica("stt")
        try:
            return await self._fleet.replica("stt", without=tried, within_s=0.0)
        except ModelFailed:
            if isinstance(last, ModelFailed):
                raise last from None
            await asyncio.sleep(0)
            return await self._fleet.replica("stt")

    async def aclose(self) -> None:
        """The fleet is closed with the language model's end."""
