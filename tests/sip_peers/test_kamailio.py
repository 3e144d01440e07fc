"""kamailio as registrar and proxy: we register with digest, are called and call through it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from telephony.sip.config import SipConfig, TrunkConfig
from telephony.sip.errors import DialFailed
from telephony.sip.server import SipServer
from tests.sip_peers.agents import Agent, heard_at, loopback, nobody, speechlike, through_mu_law
from tests.sip_peers.programs import HERE, Program, filled, free_port, needs, running, until
from tests.sip_peers.sipp import calling

pytestmark = [needs("kamailio"), needs("sipp"), pytest.mark.realtime, pytest.mark.timeout(60)]

DOMAIN = "clinic.example"
SECRET = "a secret of maya's"
SAID = speechlike(1, 1.0)


@dataclass
class Registrar:
    program: Program
    port: int
    phone: int
    """Where calls go that are for nobody who is registered."""


@contextlib.asynccontextmanager
async def registrar(folder: Path) -> AsyncIterator[Registrar]:
    port, phone = free_port(), free_port()
    values = {"port": port, "phone": phone, "secret": SECRET, "user": "maya"}
    file = folder / "kamailio.cfg"
    file.write_text(filled((HERE / "kamailio" / "kamailio.cfg").read_text(), **values))
    arguments = (
        "-DD",
        "-E",
        "-f",
        str(file),
        "-P",
        str(folder / "pid"),
        "-Y",
        str(folder),
        "-m",
        "32",
        "-M",
        "8",
    )
    async with running("kamailio", *arguments, folder=folder) as program:
        yield Registrar(program, port, phone)


def at(port: int, secret: str = SECRET) -> SipConfig:
    trunk = TrunkConfig(host="127.0.0.1", port=port, domain=DOMAIN, user="maya", secret=secret)  # type: ignore[arg-type]
    return loopback(insecure=False, trunk=trunk)


async def test_a_call_comes_through_it_while_we_are_registered(tmp_path: Path) -> None:
    agent = Agent(lambda _: SAID)
    async with registrar(tmp_path) as proxy:
        async with SipServer(at(proxy.port), agent) as server:
            await until(lambda: server.registered)
            async with calling("plain", proxy.port, tmp_path) as sipp:
                await sipp.succeeds()
            talk = await agent.call()
            assert talk.ended == "caller hung up"
            assert heard_at(through_mu_law(SAID), talk.heard()) is not None
            # ACK and BYE took the way by its Record-Route.
            assert proxy.program.output().count("within a call") == 2
        async with calling("refused", proxy.port, tmp_path, status="404") as sipp:
            await sipp.succeeds()
        assert len(agent.talks) == 1


async def test_we_call_through_it_and_hang_up(tmp_path: Path) -> None:
    agent = Agent(lambda _: SAID)
    async with registrar(tmp_path) as proxy, SipServer(at(proxy.port), nobody) as server:
        await until(lambda: server.registered)
        recorded = "\n      [last_Record-Route:]"
        async with calling("answers", 0, tmp_path, own=proxy.phone, recorded=recorded) as sipp:
            line = await server.dial("+15550100123")
            listening = asyncio.create_task(agent(line))
            await asyncio.sleep(1.5)
            await line.hang_up("goodbye")
            await listening
            await sipp.succeeds()
            (invite,) = sipp.received("INVITE ")
            assert invite.startswith(f"INVITE sip:+15550100123@{DOMAIN} SIP/2.0")
        assert heard_at(through_mu_law(SAID), agent.talks[0].heard()) is not None
        # Our ACK and BYE.
        assert proxy.program.output().count("within a call") == 2


async def test_a_wrong_secret_neither_registers_nor_calls(tmp_path: Path) -> None:
    async with registrar(tmp_path) as proxy, SipServer(at(proxy.port, "guessed"), nobody) as server:
        with pytest.raises(DialFailed) as failed:
            await server.dial("+15550100123")
        assert failed.value.code == 407
        assert not server.registered
        assert "registered sip:maya" not in proxy.program.output()
