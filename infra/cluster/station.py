"""A replica's side: one model behind a socket, for the calls of any number of front-ends.

Knows nothing of Ray. A connection is a front-end's lease: when it ends, or says nothing for `lease_s`,
whatever it asked for is cancelled and the sessions that it opened are given back. Requests of one session
run one after the other, those of different sessions side by side; the model decides what that means.
"""

import asyncio
import contextlib
import logging
import os
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from infra.cluster.roles import Role
from infra.cluster.tls import Identity
from infra.cluster.wire import (
    NONCE_BYTES,
    Packet,
    Unpacker,
    WireError,
    body_of,
    error_out,
    glimpse_out,
    is_proof,
    messages_in,
    proof,
    sampling_in,
    speech_in,
    transcript_out,
    usage_out,
)
from infra.loopback import is_loopback
from models.base import (
    ChatModel,
    ChatSession,
    ModelBusy,
    ModelFailed,
    Samples,
    Synthesizer,
    Transcriber,
    Voice,
)

log = logging.getLogger(__name__)

CHUNK_S = 0.080
"""Shorter pieces of audio wait for the next one: each packet costs both sides a wake-up."""
LEASE_S = 10.0
PROOF_S = 3.0
"""A stranger may take so long over its TLS handshake, and over its proof."""
CLOSE_S = 1.0
"""How long the other side may take to answer the end of TLS."""
_READ_BYTES = 2**16
_LOOK_S = 0.02

Model = Transcriber | ChatModel | Synthesizer


@dataclass(slots=True)
class _Session:
    """A call's sequence or voice; its requests wait for one another."""

    resource: ChatSession | Voice
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    audio: dict[str, Samples] = field(default_factory=dict)
    """The caller's speech by its key, sent once."""


class Station:
    """Made and used on one running loop. `slots` sessions of a language model or a voice are open at a
    time; a transcriber keeps nothing between requests and takes them all. With an `identity` it speaks TLS
    and nothing else."""

    def __init__(
        self,
        role: Role,
        model: Model,
        *,
        slots: int,
        secret: bytes,
        identity: Identity | None = None,
        lease_s: float = LEASE_S,
    ) -> None:
        self.role = role
        self.model = model
        self.slots = slots
        self.secret = secret
        self.identity = identity
        self.lease_s = lease_s
        self.tickets: dict[str, asyncio.Event] = {}
        """What is under way, by the name that the front-end gave it."""
        self._peers: set[_Peer] = set()
        self._server: asyncio.Server | None = None

    @property
    def used(self) -> int:
        """Sessions that are open, or transcriptions under way."""
        return len(self.tickets)

    async def start(self, host: str, port: int = 0) -> int:
        """Listen; returns the port. Raises `OSError`; `ValueError` for an address that others can reach where
        there is no identity."""
        tls: dict[str, Any] = {}
        if self.identity is not None:
            tls = {
                "ssl": self.identity.context,
                "ssl_handshake_timeout": PROOF_S,
                "ssl_shutdown_timeout": CLOSE_S,
            }
        elif not is_loopback(host):
            raise ValueError(f"a station on {host} needs an identity: plain TCP stays on loopback")
        self._server = await asyncio.start_server(self._meet, host, port, **tls)
        return int(self._server.sockets[0].getsockname()[1])

    async def until_over(self, ticket: str, *, begins_within_s: float = 1.0) -> None:
        """Returns when what has this ticket is over; at once where it never began."""
        loop = asyncio.get_running_loop()
        late = loop.time() + begins_within_s
        # The other way may be quicker than ours; it is rare, and costs nobody anything.
        while (over := self.tickets.get(ticket)) is None and loop.time() < late:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        if over is not None:
            await over.wait()

    async def aclose(self) -> None:
        """End every connection. The model is left to whoever made it."""
        if self._server is not None:
            self._server.close()
        await asyncio.gather(*(peer.aclose() for peer in list(self._peers)))

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is not None and not self._server.is_serving():
            writer.transport.abort()  # its handshake has outlasted the station
            return
        peer = _Peer(self, reader, writer)
        self._peers.add(peer)
        try:
            await peer.run()
        except (WireError, OSError) as error:
            log.warning("a front-end's connection ends: %s", str(error) or type(error).__name__)
        finally:
            self._peers.discard(peer)
            writer.close()


class _Peer:
    """One front-end's connection."""

    def __init__(self, station: Station, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._station = station
        self._reader = reader
        self._writer = writer
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._sessions: dict[str, _Session] = {}
        self._over = asyncio.Event()
        self._requests: Mapping[str, Callable[[int, Packet], Awaitable[None]]] = {
            "transcribe": self._transcribe,
            "glimpse": self._glimpse,
            "chat.open": self._open_chat,
            "chat.prefill": self._prefill,
            "chat.reply": self._reply,
            "voice.open": self._open_voice,
            "voice.speak": self._speak,
            "voice.prepare": self._prepare,
            "close": self._close,
        }

    async def run(self) -> None:
        """Until the front-end goes. Raises `WireError`; `OSError`, of which TLS's and time-outs are some."""
        unpacker = Unpacker()
        try:
            async with asyncio.timeout(PROOF_S):
                rest = await self._prove(unpacker)
            for packet in rest:
                self._take(packet)
            while True:
                async with asyncio.timeout(self._station.lease_s):
                    data = await self._reader.read(_READ_BYTES)
                if not data:
                    return
                for packet in unpacker.feed(data):
                    self._take(packet)
        finally:
            await self._let_go()

    async def aclose(self) -> None:
        self._writer.transport.abort()
        await self._over.wait()

    async def _prove(self, unpacker: Unpacker) -> list[Packet]:
        """Both sides know the secret, or nothing is answered."""
        ours = secrets.token_bytes(NONCE_BYTES)
        self._send({"nonce": ours.hex()})
        packets: list[Packet] = []
        while not packets:
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise WireError("gone before it proved itself")
            packets = unpacker.feed(data)
        header = packets[0].header
        try:
            theirs = bytes.fromhex(str(header.get("nonce")))
        except ValueError as error:
            raise WireError("a nonce that is none") from error
        secret = self._station.secret
        if not is_proof(header.get("proof"), secret, "front-end", theirs, ours):
            raise WireError("a front-end that does not know the secret")
        self._send(
            {"proof": proof(secret, "replica", ours, theirs), "role": self._station.role, "pid": os.getpid()}
        )
        return packets[1:]

    # Requests

    def _send(self, header: dict[str, Any], body: bytes = b"") -> None:
        if not self._writer.is_closing():
            self._writer.write(Packet(header, body).encode())

    def _take(self, packet: Packet) -> None:
        header = packet.header
        op = header.get("op")
        if op == "ping":
            self._send({"pong": header.get("ping"), "used": self._station.used})
        elif op == "cancel":
            task = self._tasks.get(_number(header))
            if task is not None:
                # Not at once: one that came in the same read must take its first step, in which it keeps the
                # speech that it brought, and from which on it cleans up after itself.
                asyncio.get_running_loop().call_soon(task.cancel)
        else:
            request = self._requests.get(str(op))
            if request is None:
                raise WireError(f"a request for {op!r}")
            number = _number(header)
            self._tasks[number] = asyncio.create_task(
                self._answer(number, request, packet), name=f"{op}-{number}"
            )

    async def _answer(
        self, number: int, request: Callable[[int, Packet], Awaitable[None]], packet: Packet
    ) -> None:
        try:
            await request(number, packet)
        except WireError as error:
            log.warning("a request that makes no sense: %s", error)
            self._send({"id": number, **error_out(ModelFailed(str(error)))})
        except Exception as error:
            log.info("request %d failed: %s", number, error)
            self._send({"id": number, **error_out(error)})
        finally:
            self._tasks.pop(number, None)

    async def _let_go(self) -> None:
        try:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            for ticket in list(self._sessions):
                try:
                    await self._end(ticket)
                except Exception as error:
                    log.warning("a session of a front-end that is gone does not close: %s", error)
        finally:
            self._over.set()

    # Hearing

    async def _transcribe(self, number: int, packet: Packet) -> None:
        header = packet.header
        with self._under_way(str(header.get("ticket", ""))):
            transcript = await self._transcriber.transcribe(
                packet.samples,
                language=str(header.get("language", "en")),
                hot_words=str(header.get("hot_words", "")),
                deadline_s=_seconds(header.get("deadline_s")),
            )
        self._send({"id": number, "transcript": transcript_out(transcript)})

    async def _glimpse(self, number: int, packet: Packet) -> None:
        seen = await self._transcriber.glimpse(
            packet.samples, language=str(packet.header.get("language", "en"))
        )
        self._send({"id": number, "glimpse": glimpse_out(seen)})

    @property
    def _transcriber(self) -> Transcriber:
        self._must_be("stt")
        return cast(Transcriber, self._station.model)

    def _must_be(self, role: Role) -> None:
        if self._station.role != role:
            raise WireError(f"this replica is {self._station.role}, not {role}")

    # The language model

    async def _open_chat(self, number: int, packet: Packet) -> None:
        self._must_be("llm")
        prefix = messages_in(packet.header.get("prefix"))
        sampling = sampling_in(packet.header.get("sampling"))
        model = cast(ChatModel, self._station.model)
        await self._open(packet, model.open(prefix, sampling=sampling))
        self._send({"id": number, "opened": True})

    async def _prefill(self, number: int, packet: Packet) -> None:
        session = self._session(packet)
        async with session.turn:
            chat = cast(ChatSession, session.resource)
            await chat.prefill(messages_in(packet.header.get("messages")))
            self._send({"id": number, "usage": usage_out(chat.usage())})

    async def _reply(self, number: int, packet: Packet) -> None:
        header = packet.header
        session = self._session(packet)
        chat = cast(ChatSession, session.resource)

        def tell(probability: float) -> None:
            self._send({"id": number, "turn_end": probability})

        # A session that cannot go on with what was said already is not asked to.
        begun = {"begun": str(header["begun"])} if header.get("begun") else {}
        async with session.turn:
            pieces = chat.reply(
                messages_in(header.get("messages")),
                max_tokens=int(header.get("max_tokens", 120)),
                on_turn_end=tell if header.get("turn_end") else None,
                grammar=header.get("grammar"),
                **begun,
            )
            async with aclosing(pieces):
                async for piece in pieces:
                    self._send({"id": number, "piece": piece})
                    await self._writer.drain()
            self._send({"id": number, "usage": usage_out(chat.usage())})

    # The voice

    async def _open_voice(self, number: int, packet: Packet) -> None:
        self._must_be("tts")
        header = packet.header
        model = cast(Synthesizer, self._station.model)
        opening = model.open(str(header.get("voice", "")), speed=float(header.get("speed", 1.0)))
        voice = cast(Voice, await self._open(packet, opening))
        self._send({"id": number, "rate_hz": voice.sample_rate_hz, "takes_context": voice.takes_context})

    async def _speak(self, number: int, packet: Packet) -> None:
        header = packet.header
        session = self._session(packet)
        voice = cast(Voice, session.resource)
        context = speech_in(header.get("context", []), packet.samples, session.audio)
        utterance = str(header.get("utterance", ""))
        told: list[list[float]] = []
        async with session.turn:
            speaking = voice.speak(str(header.get("text", "")), utterance=utterance, context=context)
            async with aclosing(in_chunks(speaking, round(CHUNK_S * voice.sample_rate_hz))) as chunks:
                async for chunk in chunks:
                    answer: dict[str, Any] = {"id": number, "audio": True}
                    spans = [list(span) for span in voice.word_spans(utterance)]
                    if spans != told:
                        answer["spans"] = told = spans
                    self._send(answer, body_of(chunk))
                    await self._writer.drain()
            self._send({"id": number, "spans": [list(span) for span in voice.word_spans(utterance)]})

    async def _prepare(self, number: int, packet: Packet) -> None:
        session = self._session(packet)
        context = speech_in(packet.header.get("context", []), packet.samples, session.audio)
        async with session.turn:
            cast(Voice, session.resource).prepare(context)

    # Sessions

    async def _open(
        self, packet: Packet, opening: Coroutine[Any, Any, ChatSession | Voice]
    ) -> ChatSession | Voice:
        ticket = str(packet.header.get("ticket", ""))
        tickets = self._station.tickets
        if not ticket or ticket in tickets or len(tickets) >= self._station.slots:
            opening.close()
            if ticket and ticket not in tickets:
                raise ModelBusy(f"All {self._station.slots} slots of this replica are in use.")
            raise WireError(f"ticket {ticket!r} is in use")
        tickets[ticket] = asyncio.Event()
        try:
            resource = await opening
        except BaseException:
            tickets.pop(ticket).set()
            raise
        self._sessions[ticket] = _Session(resource)
        return resource

    def _session(self, packet: Packet) -> _Session:
        session = self._sessions.get(str(packet.header.get("ticket", "")))
        if session is None:
            raise ModelFailed("this session is closed")
        return session

    async def _close(self, number: int, packet: Packet) -> None:
        await self._end(str(packet.header.get("ticket", "")))

    async def _end(self, ticket: str) -> None:
        session = self._sessions.pop(ticket, None)
        if session is None:
            return
        try:
            await session.resource.aclose()
        finally:
            self._station.tickets.pop(ticket).set()

    @contextlib.contextmanager
    def _under_way(self, ticket: str) -> Any:
        if ticket in self._station.tickets:
            raise WireError(f"ticket {ticket!r} is in use")
        over = self._station.tickets[ticket] = asyncio.Event()
        try:
            yield
        finally:
            del self._station.tickets[ticket]
            over.set()


def _number(header: Mapping[str, Any]) -> int:
    number = header.get("id")
    if not isinstance(number, int):
        raise WireError("a request without a number")
    return number


async def in_chunks(speaking: AsyncGenerator[Samples, None], least: int) -> AsyncGenerator[Samples, None]:
    """The same samples in chunks of at least `least`, the last one excepted."""
    waiting: list[Samples] = []
    async with aclosing(speaking) as chunks:
        async for chunk in chunks:
            waiting.append(chunk)
            if sum(map(len, waiting)) >= least:
                yield np.concatenate(waiting)
                waiting.clear()
    if waiting:
        yield np.concatenate(waiting)


def _seconds(value: object) -> float | None:
    """A deadline, or None: what is no number of seconds sets none."""
    return float(value) if isinstance(value, int | float) and 0 < value < float("inf") else None
