"""A SIP call as a `pipeline.line.Line`: its audio over RTP, its signalling through the user agent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final

from pipeline.line import HangUpReason, LineClosed, LineEvent, LineInfo, Pcm, TransferFailed
from telephony.rtp.media import RtpMedia
from telephony.sip.call import TRANSFERRED, Call
from telephony.sip.errors import MalformedMessage
from telephony.sip.numbers import digits_of, refusal
from telephony.sip.uri import parse_uri

_SPOKEN: Final = {
    403: "not allowed",
    404: "wrong number",
    405: "not possible",
    408: "no answer",
    410: "wrong number",
    480: "no answer",
    484: "wrong number",
    486: "busy",
    487: "no answer",
    488: "not possible",
    501: "not possible",
    503: "not reachable",
    600: "busy",
    603: "declined",
    604: "wrong number",
}
"""SIP statuses as an agent would say them."""


def spoken(status: int) -> str:
    return _SPOKEN.get(status, "not reachable")


class SipLine:
    """Implements `Line`, `TransfersCalls` and `SendsKeys`. Made by `SipServer` once the call is up.

    `run(action)` does something to the call and sends what follows from it."""

    lead_s = RtpMedia.lead_s
    """Packets leave every 20 ms as they are due: nothing beyond us plays audio out of a buffer."""

    def __init__(
        self,
        info: LineInfo,
        media: RtpMedia,
        call: Call,
        *,
        run: Callable[[Callable[[float], None]], None],
        number_host: str,
        never_dial: tuple[str, ...] = (),
    ) -> None:
        self.info = info
        self.hung_up: HangUpReason | None = None
        self._media = media
        self._call = call
        self._run = run
        self._number_host = number_host
        self._never_dial = never_dial
        self._transfer: asyncio.Future[int] | None = None

    @property
    def over(self) -> str | None:
        """Why the line is closed; None while it is open."""
        return self._media.over

    @property
    def counters(self) -> dict[str, int]:
        """What was odd about its media, by name."""
        return self._media.counters

    def events(self) -> AsyncIterator[LineEvent]:
        return self._media.events()

    async def send_audio(self, pcm: Pcm) -> None:
        await self._media.send_audio(pcm)

    async def send_mark(self, name: str) -> None:
        await self._media.send_mark(name)

    async def clear(self) -> None:
        await self._media.clear()

    async def send_keys(self, digits: str) -> None:
        """As RTP events where the peer takes them (RFC 4733), else as tones."""
        await self._media.send_keys(digits)

    async def hang_up(self, reason: HangUpReason) -> None:
        """BYE. There is nobody to say sorry for us: after "apology" the caller just hears the call end."""
        if self.hung_up is None and self._media.over is None:
            self.hung_up = reason
            self.close(f"we hung up: {reason}")

    async def transfer(self, target: str) -> None:
        """REFER (RFC 3515), and what its NOTIFYs tell. Which targets are right is for whoever calls this to
        know; emergency and premium numbers are refused here too."""
        if self._media.over is not None:
            raise LineClosed(self._media.over)
        if self._transfer is not None:
            raise TransferFailed("not possible")
        uri = self._target_uri(target)
        news = self._transfer = asyncio.get_running_loop().create_future()
        try:
            self._run(lambda now: self._call.transfer(uri, now))
            status = await news
        finally:
            self._transfer = None
        if self._media.over is not None and self._media.over != TRANSFERRED:
            raise LineClosed(self._media.over)
        if not 200 <= status < 300:
            raise TransferFailed(spoken(status))
        self.close(TRANSFERRED)

    # For the server

    def transfer_news(self, status: int, *, final: bool) -> None:
        if final and self._transfer is not None and not self._transfer.done():
            self._transfer.set_result(status)

    def close(self, reason: str) -> None:
        """End the call from our side; whoever reads or sends gets `LineClosed(reason)`."""
        self._run(lambda now: self._call.end(reason, now))
        self.closed(self._call.over or reason)

    def closed(self, reason: str) -> None:
        """The call is over."""
        self._media.close(reason)
        if self._transfer is not None and not self._transfer.done():
            self._transfer.set_result(200 if reason == TRANSFERRED else 487)

    def _target_uri(self, target: str) -> str:
        """Raises `TransferFailed` for what is neither a number nor a SIP URI, or must not be dialled."""
        number = digits_of(target)
        text = f"sip:{number.replace('#', '%23')}@{self._number_host}" if number is not None else target
        try:
            uri = parse_uri(text)
        except MalformedMessage:
            raise TransferFailed("wrong number") from None
        if uri.scheme == "tel" or refusal(uri.user, self._never_dial) is not None:
            raise TransferFailed("not allowed")
        return text
