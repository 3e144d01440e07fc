"""Several personas behind one server, and files that change while calls are on."""

import asyncio
import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.reception import House, Reception, read_house
from infra.settings import CLINIC_PERSONA
from models.base import ModelBusy
from pipeline.documents import DocumentError
from pipeline.line import LineInfo
from pipeline.persona import Persona
from pipeline.service import CallService
from tests.pipeline.virtual_calls import House as Service

PERSONA = 'name = "{name}"\ngreeting = "{greeting}"\nsystem = "You are {name}."\n'
ROUTES = """
[[routes]]
called = "+15551230001"
persona = "sales.toml"
after_hours = "closed.toml"
hours = { timezone = "UTC", weekdays = "08:00-18:00" }
"""
SALES = LineInfo("CA1", "twilio", caller="+1555", called="+15551230001")
OTHER = LineInfo("CA2", "twilio", caller="+1555", called="+15559999999")
NAMES = ("front", "sales", "closed")
NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in NAMES:
        write(tmp_path, name, f"This is {name}.")
    (tmp_path / "routes.toml").write_text(ROUTES)
    return tmp_path


def write(folder: Path, name: str, greeting: str) -> None:
    (folder / f"{name}.toml").write_text(PERSONA.format(name=name, greeting=greeting))


def read(folder: Path) -> House:
    return read_house(folder / "front.toml", folder / "routes.toml")


def reception(folder: Path, service: CallService, now: datetime = NOON) -> Reception:
    return Reception(read(folder), service, read=lambda: read(folder), wall=lambda: now)


def test_the_number_and_the_hour_choose_the_persona(folder: Path) -> None:
    async def main() -> None:
        async with Service().service() as service:
            assert reception(folder, service).persona_for(SALES).name == "sales"
            assert reception(folder, service).persona_for(OTHER).name == "front"
            night = reception(folder, service, NOON.replace(hour=22))
            assert night.persona_for(SALES).name == "closed"

    asyncio.run(main())


def test_every_persona_is_rehearsed_before_the_first_call(folder: Path) -> None:
    async def main() -> None:
        house = Service()
        async with house.service() as service:
            await reception(folder, service).open()
            prompts = ["".join(message.content for message in prefix) for prefix in house.chat.prefixes]
            assert [
                name for name in ("front", "sales", "closed") if f"This is {name}." in "".join(prompts)
            ] == [
                "front",
                "sales",
                "closed",
            ]

    asyncio.run(main())


def test_a_changed_file_is_read_and_an_unchanged_one_is_not(folder: Path) -> None:
    async def main() -> None:
        async with Service().service() as service:
            desk = reception(folder, service)
            before = desk.persona_for(SALES)
            assert not await desk.look()
            write(folder, "sales", "Sales, now with more words.")
            assert await desk.look()
            assert not await desk.look()
            assert desk.persona_for(SALES).greeting == "Sales, now with more words."
            # Whoever is on the line keeps what the call began with.
            assert before.greeting == "This is sales."

    asyncio.run(main())


def test_a_file_that_became_wrong_changes_nothing_and_is_told_once(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with Service().service() as service:
            desk = reception(folder, service)
            (folder / "sales.toml").write_text('name = "sales"\ngreting = "Hello."\n')
            with caplog.at_level(logging.ERROR):
                assert not await desk.look()
                assert not await desk.look()
            assert desk.persona_for(SALES).greeting == "This is sales."
            write(folder, "sales", "Mended.")
            assert await desk.look()
            assert desk.persona_for(SALES).greeting == "Mended."

    asyncio.run(main())
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 1
    assert 'sales.toml:2: unknown key "greting" (did you mean "greeting"?)' in told[0]


def test_a_file_that_comes_after_the_route_to_it_is_seen(folder: Path) -> None:
    async def main() -> None:
        async with Service().service() as service:
            desk = reception(folder, service)
            (folder / "routes.toml").write_text(ROUTES.replace("sales.toml", "new-sales.toml"))
            assert not await desk.look()
            assert not await desk.look()
            write(folder, "new-sales", "The new ones.")
            assert await desk.look()
            assert desk.persona_for(SALES).greeting == "The new ones."

    asyncio.run(main())


def test_a_full_house_makes_changed_personas_ready_later(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def busy(persona: Persona) -> None:
        raise ModelBusy("all sequences are taken")

    async def main() -> None:
        async with Service().service() as service:
            desk = reception(folder, service)
            write(folder, "sales", "Changed.")
            with monkeypatch.context() as full:
                full.setattr(service, "rehearse", busy)
                assert not await desk.look()
            assert await desk.look()
            assert desk.persona_for(SALES).greeting == "Changed."

    asyncio.run(main())


def test_a_route_to_a_file_that_is_not_there_stops_the_start(folder: Path) -> None:
    (folder / "closed.toml").unlink()
    with pytest.raises(DocumentError, match=r"closed\.toml"):
        read(folder)


def test_without_routes_one_persona_answers_everything(folder: Path) -> None:
    house = read_house(folder / "front.toml", None)
    assert house.persona_for(SALES, NOON).name == "front"


def test_the_example_routes_and_their_personas_can_be_used() -> None:
    house = read_house(CLINIC_PERSONA, CLINIC_PERSONA.parent / "routes.toml")
    called = LineInfo("CA1", "twilio", caller="+1555", called="+15550100123")
    assert house.persona_for(called, NOON.replace(hour=16)).name == "Greenfield Clinic"
    assert house.persona_for(called, NOON.replace(hour=3)).name == "Greenfield Clinic, after hours"


def test_tools_beside_a_persona_are_looked_at_too(folder: Path) -> None:
    tools = folder / "tools.py"
    tools.write_text('def beds() -> str:\n    """How many beds are free."""\n    return "two"\n')
    with (folder / "front.toml").open("a") as file:
        file.write('[tools]\npython = "tools.py"\n')
    assert tools in read(folder).stamps
