"""What passes between a front-end and a replica off loopback, and who is let in: on uvloop's loop, which
front-ends use, and on asyncio's own."""

import asyncio
import gc
import os
import socket
import ssl
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop

from infra.cluster.choice import Patience
from infra.cluster.fleet import Fleet, NoReplica
from infra.cluster.link import Link, Replica, ReplicaLost
from infra.cluster.station import Model, Station
from infra.cluster.tls import Identity, make_identity
from infra.cluster.voice import RemoteSynthesizer
from infra.cluster.wire import Packet, Unpacker, body_of, proof
from models.base import Samples
from models.scripted import ScriptedChat, ScriptedSynthesizer, ScriptedTranscriber
from tests.infra.cluster_kit import until

x509 = pytest.importorskip("cryptography.x509", reason="needs the extra `cluster` or `records`")

SECRET = b"s" * 32
CLAUSE = "We are open from nine to five on weekdays, and on Saturday until noon."
ELSEWHERE = "192.0.2.77"
"""RFC 5737: nobody's."""
OPEN: dict[str, Any] = {"prefix": []}

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """On both kinds of loop. What one would write to the log with a traceback fails the test."""
    troubles: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=request.param) as runner:
        runner.get_loop().set_exception_handler(lambda loop, trouble: troubles.append(trouble))
        yield runner.run
        gc.collect()
    assert not troubles


@pytest.fixture(scope="module")
def identity() -> Identity:
    return make_identity()


@pytest.fixture(scope="module")
def another() -> Identity:
    return make_identity()


@asynccontextmanager
async def replica(
    model: Model, identity: Identity | None, name: str = "a"
) -> AsyncIterator[tuple[Station, Replica]]:
    role = {ScriptedChat: "llm", ScriptedSynthesizer: "tts", ScriptedTranscriber: "stt"}[type(model)]
    station = Station(role, model, slots=4, secret=SECRET, identity=identity)  # type: ignore[arg-type]
    port = await station.start("127.0.0.1")
    certificate = "" if identity is None else identity.certificate
    try:
        yield station, Replica(name, station.role, "127.0.0.1", port, SECRET, 4, 0, certificate)
    finally:
        await station.aclose()


@asynccontextmanager
async def fleet_of(*replicas: Replica, connected: int = 1) -> AsyncIterator[Fleet]:
    fleet = Fleet(patience=Patience(replica=0.5))
    fleet.update(replicas)
    try:
        await until(lambda: sum(fleet.serving().values()) == connected)
        yield fleet
    finally:
        await fleet.aclose()


@dataclass
class Tap:
    """Somebody between the two, who hears both."""

    where: Replica
    asked: bytearray = field(default_factory=bytearray)
    answered: bytearray = field(default_factory=bytearray)
    carrying: int = 0

    async def carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.carrying += 1
        there, on = await asyncio.open_connection(self.where.host, self.where.port)

        async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter, heard: bytearray) -> None:
            while data := await source.read(2**16):
                heard.extend(data)
                to.write(data)
            to.transport.abort()

        copies = (copy(reader, on, self.asked), copy(there, writer, self.answered))
        await asyncio.gather(*copies, return_exceptions=True)
        self.carrying -= 1


@asynccontextmanager
async def tapped(where: Replica) -> AsyncIterator[tuple[Tap, Replica]]:
    tap = Tap(where)
    server = await asyncio.start_server(tap.carry, "127.0.0.1", 0)
    try:
        yield tap, replace(where, port=server.sockets[0].getsockname()[1])
        await until(lambda: not tap.carrying)
    finally:
        server.close()


async def refused(where: Replica) -> Link:
    """Tries once, in vain."""
    link = Link(where, stall_s=1.0)
    await asyncio.wait_for(link.run(), 5)
    assert not link.connected
    with pytest.raises(ReplicaLost):
        link.ask({"op": "chat.open", "ticket": "t", **OPEN})
    return link


async def spoken(fleet: Fleet, text: str) -> Samples:
    voice = await RemoteSynthesizer(fleet).open()
    chunks = [chunk async for chunk in voice.speak(text)]
    await voice.aclose()
    return np.concatenate(chunks)


async def reference(text: str) -> Samples:
    voice = await ScriptedSynthesizer().open()
    return np.concatenate([chunk async for chunk in voice.speak(text)])


# What is said


def test_a_clause_is_spoken_as_over_plain_tcp(run: Run, identity: Identity) -> None:
    async def talk() -> None:
        async with replica(ScriptedSynthesizer(), identity) as (station, where), fleet_of(where) as fleet:
            assert np.array_equal(await spoken(fleet, CLAUSE), await reference(CLAUSE))
            (link,) = fleet.links("tts")
            assert link._writer is not None
            assert link._writer.get_extra_info("ssl_object").version() == "TLSv1.3"
            await fleet.aclose()
            await until(lambda: not station._peers)

    run(talk())


@pytest.mark.parametrize("encrypted", [True, False])
def test_who_listens_between_them_hears_neither_words_nor_sound_nor_proof(
    run: Run, identity: Identity, encrypted: bool
) -> None:
    """In plain text all of it is there: the test looks for the right things."""

    async def talk() -> None:
        async with (
            replica(ScriptedSynthesizer(), identity if encrypted else None) as (_, where),
            tapped(where) as (tap, through),
            fleet_of(through) as fleet,
        ):
            sound = await spoken(fleet, CLAUSE)
            assert len(tap.answered) > sound.nbytes
            heard = bytes(tap.asked + tap.answered)
            for said in (CLAUSE.encode(), body_of(sound[4_000:4_016]), b"nonce", b"proof", b"ticket"):
                assert (said in heard) != encrypted, said

    run(talk())


def test_half_a_minute_of_a_caller_arrives_whole(run: Run, identity: Identity) -> None:
    heard: list[Samples] = []
    model = ScriptedTranscriber(lambda audio: heard.append(audio) or "Yes.")  # type: ignore[func-returns-value]
    turn = np.random.default_rng(1).standard_normal(30 * 16_000).astype(np.float32)

    async def talk() -> None:
        async with replica(model, identity) as (_, where), fleet_of(where) as fleet:
            (link,) = fleet.links("stt")
            await link.ask_once({"op": "transcribe", "ticket": "t"}, body_of(turn), within_s=5)
        assert np.array_equal(heard[0], turn)

    run(talk())


# Who is spoken to


def test_another_certificate_is_refused_and_calls_go_elsewhere(
    run: Run, identity: Identity, another: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    """Even one who knows the secret."""

    async def talk() -> None:
        async with (
            replica(ScriptedChat(), another, "impostor") as (station, there),
            replica(ScriptedChat(), identity, "right") as (_, where),
        ):
            wrong = replace(there, certificate=identity.certificate)
            link = await refused(wrong)
            await asyncio.wait_for(link.run(), 5)
            async with fleet_of(where, wrong) as fleet:
                seat = await fleet.seat("llm", "chat.open", OPEN)
                assert seat.link.where.replica == "right"
            async with fleet_of(wrong, connected=0) as fleet:
                with pytest.raises(NoReplica):
                    await fleet.seat("llm", "chat.open", OPEN)
            assert not station._peers

    run(talk())
    told = caplog.text.count("is not what Ray told of (CERTIFICATE_VERIFY_FAILED)")
    assert told == 3, "each link says so once, however often it tries"


def test_where_a_certificate_was_told_nothing_is_said_in_the_open(run: Run, identity: Identity) -> None:
    async def talk() -> None:
        async with (
            replica(ScriptedChat(), None) as (station, where),
            tapped(replace(where, certificate=identity.certificate)) as (tap, through),
        ):
            await refused(through)
            assert b"nonce" in tap.answered
            assert tap.asked.startswith(b"\x16\x03"), "a ClientHello"
            assert b"proof" not in tap.asked
            await until(lambda: not station._peers)

    run(talk())


def test_without_a_certificate_nothing_is_said_off_loopback(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    async def talk() -> None:
        began = time.monotonic()
        await refused(Replica("a", "llm", ELSEWHERE, 9, SECRET, 4))
        assert time.monotonic() - began < 0.5, "it was not even tried"

    run(talk())
    assert "upgrade the replica" in caplog.text


def test_a_certificate_that_is_none_is_refused(run: Run) -> None:
    async def talk() -> None:
        async with replica(ScriptedChat(), None) as (_, where):
            await refused(replace(where, certificate="no PEM"))

    run(talk())


async def test_a_station_without_an_identity_stays_on_loopback() -> None:
    station = Station("llm", ScriptedChat(), slots=1, secret=SECRET)
    for host in (ELSEWHERE, "0.0.0.0", "", "example.com"):
        with pytest.raises(ValueError, match="needs an identity"):
            await station.start(host)


# Strangers


def test_a_stranger_gets_nothing_costs_nothing_and_is_soon_gone(
    run: Run, identity: Identity, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("infra.cluster.station.PROOF_S", 0.3)

    async def visit(port: int, opening: bytes, tls: ssl.SSLContext | None = None) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        writer.write(opening)
        try:
            return await asyncio.wait_for(reader.read(), 3)
        except (ConnectionError, ssl.SSLError):
            return b""
        finally:
            writer.transport.abort()

    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE

    def garble(port: int) -> None:
        """A handshake, and then a record that nobody has encrypted."""
        with socket.create_connection(("127.0.0.1", port)) as tcp, trusting.wrap_socket(tcp) as tls:
            os.write(tls.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
            time.sleep(0.05)

    older = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    older.check_hostname, older.verify_mode = False, ssl.CERT_NONE
    older.maximum_version = ssl.TLSVersion.TLSv1_2

    async def talk() -> None:
        async with replica(ScriptedChat(), identity) as (station, where):
            for opening in (
                b"",  # silence
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                Packet({"nonce": "00" * 16, "proof": "00"}).encode(),
                b"\x16\x03\x01\xff\xff" + b"x" * 70_000,
                b"\x16\x03\x01\x02\x00\x01\x00",  # half a ClientHello, and silence
            ):
                assert b"nonce" not in await visit(where.port, opening)
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await visit(where.port, b"", older)
            assert not station._peers, "none of them has come as far as a front-end"
            for opening in (
                b"",
                b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                Packet({"nonce": "00", "proof": ""}).encode(),
            ):
                greeting = await visit(where.port, opening, trusting)
                (packet,) = Unpacker().feed(greeting)
                assert packet.header.keys() == {"nonce"}
            await asyncio.to_thread(garble, where.port)
            await until(lambda: not station._peers)
            plain = Link(replace(where, certificate=""), stall_s=1.0)
            await asyncio.wait_for(plain.run(), 5)
            assert not plain.connected
            async with fleet_of(where) as fleet:
                assert (await fleet.seat("llm", "chat.open", OPEN)).opened["opened"]

    run(talk())
    assert not [record for record in caplog.records if record.exc_info]


def test_who_is_still_in_its_handshake_when_the_station_closes_is_not_served(
    run: Run, identity: Identity
) -> None:
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE

    async def talk() -> None:
        async with replica(ScriptedChat(), identity) as (station, where):
            reader, writer = await asyncio.open_connection("127.0.0.1", where.port)
            await asyncio.sleep(0.05)
            await station.aclose()
            try:
                await writer.start_tls(trusting)
                assert await asyncio.wait_for(reader.read(), 3) == b""
            except (ConnectionError, ssl.SSLError):
                pass
            assert not station._peers
            writer.transport.abort()

    run(talk())


def test_who_takes_connections_and_says_nothing_is_given_up_in_time(
    run: Run, identity: Identity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.cluster.link.CONNECT_S", 0.2)
    left: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left.append(await reader.read())
        writer.close()

    async def talk() -> None:
        server = await asyncio.start_server(hear, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        began = time.monotonic()
        await refused(Replica("a", "llm", "127.0.0.1", port, SECRET, 4, 0, identity.certificate))
        assert time.monotonic() - began < 1.0
        await until(lambda: len(left) == 1)
        server.close()

    run(talk())
    assert left[0].startswith(b"\x16\x03"), "a ClientHello, and the connection was closed"


# Ends


def test_a_replica_that_dies_in_mid_answer_is_missed_at_once(run: Run, identity: Identity) -> None:
    chat = ScriptedChat(lambda messages: "word " * 200, tokens_per_s=50)

    async def talk() -> None:
        async with replica(chat, identity) as (station, where), fleet_of(where) as fleet:
            seat = await fleet.seat("llm", "chat.open", OPEN)
            header = {"op": "chat.reply", "ticket": seat.ticket, "messages": [["user", "hi"]]}
            answer = seat.link.ask(header)
            assert "piece" in (await answer.next(1)).header
            await station.aclose()
            began = time.monotonic()
            with pytest.raises(ReplicaLost):
                while True:
                    await answer.next(1)
            assert time.monotonic() - began < 0.5
            assert not seat.link.connected
            with pytest.raises(ReplicaLost):
                seat.link.ask(header)

    run(talk())
    assert chat.sessions == 0


def test_a_front_end_that_dies_gives_back_all_it_had(run: Run, identity: Identity) -> None:
    chat = ScriptedChat(lambda messages: "word " * 200, tokens_per_s=50)

    async def talk() -> None:
        async with replica(chat, identity) as (station, where), fleet_of(where) as fleet:
            seat = await fleet.seat("llm", "chat.open", OPEN)
            seat.link.ask({"op": "chat.reply", "ticket": seat.ticket, "messages": [["user", "hi"]]})
            await until(lambda: bool(chat.requests))
            await fleet.aclose()
            await until(lambda: not station._peers, 0.5)
            assert chat.sessions == station.used == 0
            assert chat.closed_early == 1

    run(talk())


def test_a_replica_that_takes_nothing_is_given_no_more_than_a_limit(run: Run, identity: Identity) -> None:
    async def stand_still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(Packet({"nonce": "11" * 16}).encode())
        (packet,) = Unpacker().feed(await reader.read(1_000))
        theirs = bytes.fromhex(packet.header["nonce"])
        header = {"proof": proof(SECRET, "replica", b"\x11" * 16, theirs), "role": "stt"}
        writer.write(Packet(header).encode())

    async def talk() -> None:
        server = await asyncio.start_server(stand_still, "127.0.0.1", 0, ssl=identity.context, limit=2**10)
        port = server.sockets[0].getsockname()[1]
        where = Replica("a", "stt", "127.0.0.1", port, SECRET, 4, 0, identity.certificate)
        async with fleet_of(where) as fleet:
            (link,) = fleet.links("stt")
            turn = b"\0" * 2**20
            asked = 0
            with pytest.raises(ReplicaLost, match="takes nothing"):
                while asked < 100:
                    link.ask({"op": "transcribe", "ticket": str(asked)}, turn)
                    asked += 1
                    await asyncio.sleep(0)
            # 16 MiB, and what the kernel took of it.
            assert 16 <= asked < 40
        server.close()

    run(talk())


# The key


def test_the_key_is_on_no_disk_and_in_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    loaded: list[tuple[int, str]] = []
    load = ssl.SSLContext.load_cert_chain

    def watched(self: ssl.SSLContext, file: str, **more: Any) -> None:
        loaded.append((stat.S_IMODE(Path(file).stat().st_mode), Path(file).read_text()))
        load(self, file, **more)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", watched)
    made = make_identity()
    ((mode, text),) = loaded
    assert mode == 0o600
    assert "BEGIN ENCRYPTED PRIVATE KEY" in text
    assert "BEGIN PRIVATE KEY" not in text
    assert not list(tmp_path.iterdir())
    assert "PRIVATE" not in made.certificate
    assert "PRIVATE" not in repr(made)


def test_no_clock_ends_a_certificate_and_no_two_are_alike(identity: Identity, another: Identity) -> None:
    certificate, other = (
        x509.load_pem_x509_certificate(one.certificate.encode()) for one in (identity, another)
    )
    assert certificate.not_valid_before_utc < datetime.now(UTC) - timedelta(days=365)
    assert certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=36_500)
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert certificate.serial_number != other.serial_number
    assert certificate.public_key() != other.public_key()
