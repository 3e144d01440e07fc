"""What Serve runs, without a Ray."""

import asyncio
import json
import logging
import socket
from types import SimpleNamespace

import pytest

pytest.importorskip("ray.serve", reason="needs the extra `cluster`")

from infra.cluster.application import Replica
from infra.cluster.front import _replica
from infra.cluster.link import Link
from tests.infra.cluster_kit import until


async def test_a_replica_whose_model_is_dead_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("infra")
    monkeypatch.setattr(logger, "level", logger.level)
    replica = Replica("llm", {"profile": "scripted"}, 0.0, "127.0.0.1")
    await replica.check_health()
    monkeypatch.setattr(replica._model, "alive", True, raising=False)
    await replica.check_health()
    monkeypatch.setattr(replica._model, "alive", False)
    with pytest.raises(RuntimeError, match="dead"):
        await replica.check_health()
    replica._loop.call_soon_threadsafe(replica._loop.stop)


@pytest.mark.parametrize("loopback", [True, False])
async def test_off_loopback_a_replica_tells_its_certificate_and_speaks_tls(
    monkeypatch: pytest.MonkeyPatch, loopback: bool
) -> None:
    logger = logging.getLogger("infra")
    monkeypatch.setattr(logger, "level", logger.level)
    context = SimpleNamespace(replica_id=SimpleNamespace(unique_id="a"))
    monkeypatch.setattr("infra.cluster.application.serve.get_replica_context", lambda: context)
    host = "127.0.0.1" if loopback else own_address()
    replica = Replica("llm", {"profile": "scripted"}, 0.0, host)
    told = json.dumps(await replica.where(replica="a"))
    assert "PRIVATE KEY" not in told
    where = _replica(json.loads(told))
    assert (where.host, bool(where.certificate)) == (host, not loopback)
    link = Link(where, stall_s=1.0)
    running = asyncio.create_task(link.run())
    await until(lambda: link.connected)
    opened = await link.ask_once({"op": "chat.open", "ticket": "t", "prefix": []}, within_s=5)
    assert opened.header["opened"]
    assert link._writer is not None
    assert (link._writer.get_extra_info("ssl_object") is None) == loopback
    running.cancel()
    await asyncio.wait({running})
    await asyncio.wrap_future(replica._submit(replica._station.aclose()))
    replica._loop.call_soon_threadsafe(replica._loop.stop)


def own_address() -> str:
    """One of this machine's that others can reach. No packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        return str(probe.getsockname()[0])
