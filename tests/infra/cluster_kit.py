"""Replicas without Ray: stations in this process, each on a loop and thread of its own so that it can stand
still, and a fleet that knows them."""

import asyncio
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from infra.cluster.choice import Patience
from infra.cluster.fleet import Fleet
from infra.cluster.link import Replica
from infra.cluster.roles import Role
from infra.cluster.station import Model, Station


@dataclass(slots=True)
class Stand:
    """One station."""

    where: Replica
    station: Station
    model: Model
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread

    def die(self) -> None:
        """Its connections break and nobody listens any more, as when its process is killed."""
        asyncio.run_coroutine_threadsafe(self.station.aclose(), self.loop).result(5)

    def stand_still(self, seconds: float) -> None:
        """As when its process is stopped: the kernel still takes bytes, nobody answers."""
        self.loop.call_soon_threadsafe(time.sleep, seconds)

    def end(self) -> None:
        self.die()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


def stand(name: str, role: Role, model: Model, *, slots: int = 4, lease_s: float = 10.0) -> Stand:
    secret = secrets.token_bytes(32)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def begin() -> tuple[Station, int]:
        station = Station(role, model, slots=slots, secret=secret, lease_s=lease_s)
        return station, await station.start("127.0.0.1")

    station, port = asyncio.run_coroutine_threadsafe(begin(), loop).result(5)
    return Stand(Replica(name, role, "127.0.0.1", port, secret, slots), station, model, loop, thread)


@dataclass(slots=True)
class House:
    fleet: Fleet
    stands: dict[str, Stand]
    told: list[tuple[str, ...]]

    def at(self, name: str) -> Stand:
        return self.stands[name]


@asynccontextmanager
async def house(
    *stands: Stand, patience: Patience | None = None, stall_s: float = 0.25
) -> AsyncIterator[House]:
    """All of them connected."""
    told: list[tuple[str, ...]] = []
    fleet = Fleet(patience=patience or Patience(replica=0.5), stall_s=stall_s, tell=told.append)
    fleet.update([one.where for one in stands])
    try:
        await until(lambda: sum(fleet.serving().values()) == len(stands))
        yield House(fleet, {one.where.replica: one for one in stands}, told)
    finally:
        await fleet.aclose()
        for one in stands:
            await asyncio.to_thread(one.end)


async def until(true: Callable[[], bool], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not true():  # noqa: ASYNC110 (what is waited for is on other threads)
            await asyncio.sleep(0.005)
