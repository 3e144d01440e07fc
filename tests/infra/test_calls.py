"""What becomes of somebody, or a machine, that answers a call of ours: whole calls in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from infra.calls import Calls
from infra.outbound.dialler import Dialler, Order
from infra.outbound.ledger import CallLedger, DoNotCall
from infra.outbound.policy import AnsweringMachinePolicy, OutboundSettings
from models.base import ModelFailed
from models.scripted import ScriptedTranscriber
from pipeline.line import HangUpReason, LineClosed, LineInfo, Pcm
from pipeline.persona import Outbound
from pipeline.routing import Hours
from pipeline.service import CallOutcome, CallService
from telephony.simulator.virtual_loop import run_virtual
from telephony.twilio.elsewhere import RESUMED_PARAMETER
from telephony.twilio.routes import ORDER_PARAMETER
from tests.pipeline.hand_line import HandLine, silence
from tests.pipeline.test_answering import beep
from tests.pipeline.virtual_calls import PERSONA, House, tone

NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
CALLER = PERSONA.model_copy(update={"outbound": Outbound(message="Please call us back about Thursday.")})
MACHINE = (silence(0.3), tone("you have reached", 4.0), silence(0.6), beep(1000, 0.5))
SOMEBODY = (silence(0.5), tone("hello", 0.5), silence(0.1))


@pytest.fixture(autouse=True)
def no_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual time has none; the files are read on the spot."""

    async def at_once(work: Callable[..., object], *arguments: object) -> object:
        return work(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", at_once)


class Carrier:
    async def place(self, order: Order) -> str:
        return "CA1"


class Desk:
    """One order that is being dialled, and the line on which it is answered."""

    def __init__(self, folder: Path, service: CallService, policy: AnsweringMachinePolicy) -> None:
        settings = OutboundSettings(
            allowed_prefixes=("+1202",),
            hours=Hours(timezone="UTC", weekdays="09:00-18:00"),
            answering_machine=policy,
        )
        self.calls = Calls(service)
        self.dialler = self.calls.dialler = Dialler(
            settings,
            Carrier(),
            CallLedger(folder / "dialled.jsonl"),
            DoNotCall(folder / "list.txt"),
            persona_named=lambda name: CALLER,
            rehearse=service.rehearse,
            accepting=self.calls.accepting,
            places=self.calls.admission,
            wall=lambda: NOON,
        )
        self.line = HandLine()

    async def order(self, kind: str = "twilio") -> Order:
        order = await self.dialler.order("+12025550123")
        await self.dialler._dial(order)
        self.line.info = LineInfo("call-1", kind, parameters={ORDER_PARAMETER: order.id})
        return order

    def over(self, order: Order) -> tuple[str, str]:
        found = self.dialler.status(order.id)
        assert found is not None
        return found.state, found.detail


def on_the_phone(
    folder: Path,
    talk: Callable[[Desk], Awaitable[None]],
    *texts: str | Exception,
    policy: AnsweringMachinePolicy = "leave_message",
) -> House:
    house = House(transcriber=ScriptedTranscriber(texts or ("Hello?",), latency_s=0.2))

    async def main() -> None:
        async with house.service() as service, asyncio.timeout(200):
            await talk(Desk(folder, service, policy))

    run_virtual(main())
    return house


async def speak(line: HandLine, *sounds: Pcm) -> None:
    for sound in sounds:
        await line.say(sound)
    while True:
        await line.silent(0.2)


@pytest.mark.parametrize(
    ("policy", "detail"), [("leave_message", "message left"), ("hang_up", "answering machine")]
)
def test_a_machine_gets_what_the_settings_say(
    tmp_path: Path, policy: AnsweringMachinePolicy, detail: str
) -> None:
    async def talk(desk: Desk) -> None:
        order = await desk.order()
        far_end = asyncio.create_task(speak(desk.line, *MACHINE))
        outcome = await desk.calls.answer(desk.line)
        far_end.cancel()
        assert outcome == CallOutcome(True, detail)
        assert desk.over(order) == ("over", detail)
        assert desk.line.hung_up == "goodbye"

    house = on_the_phone(tmp_path, talk, "Hi, you've reached Anna.", "leave a message", policy=policy)
    assert [turn.heard for turn in house.observed.agent] == (
        [CALLER.leaving_message().goodbye] if policy == "leave_message" else []
    )


def test_a_message_that_the_machine_cut_off_was_not_left(tmp_path: Path) -> None:
    async def talk(desk: Desk) -> None:
        order = await desk.order()
        far_end = asyncio.create_task(speak(desk.line, *MACHINE))
        answering = asyncio.create_task(desk.calls.answer(desk.line))
        while desk.line.play_end_s == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        desk.line.close()
        await answering
        far_end.cancel()
        assert desk.over(order) == ("over", "caller hung up")

    on_the_phone(tmp_path, talk, "Hi, you've reached Anna.", "leave a message")


def test_a_server_that_stops_waits_for_phones_that_ring_and_for_who_is_listened_to(tmp_path: Path) -> None:
    async def talk(desk: Desk) -> None:
        order = await desk.order()
        loop = asyncio.get_running_loop()
        draining = asyncio.create_task(desk.calls.drain(60.0))
        await asyncio.sleep(5.0)
        assert (draining.done(), desk.calls.live) == (False, 0)
        far_end = asyncio.create_task(speak(desk.line, *SOMEBODY))
        answering = asyncio.create_task(desk.calls.answer(desk.line))
        await asyncio.sleep(0.3)
        assert (draining.done(), desk.calls.live) == (False, 1)
        await asyncio.sleep(6.0)
        desk.line.close()
        await answering
        far_end.cancel()
        assert desk.calls.live == 0
        assert not draining.done()
        began_s = loop.time()
        await draining
        assert loop.time() - began_s < 3.0
        assert desk.over(order) == ("over", "caller hung up")

    on_the_phone(tmp_path, talk)


def test_who_hangs_up_while_we_listen_was_reached(tmp_path: Path) -> None:
    async def talk(desk: Desk) -> None:
        order = await desk.order()
        answering = asyncio.create_task(desk.calls.answer(desk.line))
        await desk.line.silent(0.5)
        desk.line.close()
        assert await answering == CallOutcome(True, "caller hung up")
        assert desk.over(order) == ("over", "caller hung up")
        assert desk.calls.live == 0

    on_the_phone(tmp_path, talk)


def test_ears_that_fail_end_this_call_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(screening: object) -> None:
        raise ModelFailed("no ears")

    monkeypatch.setattr("pipeline.screening.Screening.listen", fail)

    async def talk(desk: Desk) -> None:
        order = await desk.order()
        assert await desk.calls.answer(desk.line) == CallOutcome(False, "ModelFailed: no ears")
        assert desk.over(order) == ("over", "ModelFailed: no ears")
        assert desk.line.hung_up == "apology"
        assert desk.calls.live == 0

    on_the_phone(tmp_path, talk)


def test_a_call_of_a_process_before_this_one_is_hung_up(tmp_path: Path) -> None:
    async def talk(desk: Desk) -> None:
        desk.line.info = LineInfo("call-1", "twilio", parameters={ORDER_PARAMETER: "unknown"})
        for dialler in (desk.dialler, None):
            desk.calls.dialler = dialler
            assert not (await desk.calls.answer(desk.line)).completed
            assert desk.line.hung_up == "goodbye"

    assert on_the_phone(tmp_path, talk).observed.agent == []


def test_who_has_just_gone_spoils_nothing_where_we_hang_up(tmp_path: Path) -> None:
    class Gone(HandLine):
        async def hang_up(self, reason: HangUpReason) -> None:
            raise LineClosed("caller hung up")

    async def talk(desk: Desk) -> None:
        desk.line = Gone()
        desk.line.info = LineInfo("call-1", "twilio", parameters={ORDER_PARAMETER: "unknown"})
        assert (await desk.calls.answer(desk.line)).reason == "no such order"
        desk.line.info = LineInfo("call-2", "twilio", parameters={RESUMED_PARAMETER: "inbound"})
        assert (await desk.calls.answer(desk.line)).reason == "lost"
        desk.calls.admission.close()
        assert (await desk.calls.answer(desk.line)).reason == "busy"

    on_the_phone(tmp_path, talk)


def test_other_lines_may_tell_of_orders_of_their_own(tmp_path: Path) -> None:
    async def talk(desk: Desk) -> None:
        await desk.order(kind="asterisk")
        answering = asyncio.create_task(desk.calls.answer(desk.line))
        await desk.line.end_of_reply()
        desk.line.close()
        assert (await answering).completed

    assert on_the_phone(tmp_path, talk).observed.agent[0].text == PERSONA.greeting


class Deploy:
    """A server that is told to stop, as its balancer and its callers see it. In virtual time."""

    def __init__(self, house: House, service: CallService) -> None:
        self.house = house
        self.calls = Calls(service)

    async def asked(self, *, times: int) -> None:
        """By a balancer, for readiness."""
        for _ in range(times):
            self.calls.places_told()
            await asyncio.sleep(2.0)

    async def hold(self, call_id: str, talk_s: float) -> CallOutcome:
        line = HandLine()
        line.info = LineInfo(call_id, "twilio")
        answering = asyncio.create_task(self.calls.answer(line))
        await line.silent(talk_s)
        line.close()
        return await answering


def deployed(run: Callable[[Deploy], Awaitable[None]]) -> None:
    house = House()

    async def main() -> None:
        async with house.service() as service, asyncio.timeout(300):
            await run(Deploy(house, service))

    run_virtual(main())


def test_until_a_balancer_has_noticed_calls_are_still_taken() -> None:
    async def run(deploy: Deploy) -> None:
        calls, loop = deploy.calls, asyncio.get_running_loop()
        await deploy.asked(times=3)
        draining = asyncio.create_task(calls.drain(60.0))
        await asyncio.sleep(3.0)
        assert calls.draining
        assert not calls.accepting(), "a trunk asks elsewhere at once"
        assert calls.handed_over, "each connection is closed behind its answer"
        assert calls.admission.take("CA1"), "the balancer may not have asked yet"
        assert (await deploy.hold("CA1", 5.0)).completed
        assert not calls.admission.take("CA2")
        assert not calls.handed_over
        began_s = loop.time()
        await draining
        assert loop.time() - began_s < 3.0

    deployed(run)


@pytest.mark.parametrize(("times", "before_s", "waits_s"), [(3, 0.0, 8.0), (3, 60.0, 0.0), (1, 0.0, 0.0)])
def test_an_idle_server_waits_for_a_balancer_and_for_nobody_else(
    times: int, before_s: float, waits_s: float
) -> None:
    async def run(deploy: Deploy) -> None:
        loop = asyncio.get_running_loop()
        await deploy.asked(times=times)
        await asyncio.sleep(before_s)
        began_s = loop.time()
        await deploy.calls.drain(60.0)
        assert loop.time() - began_s == pytest.approx(waits_s, abs=0.3)

    deployed(run)


def test_questions_that_waited_while_models_were_loaded_are_no_balancer() -> None:
    async def run(deploy: Deploy) -> None:
        for _ in range(20):
            deploy.calls.places_told()
        draining = asyncio.create_task(deploy.calls.drain(60.0))
        await asyncio.sleep(0.01)
        assert draining.done()

    deployed(run)


def test_whoever_hurries_waits_for_no_balancer() -> None:
    async def run(deploy: Deploy) -> None:
        loop = asyncio.get_running_loop()
        await deploy.asked(times=3)
        began_s = loop.time()
        await deploy.calls.drain(60.0, lambda: loop.time() > began_s + 1.0)
        assert loop.time() - began_s < 1.3
        assert deploy.calls.admission.closing

    deployed(run)


@pytest.mark.parametrize("handed_over", [False, True])
def test_a_call_that_was_promised_before_the_signal_is_taken(handed_over: bool) -> None:
    """Its webhook is answered, its stream is on its way, over a connection that is ours."""

    async def run(deploy: Deploy) -> None:
        assert deploy.calls.admission.take("CA1")
        draining = asyncio.create_task(deploy.calls.drain(60.0, handed_over=handed_over))
        await asyncio.sleep(2.0)
        assert not draining.done()
        assert (await deploy.hold("CA1", 20.0)).completed
        await draining

    deployed(run)


@pytest.mark.parametrize("after_s", [0.0, 1.0])
def test_a_server_that_stops_waits_for_a_caller_whose_line_was_lost(after_s: float) -> None:
    async def run(deploy: Deploy) -> None:
        talking = asyncio.create_task(deploy.hold("CA1", 5.0))
        await asyncio.sleep(1.0)
        draining = asyncio.create_task(deploy.calls.drain(60.0))
        await talking
        await asyncio.sleep(after_s)
        assert deploy.calls.admission.take("CA1", goes_on=True)
        await asyncio.sleep(5.0)
        assert not draining.done()
        assert (await deploy.hold("CA1", 20.0)).completed
        await draining

    deployed(run)


def test_who_comes_back_as_the_time_is_up_hears_a_goodbye() -> None:
    async def run(deploy: Deploy) -> None:
        draining = asyncio.create_task(deploy.calls.drain(20.0))
        assert deploy.calls.admission.take("CA1", goes_on=True)
        await deploy.hold("CA1", 19.5)
        assert deploy.calls.admission.take("CA1", goes_on=True)
        await asyncio.sleep(1.0)
        line = HandLine()
        line.info = LineInfo("CA1", "twilio")
        answering = asyncio.create_task(deploy.calls.answer(line))
        talking = asyncio.create_task(line.silent(60.0))
        await draining
        assert line.hung_up == "shutdown"
        talking.cancel()
        await answering

    deployed(run)


def test_a_socket_that_was_taken_before_it_was_handed_over_may_still_say_whose_it_is() -> None:
    async def run(deploy: Deploy) -> None:
        draining = asyncio.create_task(deploy.calls.drain(60.0, handed_over=True))
        await asyncio.sleep(0.5)
        assert (await deploy.hold("CA1", 10.0)).completed
        await draining

    deployed(run)
