import asyncio
import threading
import time

import pytest

from telephony.simulator.virtual_loop import MemorySocket, VirtualTimeError, run_virtual
from telephony.socket import SocketClosed


def test_a_night_passes_in_no_time():
    async def night() -> float:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(8 * 3600)
        async with asyncio.timeout(10):
            await asyncio.sleep(9.5)
        return loop.time()

    began = time.perf_counter()
    assert run_virtual(night()) == 8 * 3600 + 9.5
    assert time.perf_counter() - began < 60


def test_timers_fire_in_order_and_at_their_time():
    async def main() -> list[tuple[str, float]]:
        fired: list[tuple[str, float]] = []
        loop = asyncio.get_running_loop()

        async def at(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            fired.append((name, loop.time()))

        async with asyncio.TaskGroup() as group:
            for name, seconds in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("b2", 2.0)):
                group.create_task(at(name, seconds))
        return fired

    assert run_virtual(main()) == [("a", 1.0), ("b", 2.0), ("b2", 2.0), ("c", 3.0)]


def test_time_outs_and_cancellation_work():
    async def main() -> str:
        try:
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        except TimeoutError:
            return f"timed out at {asyncio.get_running_loop().time()}"
        return "never"

    assert run_virtual(main()) == "timed out at 5.0"


def test_a_deadlock_is_named():
    async def main() -> None:
        await asyncio.create_task(asyncio.Event().wait(), name="waits for Godot")

    with pytest.raises(VirtualTimeError, match="waits for Godot"):
        run_virtual(main())


async def in_a_thread() -> None:
    await asyncio.to_thread(time.sleep, 0)


async def over_the_network() -> None:
    await asyncio.open_connection("127.0.0.1", 9)


async def as_a_server() -> None:
    await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)


async def through_a_process() -> None:
    await asyncio.create_subprocess_exec("true")


async def by_name() -> None:
    await asyncio.get_running_loop().getaddrinfo("localhost", 80)


@pytest.mark.parametrize("reach", [in_a_thread, over_the_network, as_a_server, through_a_process, by_name])
def test_the_real_world_is_refused(reach):
    with pytest.raises(VirtualTimeError, match="virtual time has no"):
        run_virtual(reach())


def test_another_thread_is_refused():
    async def main() -> Exception:
        loop = asyncio.get_running_loop()
        caught: list[Exception] = []

        def meddle() -> None:
            try:
                loop.call_soon_threadsafe(print)
            except VirtualTimeError as error:
                caught.append(error)

        thread = threading.Thread(target=meddle)
        thread.start()
        thread.join()
        return caught[0]

    assert "another thread" in str(run_virtual(main()))


async def test_it_runs_in_no_other_loop():
    async def main() -> None:
        raise AssertionError("must not run")

    with pytest.raises(VirtualTimeError, match="plain function"):
        run_virtual(main())


def test_what_is_left_over_is_cancelled_and_cleaned_up():
    cleaned = []

    async def linger() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            cleaned.append("task")

    async def main() -> str:
        main.task = asyncio.create_task(linger())  # type: ignore[attr-defined]
        await asyncio.sleep(1)
        return "done"

    assert run_virtual(main()) == "done"
    assert cleaned == ["task"]


def test_errors_come_out():
    async def main() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run_virtual(main())


def test_memory_sockets_carry_messages_in_order_then_the_close():
    async def main() -> list[object]:
        one, other = MemorySocket.pair()
        seen: list[object] = []
        await one.send("a")
        await one.send(b"b")
        await one.close(1008, "enough")
        seen += [await other.receive(), await other.receive()]
        for _ in range(2):
            with pytest.raises(SocketClosed) as closed:
                await other.receive()
            seen.append((closed.value.code, closed.value.reason))
        with pytest.raises(SocketClosed):
            await other.send("late")
        await other.close()
        return seen

    assert run_virtual(main()) == ["a", b"b", (1008, "enough"), (1008, "enough")]


def test_an_aborted_memory_socket_is_lost_without_a_word():
    async def main() -> int:
        one, other = MemorySocket.pair()
        waiting = asyncio.create_task(other.receive())
        await asyncio.sleep(1)
        one.abort()
        with pytest.raises(SocketClosed) as closed:
            await waiting
        return closed.value.code

    assert run_virtual(main()) == 1006


def test_a_cancelled_receive_loses_no_message():
    async def main() -> str | bytes:
        one, other = MemorySocket.pair()
        waiting = asyncio.create_task(other.receive())
        await asyncio.sleep(1)
        await one.send("kept")
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        return await other.receive()

    assert run_virtual(main()) == "kept"
