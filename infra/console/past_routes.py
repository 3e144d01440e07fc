"""`GET /console/calls` lists calls that were; below `/console/calls/ID` lie one call's page, its outline, its
sound and its transcript. `GET /console/charts` is how the house is doing.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Annotated, Any, Final, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response
from starlette.responses import StreamingResponse

from infra.console.answers import NOT_KEPT, Viewer, answer, problem
from infra.console.archive import Archive, Leg, Outcome, Wanted
from infra.console.charts import MOST_AHEAD_MIN, MOST_BEHIND_MIN, MOST_HOURS
from infra.console.one_call import transcript_text
from infra.console.ranges import UnsatisfiableRange, range_of
from infra.console.sound import MOST_POINTS, SoundShelf, Voice, Wav
from infra.records.keys import RecordingKeyError
from infra.records.reader import RecordingError
from infra.store.errors import StoreError

log = logging.getLogger(__name__)

_PIECE_BYTES: Final = 65_536
_AT_ONCE: Final = 4
"""Questions that are worked on at a time: each takes a thread and the disk, beside calls that are on."""
_CHARTS_S: Final = 10.0
"""So long the same charts are good enough for everybody; longer where they took long to make."""
_CHARTS_SHARE: Final = 0.02
"""Of the time, at most, goes into the same charts."""
_CHARTS_KEPT: Final = 16

CallId = Annotated[str, Path(max_length=200)]
LegNumber = Annotated[int | None, Query(ge=0, le=10_000)]
Second = Annotated[float | None, Query(ge=-1e10, le=1e11, allow_inf_nan=False)]
Short = Annotated[str, Query(max_length=200)]
Found = TypeVar("Found")


class Clerk:
    """Asks the archive and the shelf in threads, a few at a time."""

    def __init__(self, archive: Archive, shelf: SoundShelf) -> None:
        self.archive = archive
        self.shelf = shelf
        # Threads of its own: what waits for a slow database here must not take those that calls need.
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="console")
        self._charts: dict[tuple[int, int], tuple[float, dict[str, Any]]] = {}
        self._drawing = asyncio.Lock()
        """One draws, and everybody who asked for the same gets it."""

    async def ask(self, question: Callable[[], Found]) -> Found:
        return await asyncio.get_running_loop().run_in_executor(self._threads, question)

    async def charts(self, hours: int, ahead_min: int) -> dict[str, Any]:
        clock = asyncio.get_running_loop().time
        async with self._drawing:
            good_until, told = self._charts.get((hours, ahead_min), (clock(), {}))
            if clock() >= good_until:
                told, took_s = await self.ask(lambda: self._draw(hours, ahead_min))
                if len(self._charts) >= _CHARTS_KEPT:
                    self._charts.clear()
                self._charts[hours, ahead_min] = clock() + max(_CHARTS_S, took_s / _CHARTS_SHARE), told
        return told

    def _draw(self, hours: int, ahead_min: int) -> tuple[dict[str, Any], float]:
        began = time.thread_time()
        return self.archive.charts(hours, time.time(), ahead_min), time.thread_time() - began


def add_past_routes(router: APIRouter, clerk: Clerk, house: Callable[[], dict[str, Any]]) -> None:
    """`house` is `Console.house`."""

    async def leg_of(call_id: str, leg: int | None) -> Leg | None:
        return await clerk.ask(lambda: clerk.archive.leg(call_id, leg))

    @router.get("/calls", include_in_schema=False)
    async def calls(
        who: Viewer,
        words: Short = "",
        number: Annotated[str, Query(max_length=64)] = "",
        persona: Short = "",
        outcome: Outcome = "",
        since: Second = None,
        until: Second = None,
        before: Annotated[int | None, Query(ge=0, lt=2**63)] = None,
    ) -> Response:
        wanted = Wanted(words.strip(), number.strip(), persona.strip(), outcome, since, until, before)
        return await _told(lambda: clerk.ask(lambda: clerk.archive.find(wanted)))

    @router.get("/calls/{call_id}", include_in_schema=False)
    async def call(who: Viewer, call_id: CallId, leg: LegNumber = None) -> Response:
        async def page() -> dict[str, Any] | None:
            found = await leg_of(call_id, leg)
            return None if found is None else found.page

        return await _told(page)

    @router.get("/calls/{call_id}/outline", include_in_schema=False)
    async def outline(
        who: Viewer,
        call_id: CallId,
        leg: LegNumber = None,
        since: Second = 0.0,
        until: Second = None,
        points: Annotated[int, Query(ge=1, le=MOST_POINTS)] = 1000,
    ) -> Response:
        async def drawn() -> dict[str, Any] | None:
            found = await leg_of(call_id, leg)
            if found is None or (folder := found.folder) is None:
                return None
            from_s, to_s = max(0.0, since or 0.0), 1e9 if until is None else until
            part, length_s = await clerk.ask(lambda: clerk.shelf.outline(folder, from_s, to_s, points))
            shown_s = max(0.0, min(to_s, length_s) - from_s)
            return {
                "length_s": length_s,
                "point_s": shown_s / len(part) if len(part) else 0.0,
                "caller": part[:, 0].tolist(),
                "agent": part[:, 1].tolist(),
            }

        return await _told(drawn)

    @router.get("/calls/{call_id}/audio.wav", include_in_schema=False)
    async def audio(
        request: Request, who: Viewer, call_id: CallId, leg: LegNumber = None, voice: Voice = "both"
    ) -> Response:
        async def sound() -> Wav | None:
            found = await leg_of(call_id, leg)
            if found is None or (folder := found.folder) is None:
                return None
            return await clerk.ask(lambda: clerk.shelf.wav(folder, voice))

        wav = await _tried(sound)
        if isinstance(wav, Response):
            return wav
        return _sent(clerk, request, wav, f"{_name_of(call_id)}.wav")

    @router.get("/calls/{call_id}/transcript.{kind}", include_in_schema=False)
    async def transcript(who: Viewer, call_id: CallId, kind: str, leg: LegNumber = None) -> Response:
        found = await _tried(lambda: leg_of(call_id, leg))
        if isinstance(found, Response):
            return found
        if kind not in ("txt", "json"):
            return problem(404, "a transcript is .txt or .json")
        page = {name: found.page[name] for name in ("call", "entries")}
        body = transcript_text(page) if kind == "txt" else json.dumps(page, ensure_ascii=False, indent=1)
        headers = NOT_KEPT | _attached(f"{_name_of(call_id)}.{kind}")
        media_type = "text/plain; charset=utf-8" if kind == "txt" else "application/json"
        return Response(body.encode(errors="replace"), 200, headers, media_type)

    @router.get("/charts", include_in_schema=False)
    async def charts(
        who: Viewer,
        hours: Annotated[int, Query(ge=1, le=MOST_HOURS)] = 168,
        ahead_min: Annotated[int, Query(ge=-MOST_BEHIND_MIN, le=MOST_AHEAD_MIN, multiple_of=15)] = 0,
    ) -> Response:
        """`ahead_min`: how far the viewer's clock is ahead of UTC, whose days are shown."""

        async def drawn() -> dict[str, Any]:
            return await clerk.charts(hours, ahead_min) | {"capacity": house()["capacity"]}

        return await _told(drawn)


async def _told(question: Callable[[], Awaitable[dict[str, Any] | None]]) -> Response:
    found = await _tried(question)
    return found if isinstance(found, Response) else answer(found)


async def _tried(question: Callable[[], Awaitable[Found | None]]) -> Found | Response:
    """What was found, or the answer that says why it was not. Details of this machine are for its log."""
    try:
        found = await question()
    except StoreError as error:
        log.warning("the console cannot read the store: %s", error)
        return problem(503, "the database cannot be read just now", {"Retry-After": "5"})
    except RecordingKeyError as error:
        log.warning("the console cannot open a recording: %s", error)
        return problem(409, "this recording is encrypted, and its key is not at hand here")
    except RecordingError as error:
        log.warning("the console cannot read a recording: %s", error)
        return problem(404, "the recording is damaged or gone")
    return problem(404, "there is no such call") if found is None else found


def _sent(clerk: Clerk, request: Request, wav: Wav, name: str) -> Response:
    headers = NOT_KEPT | {"Accept-Ranges": "bytes", "ETag": wav.etag} | _attached(name, "inline")
    # A part of another file must not be put behind the first part of this one: RFC 9110, section 13.1.5.
    same = request.headers.get("if-range", wav.etag) == wav.etag
    try:
        part = range_of(request.headers.get("range", ""), wav.size) if same else None
    except UnsatisfiableRange:
        return problem(416, "there is nothing so far behind", {"Content-Range": f"bytes */{wav.size}"})
    first, stop = part or (0, wav.size)
    headers["Content-Length"] = str(stop - first)
    if part is not None:
        headers["Content-Range"] = f"bytes {first}-{stop - 1}/{wav.size}"
    return StreamingResponse(_pieces(clerk, wav, first, stop), 206 if part else 200, headers, "audio/wav")


async def _pieces(clerk: Clerk, wav: Wav, first: int, stop: int) -> AsyncIterator[bytes]:
    for at in range(first, stop, _PIECE_BYTES):
        yield await clerk.ask(partial(wav.read, at, min(stop, at + _PIECE_BYTES)))


def _attached(name: str, how: str = "attachment") -> dict[str, str]:
    return {"Content-Disposition": f'{how}; filename="{name}"'}


def _name_of(call_id: str) -> str:
    """As a file's name: ids come from elsewhere."""
    plain = "".join(one if one.isascii() and (one.isalnum() or one in "-_") else "_" for one in call_id)
    return plain[:100] or "call"
