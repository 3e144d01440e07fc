"""sipp and we call each other: every sample both ways, fifty calls at once, holds, keys, transfers.

sipp sends back what it hears: what we said must stand in what we hear.
"""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from pipeline.line import Line, Pcm, SendsKeys, TransferFailed, TransfersCalls
from telephony import g711
from telephony.sip.errors import DialFailed
from telephony.sip.server import SipServer
from tests.sip_peers.agents import Agent, heard_at, loopback, nobody, place_of, speechlike, through_mu_law
from tests.sip_peers.programs import needs
from tests.sip_peers.sipp import calling, play, scenario

pytestmark = [needs("sipp"), pytest.mark.realtime, pytest.mark.timeout(60)]

SAID = speechlike(1, 1.0)


def says(number: int) -> Pcm:
    return SAID


@pytest.mark.parametrize("over", ["u1", "t1"])
async def test_a_plain_call_carries_every_sample_both_ways(over: str, tmp_path: Path) -> None:
    agent = Agent(says)
    async with SipServer(loopback(), agent) as server:
        await play("plain", server, tmp_path, "-t", over)
        talk = await agent.call()
        assert talk.ended == "caller hung up"
        assert heard_at(through_mu_law(SAID), talk.heard()) is not None
        assert server.live == 0


async def test_fifty_calls_at_once_hear_themselves_and_nobody_else(tmp_path: Path) -> None:
    agent = Agent(lambda number: speechlike(number, 1.0))
    most = 0
    async with SipServer(loopback(), agent) as server:
        async with calling("plain", server.port, tmp_path, calls=50) as sipp:
            async with asyncio.timeout(15):
                while most < 50:
                    most = max(most, sum(not talk.over.is_set() for talk in agent.talks))
                    await asyncio.sleep(0.02)
            await sipp.succeeds()
        assert len(agent.talks) == 50
        for number, talk in enumerate(agent.talks):
            async with asyncio.timeout(5):
                await talk.over.wait()
            assert talk.ended == "caller hung up"
            assert heard_at(through_mu_law(speechlike(number, 1.0)), talk.heard()) is not None, number
            neighbour = through_mu_law(speechlike((number + 1) % 50, 1.0))
            pieces = np.split(neighbour, 50)
            assert all(place_of(piece, talk.heard()) is None for piece in pieces), number
        assert server.live == 0


async def test_audio_of_a_phone_in_both_laws(tmp_path: Path) -> None:
    """sipp plays a file of raw G.711; the agent hears its very samples."""
    law = g711.CODECS["PCMA"]
    (tmp_path / "speech.al").write_bytes(law.encode(SAID))
    agent = Agent()
    async with SipServer(loopback(), agent) as server:
        await play("streams", server, tmp_path, echo=False, stream=str(tmp_path / "speech.al"))
        heard = (await agent.call()).heard()
        assert heard_at(law.decode(law.encode(SAID)), heard) is not None


@pytest.mark.parametrize(
    ("direction", "at", "answer"),
    [
        ("a=sendonly", "127.0.0.1", "a=recvonly"),
        ("a=inactive", "127.0.0.1", "a=inactive"),
        ("a=sendrecv", "0.0.0.0", "a=recvonly"),
    ],
)
async def test_hold_and_back(direction: str, at: str, answer: str, tmp_path: Path) -> None:
    """A second, two on hold, and on. What we say meanwhile is not sent, nor later for it."""
    said = speechlike(2, 4.5)
    agent = Agent(lambda _: said)
    parts = {"held_direction": direction, "held_at": at, "held_answer": answer}
    async with SipServer(loopback(), agent) as server:
        await play("hold", server, tmp_path, **parts)
        heard = (await agent.call()).heard()
        arrived = through_mu_law(said)
        before = heard_at(arrived[:4_800], heard)
        after = heard_at(arrived[28_000:32_000], heard)
        assert before is not None
        assert after is not None
        assert abs(after - before - 28_000) < 400
        for start in range(12_000, 20_000, 800):
            assert place_of(arrived[start : start + 160], heard) is None, start


async def test_keys_as_events_of_payload_type_96(tmp_path: Path) -> None:
    agent = Agent()
    async with SipServer(loopback(), agent) as server:
        await play("keys", server, tmp_path, echo=False)
        assert (await agent.call()).keys == "1234#"


async def test_keys_by_info(tmp_path: Path) -> None:
    agent = Agent()
    async with SipServer(loopback(), agent) as server:
        await play("keys_by_info", server, tmp_path)
        assert (await agent.call()).keys == "5#"


async def test_our_keys_come_back_as_events(tmp_path: Path) -> None:
    async def press(line: Line) -> None:
        assert isinstance(line, SendsKeys)
        await asyncio.sleep(0.3)
        await line.send_keys("90*#")

    agent = Agent(then=press)
    async with SipServer(loopback(), agent) as server:
        await play("plain", server, tmp_path)
        assert (await agent.call()).keys == "90*#"


async def test_a_transfer_of_ours(tmp_path: Path) -> None:
    async def pass_on(line: Line) -> None:
        assert isinstance(line, TransfersCalls)
        await line.transfer("+15550100199")

    agent = Agent(then=pass_on)
    async with SipServer(loopback(), agent) as server:
        await play("transferred", server, tmp_path, transfer_status="200 OK")
        assert (await agent.call()).ended == "transferred"
        assert server.live == 0


async def test_a_transfer_to_somebody_busy_leaves_the_caller_with_us(tmp_path: Path) -> None:
    reasons: list[str] = []

    async def pass_on(line: Line) -> None:
        assert isinstance(line, TransfersCalls)
        try:
            await line.transfer("+15550100199")
        except TransferFailed as failed:
            reasons.append(failed.reason)
            await line.send_audio(SAID)

    agent = Agent(then=pass_on)
    async with SipServer(loopback(), agent) as server:
        await play("transfer_fails", server, tmp_path, transfer_status="486 Busy Here")
        talk = await agent.call()
        assert reasons == ["busy"]
        assert talk.ended == "caller hung up"
        assert heard_at(through_mu_law(SAID), talk.heard()) is not None


async def test_we_decline_to_be_sent_elsewhere(tmp_path: Path) -> None:
    agent = Agent(says)
    async with SipServer(loopback(), agent) as server:
        await play("refers", server, tmp_path)
        assert heard_at(through_mu_law(SAID), (await agent.call()).heard()) is not None


async def test_a_call_without_an_offer_gets_ours(tmp_path: Path) -> None:
    agent = Agent(says)
    async with SipServer(loopback(), agent) as server:
        await play("late_offer", server, tmp_path)
        assert heard_at(through_mu_law(SAID), (await agent.call()).heard()) is not None


async def test_a_phone_that_we_dial(tmp_path: Path) -> None:
    agent = Agent(says)
    async with SipServer(loopback(), nobody) as server, calling("answers", 0, tmp_path) as sipp:
        line = await dialled(server, sipp.port)
        listening = asyncio.create_task(agent(line))
        await asyncio.sleep(1.5)
        await line.hang_up("goodbye")
        await listening
        await sipp.succeeds()
        assert heard_at(through_mu_law(SAID), agent.talks[0].heard()) is not None
        assert server.live == 0


async def test_a_phone_that_rings_until_we_give_up(tmp_path: Path) -> None:
    async with SipServer(loopback(answer_timeout_s=1.0), nobody) as server:
        async with calling("rings", 0, tmp_path) as sipp:
            with pytest.raises(DialFailed) as failed:
                await dialled(server, sipp.port)
            assert failed.value.code == 408
            await sipp.succeeds()
        assert server.live == 0


async def dialled(server: SipServer, port: int) -> Line:
    """sipp takes a moment to bind its port; our INVITE is sent again until then."""
    return await server.dial(f"sip:bob@127.0.0.1:{port}", caller="+15550100123")


def test_scenarios_are_whole() -> None:
    """Every placeholder is replaced; sipp would send the others as they stand."""
    for path in (Path(__file__).parent / "sipp").glob("*.xml"):
        text = scenario(path.stem, transfer_status="200 OK", status="488", stream="speech.al")
        words = [word for word in text.split() if word.startswith("@") and word.endswith("@")]
        assert words == [], path.name
