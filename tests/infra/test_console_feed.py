"""How viewers are told: a few times a second, never late by more than that, and never from a queue."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import pytest

from infra.console.feed import MOST_VIEWERS, PATIENCE_S, PER_S, EventStream, Feed
from infra.console.live import LiveBoard
from infra.records.policy import RecordingPolicy
from pipeline.events import CallerSpeaks, CallerTurn, CallStarted
from pipeline.line import LineInfo
from telephony.simulator.virtual_loop import run_virtual


def board_and_feed(**options: Any) -> tuple[LiveBoard, Feed]:
    board = LiveBoard(RecordingPolicy(), wall=lambda: 1_000.0)
    return board, Feed(board, **options)


class Viewer:
    """`slow_s`: how long each message takes to be taken."""

    def __init__(self, slow_s: float = 0.0) -> None:
        self.told: list[tuple[float, Any]] = []
        self._slow_s = slow_s

    async def send(self, message: str) -> None:
        await asyncio.sleep(self._slow_s)
        self.told.append((asyncio.get_running_loop().time(), json.loads(message)))


def test_a_busy_house_is_told_a_few_times_a_second_and_nothing_is_missed() -> None:
    async def main() -> tuple[Viewer, float]:
        board, feed = board_and_feed()
        viewer = Viewer()
        telling = asyncio.create_task(feed.tell(viewer.send, "CA0"))
        loop = asyncio.get_running_loop()
        began = loop.time()
        calls = [board.watch(LineInfo(f"CA{n}", "sip")) for n in range(20)]
        for tick in range(500):
            for n, call in enumerate(calls):
                call.observe(
                    CallerSpeaks(tick / 50, f"word {tick}")
                    if tick
                    else CallStarted(0.0, LineInfo(f"CA{n}", "sip"), "P")
                )
            await asyncio.sleep(0.02)
        await asyncio.sleep(1.0)
        took_s = loop.time() - began
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        return viewer, took_s

    viewer, took_s = run_virtual(main())
    assert PER_S * 10 * 0.8 <= len(viewer.told) <= PER_S * took_s + 1
    assert max(b - a for (a, _), (b, _) in pairwise(viewer.told)) < 0.3
    assert viewer.told[-1][1]["call"]["entries"][0]["text"] == "word 499"


def test_news_after_a_quiet_time_comes_at_once() -> None:
    async def main() -> float:
        board, feed = board_and_feed()
        viewer = Viewer()
        telling = asyncio.create_task(feed.tell(viewer.send))
        await asyncio.sleep(7.3)
        before = asyncio.get_running_loop().time()
        board.watch(LineInfo("CA1", "sip")).observe(CallStarted(0.0, LineInfo("CA1", "sip"), "P"))
        await asyncio.sleep(0.3)
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        return viewer.told[-1][0] - before if viewer.told[-1][1]["calls"] else 99.0

    assert run_virtual(main()) < 0.26


def test_a_quiet_house_still_gives_a_sign_of_life() -> None:
    async def main() -> int:
        _, feed = board_and_feed()
        viewer = Viewer()
        telling = asyncio.create_task(feed.tell(viewer.send))
        await asyncio.sleep(60.0)
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        return len(viewer.told)

    assert 25 <= run_virtual(main()) <= 31


def test_a_slow_viewer_gets_the_newest_and_a_stuck_one_is_let_go() -> None:
    async def main() -> tuple[list[Any], int, int, float]:
        board, feed = board_and_feed()
        slow, stuck = Viewer(2.0), Viewer(1e6)
        loop = asyncio.get_running_loop()
        call = board.watch(LineInfo("CA1", "sip"))
        telling = asyncio.create_task(feed.tell(slow.send, "CA1"))
        began = loop.time()
        lost = asyncio.create_task(feed.tell(stuck.send, "CA1"))
        for n in range(1_000):
            call.observe(CallerTurn(n / 50, n // 10, f"word {n}"))
            await asyncio.sleep(0.02)
            if lost.done() and feed.dropped == 1:
                began, feed.dropped = loop.time() - began, 2
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
        return slow.told, feed.viewers, feed.dropped, began

    told, viewers, dropped, let_go_s = run_virtual(main())
    assert (viewers, dropped) == (0, 2)
    assert PATIENCE_S <= let_go_s < PATIENCE_S + 0.5
    assert 7 <= len(told) <= 10
    texts = [message["call"]["entries"][-1]["text"] for _, message in told[1:]]
    assert texts == sorted(texts, key=lambda text: int(text.split()[1]))


def test_who_may_not_look_any_more_sees_nothing_more() -> None:
    async def main() -> tuple[int, float]:
        _, feed = board_and_feed()
        viewer = Viewer()
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + 20.0
        await feed.tell(viewer.send, allowed=lambda: loop.time() < ends_at)
        return feed.viewers, loop.time() - ends_at

    viewers, late_s = run_virtual(main())
    assert viewers == 0
    assert 0 <= late_s <= 6.0


def test_so_many_may_look() -> None:
    _, feed = board_and_feed()
    feed.viewers = MOST_VIEWERS
    assert feed.crowded


@pytest.mark.parametrize("leaves", [True, False])
def test_the_stream_ends_when_the_viewer_leaves_or_may_not_look(leaves: bool) -> None:
    async def main() -> tuple[list[Any], int]:
        _, feed = board_and_feed()
        sent: list[Any] = []
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + 8.0

        async def receive() -> Any:
            await asyncio.sleep(6.0 if leaves else 1e6)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        stream = EventStream(feed, "", lambda: loop.time() < ends_at, {"Cache-Control": "no-store"})
        await stream({"type": "http"}, receive, send)
        return sent, feed.viewers

    sent, viewers = run_virtual(main())
    start, *bodies, end = sent
    headers = dict(start["headers"])
    assert headers[b"content-type"].startswith(b"text/event-stream")
    assert b"content-length" not in headers
    assert viewers == 0
    assert (end["body"], end["more_body"]) == (b"", False)
    for body in bodies:
        assert body["body"].startswith(b"data: {")
        assert body["body"].endswith(b"}\n\n")
        assert body["body"].count(b"\n") == 2
