"""A replica's side: strangers, cancels, leases."""

import asyncio
import time

import numpy as np
import pytest

from infra.cluster.link import Link, Replica
from infra.cluster.station import Station
from infra.cluster.wire import Packet, speech_out
from models.base import CallerSpeech, Message
from models.scripted import ScriptedChat, ScriptedChatSession, ScriptedSynthesizer
from tests.infra.cluster_kit import house, stand, until

SECRET = b"s" * 32


async def test_whoever_does_not_know_the_secret_is_told_nothing() -> None:
    station = Station("tts", ScriptedSynthesizer(), slots=2, secret=SECRET)
    port = await station.start("127.0.0.1")
    for opening in (
        Packet({"nonce": "00" * 16, "proof": "00"}).encode(),
        Packet({"op": "ping", "ping": 1}).encode(),
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        Packet({"nonce": "zz", "proof": 3}).encode(),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        greeting = await reader.read(1_000)
        assert b"nonce" in greeting
        writer.write(opening)
        assert await asyncio.wait_for(reader.read(), 3) == b""
        writer.close()
    wrong = Link(Replica("x", "tts", "127.0.0.1", port, b"t" * 32, 2), stall_s=1.0)
    await wrong.run()
    assert not wrong.connected
    await station.aclose()


async def test_a_replica_that_does_not_know_its_secret_is_not_believed() -> None:
    async def pretend(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(Packet({"nonce": "11" * 16}).encode())
        await reader.read(1_000)
        writer.write(Packet({"proof": "22" * 32, "role": "tts"}).encode())

    server = await asyncio.start_server(pretend, "127.0.0.1", 0)
    connected: list[Link] = []
    link = Link(
        Replica("x", "tts", "127.0.0.1", server.sockets[0].getsockname()[1], SECRET, 2),
        stall_s=1.0,
        on_connected=connected.append,
    )
    await link.run()
    assert not connected
    server.close()


async def test_closing_a_reply_reaches_the_model_within_50_ms() -> None:
    chat = ScriptedChat(lambda messages: "word " * 200, tokens_per_s=50)
    async with house(stand("a", "llm", chat)) as there:
        seat = await there.fleet.seat("llm", "chat.open", {"prefix": []})
        packets = there.fleet.stream(
            seat.link,
            {"op": "chat.reply", "ticket": seat.ticket, "messages": [["user", "hi"]]},
            first_s=1,
            next_s=1,
        )
        assert "piece" in (await anext(packets)).header
        began = time.perf_counter()
        await packets.aclose()
        await until(lambda: chat.closed_early == 1)
        assert time.perf_counter() - began < 0.05


async def test_a_cancel_that_comes_with_its_request_keeps_the_speech_and_no_task() -> None:
    voice = ScriptedSynthesizer(latency_s=5, takes_context="audio")
    async with house(stand("a", "tts", voice)) as there:
        seat = await there.fleet.seat("tts", "voice.open", {})
        context = [CallerSpeech("k", "Hi.", np.ones(800, np.float32), 8_000)]
        told, audio = speech_out(context, seat.known)
        speak = {"op": "voice.speak", "ticket": seat.ticket, "text": "Yes.", "context": told, "id": 900}
        writer = seat.link._writer
        assert writer is not None
        cancel = Packet({"op": "cancel", "id": 900})
        writer.write(Packet(speak, audio).encode() + cancel.encode())
        (peer,) = there.at("a").station._peers
        await until(lambda: seat.ticket in peer._sessions and bool(peer._sessions[seat.ticket].audio))
        await until(lambda: not peer._tasks)
        voice.latency_s = 0.0
        again, audio = speech_out(context, seat.known)
        assert not audio
        header = {**speak, "context": again}
        answers = [one.header async for one in there.fleet.stream(seat.link, header, first_s=1, next_s=1)]
        assert "audio" in answers[0]


class Clings(ScriptedChatSession):
    """Its sequence goes, and then something breaks."""

    async def aclose(self) -> None:
        await super().aclose()
        raise RuntimeError("no")


async def test_one_session_that_fails_to_close_keeps_no_other_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.scripted.ScriptedChatSession", Clings)
    chat = ScriptedChat()
    async with house(stand("a", "llm", chat)) as there:
        for _ in range(3):
            await there.fleet.seat("llm", "chat.open", {"prefix": []})
        assert there.at("a").station.used == 3
        await there.fleet.aclose()
        await until(lambda: there.at("a").station.used == 0)
        assert chat.sessions == 0


async def test_a_front_end_that_dies_gives_back_all_it_had() -> None:
    chat = ScriptedChat(lambda messages: "word " * 200, tokens_per_s=50)
    async with house(stand("a", "llm", chat)) as there:
        seat = await there.fleet.seat("llm", "chat.open", {"prefix": []})
        seat.link.ask({"op": "chat.reply", "ticket": seat.ticket, "messages": [["user", "hi"]]})
        await until(lambda: bool(chat.requests))
        assert there.at("a").station.used == chat.sessions == 1
        await there.fleet.aclose()
        await until(lambda: chat.sessions == 0)
        assert there.at("a").station.used == 0
        assert chat.closed_early == 1


async def test_a_front_end_that_falls_silent_loses_its_lease() -> None:
    """A machine that lost its power closes no connection."""
    chat = ScriptedChat()
    one = stand("a", "llm", chat, lease_s=0.3)
    async with house(one) as there:
        await there.fleet.seat("llm", "chat.open", {"prefix": []})
        assert chat.sessions == 1
        time.sleep(0.5)  # noqa: ASYNC251 (our loop, with its pings, stands still; the station's does not)
        await until(lambda: chat.sessions == 0)


async def test_no_more_sessions_than_slots_and_no_two_with_one_ticket() -> None:
    chat = ScriptedChat()
    async with house(stand("a", "llm", chat, slots=1)) as there:
        link = there.fleet.links("llm")[0]
        opening = {"op": "chat.open", "ticket": "t", "prefix": []}
        assert (await link.ask_once(opening, within_s=1)).header["opened"]
        for ticket, kind in (("t", "failed"), ("u", "busy")):
            answer = link.ask({**opening, "ticket": ticket})
            packet = await answer._packets.get()
            assert isinstance(packet, Packet)
            assert packet.header["error"] == kind
        assert chat.sessions == 1


@pytest.mark.parametrize(
    "header",
    [
        {"op": "chat.reply", "ticket": "none", "messages": []},
        {"op": "chat.open", "ticket": "t", "prefix": "no"},
        {"op": "voice.speak", "ticket": "t", "text": "x"},
        {"op": "transcribe", "ticket": "t"},
    ],
)
async def test_a_request_that_makes_no_sense_fails_alone(header: dict[str, object]) -> None:
    async with house(stand("a", "llm", ScriptedChat())) as there:
        link = there.fleet.links("llm")[0]
        packet = await link.ask(dict(header))._packets.get()
        assert isinstance(packet, Packet)
        assert packet.header["error"] == "failed"
        seat = await there.fleet.seat("llm", "chat.open", {"prefix": [["system", "x"]]})
        assert seat.opened["opened"]


async def test_what_ray_counts_ends_with_the_session() -> None:
    chat = ScriptedChat()
    async with house(stand("a", "llm", chat)) as there:
        seat = await there.fleet.seat("llm", "chat.open", {"prefix": []})
        assert there.told == [("hold", "llm", "a", seat.ticket)]
        one = there.at("a")
        held = asyncio.run_coroutine_threadsafe(one.station.until_over(seat.ticket), one.loop)
        never = asyncio.run_coroutine_threadsafe(
            one.station.until_over("unknown", begins_within_s=0.05), one.loop
        )
        await asyncio.wrap_future(never)
        assert not held.done()
        there.fleet.leave(seat)
        await asyncio.wait_for(asyncio.wrap_future(held), 2)


async def test_prefixes_and_messages_reach_the_model_as_they_were() -> None:
    chat = ScriptedChat(["Fine."])
    async with house(stand("a", "llm", chat)) as there:
        seat = await there.fleet.seat("llm", "chat.open", {"prefix": [["system", "Be kind."]]})
        header = {"op": "chat.reply", "ticket": seat.ticket, "messages": [["user", "hi"]], "grammar": "g"}
        packets = [one.header async for one in there.fleet.stream(seat.link, header, first_s=1, next_s=1)]
        assert [one.get("piece") for one in packets] == ["Fine.", None]
        assert chat.prefixes == [(Message("system", "Be kind."),)]
        assert chat.requests == [(Message("user", "hi"),)]
        assert chat.grammars == ["g"]
