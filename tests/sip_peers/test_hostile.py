"""Bad input over real sockets, while a normal call goes on too: we stay alive, that call loses nothing
and hears nobody else."""

import asyncio
import contextlib
import random
import re
import socket
import struct
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from telephony import g711
from telephony.sip.server import SipServer
from tests.sip_peers.agents import Agent, loopback, nobody, place_of, speechlike
from tests.sip_peers.programs import needs, running, until
from tests.sip_peers.sipp import calling
from tests.telephony.sip_support import OUR_HOST, PEER_HOST, World
from tests.telephony.test_sip_mutations import corpus, mutate

pytestmark = [pytest.mark.realtime, pytest.mark.timeout(90)]

LAW: Final = g711.CODECS["PCMA"]
MUTATIONS: Final = 10_000
PER_TURN: Final = 25
LARGEST: Final = 65_507
"""What a datagram can hold."""
HEAD: Final = (
    "OPTIONS sip:maya@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1:{port};branch=z9hG4bK{branch};rport\r\n"
    "From: <sip:ann@127.0.0.1>;tag=a\r\nTo: <sip:maya@127.0.0.1>\r\nCall-ID: {branch}\r\nCSeq: 1 OPTIONS\r\n"
)


class Stranger:
    """A socket that says what it likes."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._to = ("127.0.0.1", port)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((host, 0))
        self._socket.setblocking(False)
        self._asked = 0

    def __enter__(self) -> "Stranger":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def say(self, data: bytes) -> None:
        self._socket.sendto(data, self._to)

    def drain(self) -> None:
        """Throw away what came back."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self._socket.recv(65_535)

    async def is_answered(self) -> None:
        """The server still answers. Raises `TimeoutError`."""
        self.drain()
        self._asked += 1
        branch = f"alive{self._asked}"
        port = self._socket.getsockname()[1]
        self.say((HEAD.format(port=port, branch=branch) + "Content-Length: 0\r\n\r\n").encode())
        async with asyncio.timeout(5):
            while True:
                data = await asyncio.get_running_loop().sock_recv(self._socket, 65_535)
                if data.startswith(b"SIP/2.0 200 ") and branch.encode() in data:
                    return


def rtp_port(invite_answers: list[str]) -> int:
    """Where the server hears the call, from its 200."""
    match = re.search(r"m=audio (\d+) ", invite_answers[0])
    assert match is not None
    return int(match[1])


def stream(folder: Path, seconds: float) -> tuple[str, bytes]:
    """A file of A-law for sipp to play, and its content."""
    file, encoded = folder / "speech.al", LAW.encode(speechlike(7, seconds))
    file.write_bytes(encoded)
    return str(file), encoded


@needs("sipsak")
async def test_sipsak_pings(tmp_path: Path, lookups: list[str]) -> None:
    async with SipServer(loopback(), nobody) as server:
        for arguments in (("-vv",), ("-E", "tcp"), ("-T",)):
            to = ("-s", f"sip:maya@127.0.0.1:{server.port}", "-H", "127.0.0.1")
            async with running("sipsak", *arguments, *to, folder=tmp_path) as sipsak:
                assert await sipsak.finished(10) == 0, arguments
        assert lookups == []


@needs("sipsak")
async def test_sipsak_sends_trash(tmp_path: Path) -> None:
    """Its random mode trashes ever more characters of a request until one is not answered."""
    async with SipServer(loopback(), nobody) as server:
        to = ("-s", f"sip:maya@127.0.0.1:{server.port}", "-H", "127.0.0.1")
        for _ in range(3):
            async with running("sipsak", "-R", "-t", "200", *to, folder=tmp_path) as sipsak:
                await asyncio.sleep(1.0)
                await sipsak.stop()
        with Stranger(server.port) as stranger:
            await stranger.is_answered()
        assert server.live == 0


async def test_torn_oversized_and_wrong_messages(lookups: list[str]) -> None:
    whole = HEAD.format(port=9, branch="torn").encode() + b"Content-Length: 0\r\n\r\n"
    bombs = [
        *(whole[:cut] for cut in range(0, len(whole), 7)),
        whole.replace(b"Content-Length: 0", b"X: " + b"y" * 60_000),
        whole.replace(b"Content-Length: 0", b"\r\n".join(b"X-%d: y" % n for n in range(7_000))),
        whole.replace(b"Content-Length: 0", b"Via: SIP/2.0/UDP a.example.com\r\n" * 1_500),
        *(
            whole.replace(b"Content-Length: 0", b"Content-Length: " + length) + b"v=0\r\n"
            for length in (b"5000", b"-1", b"99999999999999999999", b"5, 5", b"\xd9\xa3", b"")
        ),
        b"\0" * 1_000_000,
        b"INVITE sip:maya@attacker.example.com SIP/2.0\r\n\r\n",
    ]
    async with SipServer(loopback(), nobody) as server:
        with Stranger(server.port) as stranger:
            for bomb in bombs:
                stranger.say(bomb[:LARGEST])
                await asyncio.sleep(0)
                stranger.drain()
            await stranger.is_answered()
        for bomb in bombs:
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            async with asyncio.timeout(5):
                # What is too large may be cut off while it is still being sent.
                with contextlib.suppress(ConnectionError):
                    writer.write(bomb)
                    writer.write_eof()
                    await reader.read()
            writer.close()
        with Stranger(server.port) as stranger:
            await stranger.is_answered()
        assert server.live == 0
        assert lookups == []


@needs("sipp")
async def test_a_call_loses_nothing_while_ten_thousand_mutated_messages_come(
    tmp_path: Path, lookups: list[str]
) -> None:
    """Seeded. The mutated messages are of every kind, new and in other people's calls; what the call's phone
    says must be heard whole, sample by sample."""
    chance = random.Random(19)
    messages = [
        message.replace(PEER_HOST.encode(), b"127.0.0.1").replace(OUR_HOST.encode(), b"127.0.0.1")
        for serial in range(4)
        for message in corpus(World(), serial)
    ]
    file, encoded = stream(tmp_path, 10.0)
    agent = Agent()
    config = loopback(messages_per_s=100_000, invites_per_s=10_000)
    async with SipServer(config, agent) as server:
        async with calling(
            "streams", server.port, tmp_path, echo=False, stream=file, speech_ms="11000"
        ) as sipp:
            await until(lambda: bool(agent.talks) and agent.talks[0].heard().any())
            with Stranger(server.port) as stranger:
                for number in range(MUTATIONS):
                    stranger.say(mutate(chance.choice(messages), messages, chance))
                    if number % PER_TURN == PER_TURN - 1:
                        await asyncio.sleep(0.015)
                        stranger.drain()
                assert not agent.talks[0].over.is_set(), "the mutations outlasted the call"
                await stranger.is_answered()
            await sipp.succeeds()
        talk = await agent.call()
        assert talk.ended == "caller hung up"
        assert counter(talk.line, "lost") == 0
        assert place_of(LAW.decode(encoded), talk.heard()) is not None
        assert server.agent.counters["malformed"] > 1_000
        assert server.agent.counters["too many messages"] == 0
    assert lookups == []


@needs("sipp")
async def test_rtp_from_strangers_is_not_heard(tmp_path: Path) -> None:
    """Three of them send loud audio at the call's port, one with the phone's own SSRC and numbers."""
    file, encoded = stream(tmp_path, 3.0)
    agent = Agent()
    async with SipServer(loopback(), agent) as server:
        async with calling(
            "streams", server.port, tmp_path, echo=False, stream=file, speech_ms="4000"
        ) as sipp:
            await until(lambda: bool(agent.talks) and agent.talks[0].heard().any())
            to = rtp_port(sipp.received("SIP/2.0 200"))
            loud = LAW.encode(np.full(160, 30_000, np.int16))
            with Stranger(to) as same_host, Stranger(to, "127.0.0.2") as other, Stranger(to + 1) as rtcp:
                for number in range(2_500):
                    header = struct.pack("!BBHII", 0x80, 8, number & 0xFFFF, number * 160, number % 2)
                    for stranger in (same_host, other, rtcp):
                        stranger.say(header + loud)
                    same_host.say(header[: number % 12])
                    if number % 25 == 24:
                        await asyncio.sleep(0.02)
            await sipp.succeeds()
        talk = await agent.call()
        heard, said = talk.heard(), LAW.decode(encoded)
        place = place_of(said, heard)
        assert place is not None
        # What is made up behind the last packet fades within 60 ms; the strangers' audio would not.
        assert not heard[:place].any()
        assert not heard[place + said.size + 800 :].any()
        assert counter(talk.line, "strange_source") > 2_000


def counter(line: object, name: str) -> int:
    counters: dict[str, int] = line.counters  # type: ignore[attr-defined]
    return counters.get(name, 0)
