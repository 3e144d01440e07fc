"""SIP calls as lines: those that come in go to `answer`, those that we make come out of `dial`.

    async with SipServer(config, answer) as server:
        line = await server.dial("+15550100123")        # raises DialFailed
        ...

Each call runs in a task of its own; whatever happens in it stays in it.
"""

import asyncio
import logging
import re
import secrets
import socket
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from pipeline.line import LineClosed, LineInfo
from telephony.answer import Answer, Lines
from telephony.rtp.clock import RtpClock
from telephony.rtp.errors import NoPortFree
from telephony.rtp.media import RtpMedia
from telephony.rtp.ports import RtpPorts
from telephony.sip.agent import SipAgent, check_headers
from telephony.sip.call import Call
from telephony.sip.config import SipConfig
from telephony.sip.core import (
    CallOffered,
    CallOver,
    CallUp,
    KeyByInfo,
    MediaAgreed,
    SipEvent,
    TransferNews,
)
from telephony.sip.digest import DigestClient
from telephony.sip.errors import DialFailed, MalformedMessage, SipConfigError
from telephony.sip.inbound import InboundCall
from telephony.sip.line import SipLine
from telephony.sip.numbers import digits_of
from telephony.sip.outbound import OutboundCall
from telephony.sip.registration import Registration
from telephony.sip.shell import SipShell
from telephony.sip.transactions import Flow
from telephony.sip.uri import Uri, bracketed, parse_uri

logger = logging.getLogger(__name__)

_LAST_WORDS_S: Final = 5.0
_LAST_REQUESTS_S: Final = 2.0
_CALLER: Final = re.compile(r"\+?[A-Za-z0-9._-]{1,64}", re.ASCII)


class _Held:
    """One call, its media, and the line that whoever set it up waits for."""

    def __init__(self, call: Call, media: RtpMedia) -> None:
        self.call = call
        self.media = media
        self.info = LineInfo(call.key, "sip")
        self.line: SipLine | None = None
        self.ready: asyncio.Future[SipLine] = asyncio.get_running_loop().create_future()


class SipServer:
    """`answer(line)` is called for each call that comes in. Before one is taken `lines` must have a place for
    it, else it hears `config.busy`; while `accepting()` is false all hear 503.

    `clock` and `ports` may be shared with other servers; without them it has its own. Entering it raises
    `SipConfigError` where the port cannot be had or the trunk's name cannot be looked up."""

    def __init__(
        self,
        config: SipConfig,
        answer: Answer,
        *,
        accepting: Callable[[], bool] = lambda: True,
        lines: Lines | None = None,
        clock: RtpClock | None = None,
        ports: RtpPorts | None = None,
    ) -> None:
        self.config = config
        self.agent: SipAgent
        self.registered = False
        """With the trunk."""
        self._answer = answer
        self._accepting = accepting
        self._lines = lines
        self._clock = clock
        self._ports = ports or RtpPorts(config.host, config.rtp_first_port, config.rtp_last_port)
        self._shell: SipShell
        self._held: dict[str, _Held] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._trunk_flow: Flow | None = None
        self._credentials: DigestClient | None = None
        self._registration: Registration | None = None
        self._closing = False

    @property
    def port(self) -> int:
        """The SIP port that was bound."""
        return self._shell.port

    @property
    def listening(self) -> bool:
        """Every socket that the configuration wants is open."""
        return self._shell.listening

    @property
    def packets_skipped(self) -> int:
        """Of all calls on the clock, since it was made: the process stood still when they were due."""
        return self._clock.skipped if self._clock is not None else 0

    @property
    def live(self) -> int:
        """Calls that are on, or being set up."""
        return len(self.agent.calls)

    async def __aenter__(self) -> Self:
        self._clock = self._clock or RtpClock()
        self._shell = shell = SipShell(self.config, self._on_event)
        self.agent = shell.agent = SipAgent(
            self.config,
            local=shell.local,
            token=lambda: secrets.token_hex(8),
            key=secrets.token_bytes(32),
            accepting=lambda: not self._closing and self._accepting(),
            lines=self._lines,
        )
        await shell.start()
        try:
            await self._join_trunk()
        except BaseException:
            await shell.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up what is still on, unregister, let the sockets go. A second call does nothing."""
        if self._closing:
            return
        self._closing = True
        for held in list(self._held.values()):
            self._end(held, "we hung up: shutdown")
        # They hear that their line is closed, and put their things in order.
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_LAST_WORDS_S)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._registration is not None:
            self._shell.run(self._registration.stop)
        await self._say_goodbye()
        await self._shell.close()

    async def _say_goodbye(self) -> None:
        """Stay until our BYEs are answered, or have come again twice."""
        loop = asyncio.get_running_loop()
        late = loop.time() + _LAST_REQUESTS_S
        while self.agent.layer.waiting and loop.time() < late:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # Nobody tells of it, and it happens once in a server's life.

    async def dial(
        self, target: str, *, caller: str = "", headers: Mapping[str, str] | None = None
    ) -> SipLine:
        """Call `target`: a number, dialled through the trunk, or a SIP URI whose host is an address or the
        trunk's. Returns when somebody answers. `caller` is the number to show; `headers` are X- headers.
        Raises `DialFailed`; cancelling it hangs up."""
        uri, flow, credentials = self._way_to(target)
        self.agent.check_dial(uri.text)
        shown = self._caller_uri(caller, flow)
        extra = tuple((headers or {}).items())
        check_headers(extra)
        media = await self._open_media(flow, lambda reason: self._media_ended(held, reason))
        try:
            call = self._shell.run(
                lambda now: self.agent.dial(
                    uri.text,
                    flow=flow,
                    port=media.port,
                    caller=shown,
                    now=now,
                    headers=extra,
                    credentials=credentials,
                )
            )
        except BaseException as failed:
            media.close(failed.reason if isinstance(failed, DialFailed) else "we hung up")
            raise
        held = self._held[call.key] = _Held(call, media)
        held.info = LineInfo(
            call_id=call.key,
            kind="sip",
            caller=digits_of(uri.user) or uri.user or uri.host,
            called=caller,
            parameters={"sip_call_id": call.call_id, "sip_target": uri.text},
        )
        try:
            return await held.ready
        except BaseException:
            # It failed, or nobody waits for it any more, though somebody may have answered just now.
            self._end(held, "we hung up")
            raise

    # Calls

    async def _hold(self, call: InboundCall) -> None:
        """A call that came in, until it is over. Whatever happens in it stays in it."""
        try:
            media = await self._open_media(call.flow, lambda reason: self._media_ended(held, reason))
        except DialFailed as none:
            logger.warning("call %s refused: %s", call.key, none.reason)
            self._shell.run(lambda now: call.refuse(503, now))
            return
        if call.over is not None:
            media.close(call.over)
            return
        held = self._held[call.key] = _Held(call, media)
        held.info = LineInfo(
            call_id=call.key,
            kind="sip",
            caller=call.caller,
            called=call.called,
            parameters=call.parameters,
        )
        why, counters = "", media.counters
        try:
            self._shell.run(lambda now: call.accept(media.port, now))
            line = await held.ready
            outcome = await self._answer(line)
            why = outcome.reason
        except (LineClosed, DialFailed) as closed:
            why = closed.reason
        except Exception:
            logger.exception("call %s failed", call.key)
            self._end(held, "internal error")
        finally:
            self._end(held, "the call is over")
            counters = media.counters
            logger.info(
                "call %s is over: %s; %s; media: %s",
                call.key,
                why or "no reason given",
                call.over,
                counters or "in order",
            )

    def _on_event(self, event: SipEvent) -> None:
        call = event.call
        if isinstance(event, CallOffered):
            task = asyncio.get_running_loop().create_task(self._hold(event.call), name=f"sip-call-{call.key}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        held = self._held.get(call.key)
        if held is None:
            return
        if isinstance(event, MediaAgreed):
            plan = event.plan
            held.media.configure(
                plan.remote,
                plan.codec,
                plan.payload_type,
                plan.dtmf_payload_type,
                plan.sending,
                plan.receiving,
            )
        elif isinstance(event, CallUp):
            held.line = self._line(held)
            if not held.ready.done():
                held.ready.set_result(held.line)
        elif isinstance(event, KeyByInfo):
            held.media.key_pressed(event.digit)
        elif isinstance(event, TransferNews) and held.line is not None:
            held.line.transfer_news(event.status, final=event.final)
        elif isinstance(event, CallOver):
            self._over(held, event)

    def _line(self, held: _Held) -> SipLine:
        flow, trunk = held.call.flow, self.config.trunk
        if trunk is not None and flow.host in self.agent.guard.trunk_hosts:
            number_host = trunk.at
        else:
            number_host = bracketed(flow.host)
        return SipLine(
            held.info,
            held.media,
            held.call,
            run=self._shell.run,
            number_host=number_host,
            never_dial=self.config.never_dial,
        )

    def _over(self, held: _Held, event: CallOver) -> None:
        self._held.pop(event.call.key, None)
        held.media.close(event.reason)
        if held.line is not None:
            held.line.closed(event.reason)
        elif not held.ready.done():
            if isinstance(event.call, OutboundCall):
                held.ready.set_exception(DialFailed(event.status or 487, event.reason))
            else:
                held.ready.set_exception(LineClosed(event.reason))
            # Whoever waited may have been cancelled.
            held.ready.exception()

    def _media_ended(self, held: _Held, reason: str) -> None:
        """The media ended by itself: nothing came for too long."""
        self._end(held, reason)

    def _end(self, held: _Held, reason: str) -> None:
        self._shell.run(lambda now: held.call.end(reason, now))
        held.media.close(held.call.over or reason)

    async def _open_media(self, flow: Flow, on_timeout: Callable[[str], None]) -> RtpMedia:
        """Raises `DialFailed` where no port is free."""
        assert self._clock is not None  # noqa: S101
        try:
            return await RtpMedia.open(
                self._clock,
                self._ports,
                rtp_timeout_s=self.config.rtp_timeout_s,
                on_timeout=on_timeout,
            )
        except (NoPortFree, OSError) as none:
            raise DialFailed(503, str(none)) from None

    # Where calls go

    def _way_to(self, target: str) -> tuple[Uri, Flow, DigestClient | None]:
        trunk = self.config.trunk
        number = digits_of(target)
        if number is not None:
            if trunk is None:
                raise DialFailed(404, "numbers are dialled through a trunk, and none is configured")
            target = f"sip:{number.replace('#', '%23')}@{trunk.at}"
        try:
            uri = parse_uri(target)
        except MalformedMessage as fault:
            raise DialFailed(404, fault.reason) from None
        if uri.scheme != "sip" or "?" in target:
            raise DialFailed(416, "only plain sip: URIs are dialled")
        if trunk is not None and uri.host.lower() in (trunk.at.lower(), trunk.host.lower()):
            if self._trunk_flow is None:
                raise DialFailed(503, "the trunk is not reachable")
            return uri, self._trunk_flow, self._credentials
        address = uri.literal
        if address is None or address.is_unspecified or address.is_multicast:
            raise DialFailed(404, f"{uri.host} is no address: names other than the trunk's are not looked up")
        over = (uri.parameters.get("transport") or ("udp" if self.config.udp else "tcp")).lower()
        return uri, Flow("TCP" if over == "tcp" else "UDP", str(address), uri.port or 5060), None

    def _caller_uri(self, caller: str, flow: Flow) -> str:
        """Raises `ValueError` for a caller that could not stand in a URI."""
        if caller and not _CALLER.fullmatch(caller):
            raise ValueError(f"{caller!r} is no number or name to call from")
        trunk = self.config.trunk
        if trunk is not None and flow == self._trunk_flow:
            return f"sip:{caller or trunk.user or 'maya'}@{trunk.at}"
        host, _ = self._shell.local(flow)
        return f"sip:{caller or 'maya'}@{bracketed(host)}"

    async def _join_trunk(self) -> None:
        trunk = self.config.trunk
        if trunk is None:
            return
        family = socket.AF_INET6 if ":" in self.config.host else socket.AF_INET
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                trunk.host, trunk.port, family=family, type=socket.SOCK_DGRAM
            )
        except OSError as wrong:
            raise SipConfigError(
                f"SIP: the trunk {trunk.host} cannot be found ({wrong}): check its name, or give its address."
            ) from None
        hosts = [str(entry[4][0]) for entry in found]
        self.agent.guard.trunk_hosts = frozenset(hosts)
        self._trunk_flow = flow = Flow(trunk.transport, hosts[0], trunk.port)
        secret = trunk.secret.get_secret_value()
        if secret:
            self._credentials = DigestClient(trunk.realm_user, secret, random=lambda: secrets.token_hex(8))
        if trunk.register_calls:
            registration = self._registration = self.agent.registration(
                trunk, flow, credentials=self._credentials, on_change=self._registration_changed
            )
            self._shell.run(registration.start)

    def _registration_changed(self, registered: bool, why: str) -> None:
        self.registered = registered
        if registered:
            logger.info("registered with the trunk %s", why)
        else:
            logger.warning("not registered with the trunk: %s; trying again", why)
