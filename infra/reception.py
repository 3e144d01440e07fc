"""Which persona takes a call: the routes and personas of this house, read again when their files change.

A file that has become wrong changes nothing: the operator is told, and calls are answered as before. Live
calls keep the persona that they began with.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from models.base import ModelBusy
from pipeline.documents import DocumentError, read_toml
from pipeline.line import LineInfo
from pipeline.persona import Persona, load_persona
from pipeline.routing import Routes
from pipeline.service import CallService

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0


@dataclass(frozen=True)
class House:
    """Personas and routes as they are on disk."""

    persona: Persona
    """Answers where no route fits."""
    default_name: str = ""
    routes: Routes | None = None
    named: dict[str, Persona] = field(default_factory=dict)
    """By the path that a route gives."""
    stamps: dict[Path, tuple[int, int]] = field(default_factory=dict, compare=False)
    """Every file that was read: when it was changed (ns), and its size."""

    def persona_for(self, info: LineInfo, now: datetime) -> Persona:
        path = self.routes.persona_for(info, now) if self.routes is not None else None
        return self.named[path] if path is not None else self.persona

    def by_name(self, name: str) -> Persona | None:
        """By its file's name without `.toml`; "" is the persona that answers where no route fits."""
        known = {Path(path).stem: persona for path, persona in self.named.items()}
        return {**known, self.default_name: self.persona, "": self.persona}.get(name)

    def personas(self) -> tuple[Persona, ...]:
        return (self.persona, *self.named.values())


def read_house(persona: Path, routes: Path | None, *, recorded: bool = False) -> House:
    """`recorded`: calls are, and personas that have a sentence for that say it. Blocks. Raises
    `DocumentError` with file and line."""

    stamps: dict[Path, tuple[int, int]] = {}

    def load(path: Path) -> Persona:
        stamps[path] = _stamp(path)
        found = load_persona(path)
        if found.tools.python:
            tools = path.parent / found.tools.python
            stamps[tools] = _stamp(tools)
        return found.recorded() if recorded else found

    default = load(persona)
    if routes is None:
        return House(default, persona.stem, stamps=stamps)
    stamps[routes] = _stamp(routes)
    read = read_toml(routes, Routes)
    named = {}
    for path in read.personas():
        named[path] = load(routes.parent / path)
    return House(default, persona.stem, read, named, stamps)


class Reception:
    """`open()`, then `persona_for` for every call, and `watch()` in a task of its own."""

    def __init__(
        self,
        house: House,
        service: CallService,
        *,
        read: Callable[[], House],
        wall: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._house = house
        self._service = service
        self._read = read
        self._wall = wall
        self._refused: dict[Path, tuple[int, int]] | None = None
        """The files as they were when they could not be used, with the folders where one may be missing."""

    def persona_for(self, info: LineInfo) -> Persona:
        return self._house.persona_for(info, self._wall())

    def called(self, name: str) -> Persona | None:
        """By the name that it gives itself."""
        return next((persona for persona in self._house.personas() if persona.name == name), None)

    def named(self, name: str) -> Persona | None:
        return self._house.by_name(name)

    async def open(self) -> None:
        """Rehearse everybody, so that nobody's first caller waits. Raises `ModelError`."""
        for persona in self._house.personas():
            await self._service.rehearse(persona)

    async def watch(self) -> None:
        """Look at the files every `LOOK_EVERY_S`, for ever."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await self.look()

    async def look(self) -> bool:
        """Read everything again if a file has changed. True when calls are answered anew."""
        if self._refused is not None and await self._stamps(self._refused) == self._refused:
            return False
        stamps = await self._stamps(self._house.stamps)
        if stamps == self._house.stamps:
            return False
        try:
            house = await asyncio.to_thread(self._read)
            for persona in house.personas():
                await self._service.rehearse(persona)
        except ModelBusy:
            log.warning("personas stay as they were until there is room to make the changed ones ready")
            return False
        except Exception as error:
            wrong = {error.path} if isinstance(error, DocumentError) else set()
            folders = {path.parent for path in stamps.keys() | wrong}
            self._refused = await self._stamps(folders | wrong) | stamps
            told = str(error) if isinstance(error, DocumentError) else f"{type(error).__name__}: {error}"
            log.error("personas stay as they were, because a changed file cannot be used:\n%s", told)
            return False
        gone = [persona for persona in self._house.personas() if persona not in house.personas()]
        self._house, self._refused = house, None
        for persona in gone:
            for variant in (persona, persona.calling(), persona.leaving_message()):
                self._service.forget(variant)
        log.info("personas read again: %s", ", ".join(persona.name for persona in house.personas()))
        return True

    async def _stamps(self, paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
        return await asyncio.to_thread(lambda: {path: _stamp(path) for path in paths})


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size
