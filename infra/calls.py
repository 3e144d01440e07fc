"""The running call service with its models, personas and records: what every way in hands its lines to."""

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from infra.admission.desk import Admission, LeaseExpired, NoLineFree
from infra.admission.slots import Capacity
from infra.cluster.front import Cluster, cluster_of
from infra.isolation import keep_apart
from infra.loading import capacity_of
from infra.observe.context import in_call
from infra.observe.health import Checks
from infra.observe.vital import watch_house
from infra.outbound.dialler import Dialler
from infra.outbound.policy import AnsweringMachinePolicy
from infra.reception import House, Reception, read_house
from infra.records.keys import KeyRing
from infra.records.recorder import CallRecords
from infra.resuming import KIND, Resuming, front_end_name
from infra.settings import Settings
from infra.store.serving import open_store, watch_with
from infra.store.store import CallStore
from models.base import Models
from pipeline.events import CallObserver, Observers
from pipeline.line import HangUpReason, Line, LineClosed, LineInfo
from pipeline.persona import Persona
from pipeline.service import CallOutcome, CallService
from telephony.twilio.elsewhere import RESUMED_PARAMETER
from telephony.twilio.routes import ORDER_PARAMETER

log = logging.getLogger(__name__)

_DRAIN_STEP_S = 0.1
_GOODBYE_S = 10.0
"""How long the goodbyes may take once the drain's time is up."""
_AFTER_S = 2.0
"""When we close a stream, Twilio asks `/twilio/after` what to do next; be there to answer."""

_NOTICED_S = 6.0
"""By then a balancer has noticed that we are not ready (ours asks every 2 s, and waits for 2 s), and uvicorn
has closed the connections on which nothing was asked for 5 s."""
_OPENING_S = 1.0
"""Who has connected to us says within that which call it is about."""
_WATCHED_S = 30.0
"""Whoever has asked for readiness twice within that goes by it."""
_BURST_S = 0.5
"""Questions that come together, as those that waited while models were loaded, are one."""
_PARTING_S = 5.0
"""A line on which even hanging up does not end is left alone after this."""
_UNLIMITED = 10_000

_DIAL = ("twilio", "sip")
"""Lines that also bring calls that we make; what others tell beyond their numbers may have any name."""

Watcher = Callable[[LineInfo], CallObserver | None]
"""Gives a call an observer, or none."""


def place_of(info: LineInfo) -> str:
    """Under which name a call has its place: one that we placed had it before it had an id."""
    return (info.parameters.get(ORDER_PARAMETER) if info.kind in _DIAL else None) or info.call_id


class Calls:
    """Made by `open_calls`. `watchers` are asked for an observer when a call begins; `dialler` knows the
    calls that we make ourselves, where there are such; `admission` who has a place, and how many there are.
    `draining` turned true, readiness is off and SIP refuses calls; `handed_over` tells that other processes
    take what comes to the web server's port by and by: what comes here meanwhile is served as ever."""

    def __init__(
        self, service: CallService, reception: Reception | None = None, admission: Admission | None = None
    ) -> None:
        self._service = service
        self._reception = reception
        self.admission = admission or Admission(Capacity.of_calls(_UNLIMITED), ring_s=60.0, lease_s=90.0)
        self.watchers: list[Watcher] = []
        self.vital = Checks()
        """What calls live by: /healthz."""
        self.welcome = Checks()
        """What stands against new calls: /readyz."""
        self.records: CallRecords | None = None
        self.store: CallStore | None = None
        """Where calls are stored; None where the settings want none."""
        self.resuming: Resuming | None = None
        """Calls that go on after their process or their line was lost."""
        self.dialler: Dialler | None = None
        self.draining = False
        self.handed_over = False
        self.cluster: Cluster | None = None
        """Where the models run elsewhere."""
        self._listening = 0
        self._shares_socket = False
        self._asked_at: deque[float] = deque(maxlen=2)
        """When it was asked whether we are ready."""

    @property
    def live(self) -> int:
        """Calls that are on, those where it is still listened who answered included."""
        return self._service.live_calls + self._listening

    @property
    def _ringing(self) -> int:
        return self.dialler.ringing if self.dialler is not None else 0

    @property
    def _waited_for(self) -> int:
        """Of calls whose audio is still to come, those that come to us. Where others have the same socket,
        those are ours whose connections we had taken from it."""
        expected = 0 if self._shares_socket and self.admission.closing else self.admission.ringing
        return self.live + self._ringing + expected

    def accepting(self) -> bool:
        """New calls are welcome."""
        return not self.draining and (self.cluster is None or self.cluster.serving)

    def unwelcome(self) -> dict[str, str]:
        """Why new calls are not, by what stands against them; empty where they are."""
        return self.vital.faults() | self.welcome.faults()

    def places_told(self) -> dict[str, object]:
        """For whoever asks whether we are ready, and so may be a balancer."""
        now = asyncio.get_running_loop().time()
        if not self._asked_at or now - self._asked_at[-1] >= _BURST_S:
            self._asked_at.append(now)
        places = self.admission.view()
        return {"live_calls": self.live, "in_use": places.in_use, "of": places.of}

    async def answer(self, line: Line) -> CallOutcome:
        """Hold the call on `line`, whichever way it came in. Raises nothing but cancellation."""
        with in_call(line.info.call_id):
            return await self._admit(line)

    async def _admit(self, line: Line) -> CallOutcome:
        try:
            async with self.admission.lease(place_of(line.info)) as renew:
                return await self._answer(line, renew)
        except NoLineFree:
            log.warning("call %s turned away: no line is free", line.info.call_id)
            outcome = CallOutcome(False, "busy")
        except LeaseExpired:
            outcome = CallOutcome(False, "no sign of life")
        await _part(line, "apology")
        return outcome

    async def _answer(self, line: Line, renew: Callable[[], None]) -> CallOutcome:
        if line.info.kind == KIND and RESUMED_PARAMETER in line.info.parameters:
            return await self._go_on(line)
        order_id = line.info.parameters.get(ORDER_PARAMETER)
        if order_id is not None and line.info.kind in _DIAL:
            return await self._answer_our_own(line, order_id, renew)
        persona = self._reception.persona_for(line.info) if self._reception is not None else None
        return await self._service.answer(line, persona)

    async def _go_on(self, line: Line) -> CallOutcome:
        """With a call that another process held, or that this one lost the line of."""
        info = line.info
        known = await self.resuming.claim(info.call_id) if self.resuming is not None else None
        if known is None:
            await _part(line, "apology")
            return CallOutcome(False, "lost")
        reception = self._reception
        persona = None if reception is None else reception.called(known.persona)
        if persona is None and reception is not None:
            persona = reception.persona_for(info)
        if persona is not None and info.parameters[RESUMED_PARAMETER] == "outbound":
            persona = persona.calling()
        log.warning("call %s goes on at %.1f s", info.call_id, known.so_far.at_s)
        return await self._service.answer(line, persona, so_far=known.so_far)

    async def _answer_our_own(self, line: Line, order_id: str, renew: Callable[[], None]) -> CallOutcome:
        """Somebody has answered a call that we made."""
        dialler = self.dialler
        ours = dialler.answered(order_id) if dialler is not None else None
        if dialler is None or ours is None:
            # Of a process before this one: who is called out of the blue must not hear our own greeting.
            await _part(line, "goodbye")
            return CallOutcome(False, "no such order")
        order, persona = ours
        outcome = CallOutcome(False, "failed")
        try:
            outcome = await self._talk(line, persona, dialler.answering_machine, renew)
        finally:
            dialler.over(order.id, outcome.reason)
        return outcome

    async def _talk(
        self, line: Line, persona: Persona, for_machines: AnsweringMachinePolicy, renew: Callable[[], None]
    ) -> CallOutcome:
        """With whoever answered: somebody gets the conversation, a machine what the settings say."""
        if for_machines == "talk":
            return await self._service.answer(line, persona)
        try:
            answered, is_machine = await self._listen(line, persona, for_machines, renew)
        except LineClosed as closed:
            return CallOutcome(True, closed.reason)
        except Exception as error:
            log.exception("call %s: who answered cannot be heard", line.info.call_id)
            await _part(line, "apology")
            return CallOutcome(False, f"{type(error).__name__}: {error}")
        if answered is None:
            await _part(line, "goodbye")
            return CallOutcome(True, "answering machine")
        if not is_machine:
            return await self._service.answer(answered, persona)
        outcome = await self._service.answer(answered, persona.leaving_message(), only_goodbye=True)
        said = outcome.reason in ("goodbye", "shutdown")  # not so where the machine has hung up
        return CallOutcome(outcome.completed, "message left" if said else outcome.reason)

    async def _listen(
        self, line: Line, persona: Persona, for_machines: AnsweringMachinePolicy, renew: Callable[[], None]
    ) -> tuple[Line | None, bool]:
        """The line on which to go on, and whether a machine records on it; None where one gets no message.
        Raises `LineClosed`, and what the models raise."""
        self._listening += 1
        try:
            screening = self._service.screen(line)
            try:
                verdict = await screening.listen()
                log.info("call %s: %s answered (%s)", line.info.call_id, verdict.answerer, verdict.why)
                renew()
                is_machine = verdict.answerer == "machine"
                if is_machine:
                    if for_machines == "hang_up" or not persona.outbound.message:
                        return None, True
                    await screening.listened_to_the_end()
                    renew()
                return screening.line, is_machine
            finally:
                screening.close()
        finally:
            self._listening -= 1

    def persona_named(self, name: str) -> Persona | None:
        return self._reception.named(name) if self._reception is not None else None

    async def rehearse(self, persona: Persona) -> None:
        await self._service.rehearse(persona)

    def end_call(self, call_id: str) -> bool:
        """Let the agent say goodbye and hang up. False where that call is not on."""
        return self._service.end_call(call_id)

    def observer(self, info: LineInfo) -> CallObserver:
        watching = filter(None, (watch(info) for watch in self.watchers))
        return Observers(self.admission.observer(place_of(info)), *watching)

    async def drain(
        self, limit_s: float, hurried: Callable[[], bool] = lambda: False, *, handed_over: bool = False
    ) -> None:
        """Make no calls and take no new ones; return when those that are on or ring have ended, at the latest
        after `limit_s` and a goodbye. `hurried` turning true ends the wait at once.

        Who is to go elsewhere must have learnt of it before anybody is refused, or a caller is lost. So for a
        moment what comes is still served as ever: where a balancer asks for readiness, until it has noticed;
        `handed_over` (another process has the listening socket, and we have let go of it), over connections
        that were open. Where nobody looks, new calls are refused at once: nothing would change by waiting."""
        self.draining = True
        self._shares_socket = handed_over
        open_s = min(limit_s, _NOTICED_S) if handed_over or self._is_watched() else 0.0
        letting_go = None
        if open_s > 0:
            self.handed_over = True
            letting_go = asyncio.get_running_loop().call_later(open_s, self._refuse)
        else:
            self._refuse()
        try:
            await self._drain(limit_s, min(open_s, _OPENING_S) if handed_over else open_s, hurried)
        finally:
            if letting_go is not None:
                letting_go.cancel()
            self._refuse()

    def _is_watched(self) -> bool:
        asked = self._asked_at
        return len(asked) == 2 and asyncio.get_running_loop().time() - asked[0] <= _WATCHED_S

    def _refuse(self) -> None:
        self.handed_over = self._shares_socket
        self.admission.close()

    async def _drain(self, limit_s: float, stays_s: float, hurried: Callable[[], bool]) -> None:
        if not self._waited_for and not stays_s:
            return
        log.info(
            "waiting up to %.0f s for %d live call(s) and %d phone(s) that ring",
            limit_s,
            self.live,
            self._ringing + self.admission.ringing,
        )
        clock = asyncio.get_running_loop().time
        deadline = clock() + limit_s
        while True:
            in_time = await self._wait(deadline - clock(), hurried, stays_s)
            if not in_time:
                log.info("saying goodbye to %d live call(s)", self.live)
                self._service.end_politely()
                await self._wait(_GOODBYE_S, hurried)
            if hurried():
                return
            await asyncio.sleep(_AFTER_S)
            # Somebody whose line was lost may be on the way back, or here again.
            if not in_time or not self._waited_for:
                return
            stays_s = 0.0

    async def _wait(self, limit_s: float, hurried: Callable[[], bool], stays_s: float = 0.0) -> bool:
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline, stays_until = began + limit_s, began + stays_s
        while (self._waited_for or loop.time() < stays_until) and not hurried():
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(_DRAIN_STEP_S)
        return True


@asynccontextmanager
async def open_calls(settings: Settings, load: Callable[[], Models]) -> AsyncIterator[Calls]:
    """Load the models in a thread, warm them for the persona, and close everything in the end.

    Raises `DocumentError`, `RecordingKeyError` and `StoreError` before the models are loaded, `ModelError`:
    each says what to do.
    """

    def read() -> House:
        return read_house(settings.persona, settings.routes, recorded=settings.record)

    house = await asyncio.to_thread(read)
    keys = KeyRing.load(os.environ, settings.recording.key_file)
    records = CallRecords(settings.calls_dir, settings.recording, keys) if settings.record else None
    if not settings.store.front_end:
        name = front_end_name(settings)
        named = settings.store.model_copy(update={"front_end": name})
        settings = settings.model_copy(update={"store": named})
    store = await asyncio.to_thread(open_store, settings, keys)
    began = time.monotonic()
    log.info("loading models, profile %s", settings.profile)
    models = await asyncio.to_thread(load)
    names = ", ".join(persona.name for persona in house.personas())
    log.info("models loaded in %.1f s; warming up persona %s", time.monotonic() - began, names)
    service = CallService(models, house.persona, observe=lambda info: calls.observer(info))
    reception = Reception(house, service, read=read)
    admission = Admission(
        capacity_of(settings), ring_s=settings.token_ttl_s, lease_s=settings.capacity.lease_s
    )
    calls = Calls(service, reception, admission)
    calls.cluster = cluster_of(models)
    calls.store = store
    calls.watchers.append(watch_with(records, store))
    calls.resuming = Resuming(store, tls_only=settings.access.tls_certificate is not None)
    calls.watchers.append(calls.resuming.observer)
    calls.records = records
    watch_house(settings, calls, service, models)
    watching: asyncio.Task[None] | None = None
    apart: asyncio.Task[None] | None = None
    try:
        await service.start()
        await reception.open()
        watching = asyncio.create_task(reception.watch(), name="reception")
        apart = asyncio.create_task(keep_apart(), name="isolation")
        log.info("ready for calls after %.1f s", time.monotonic() - began)
        yield calls
    finally:
        for task in filter(None, (watching, apart)):
            task.cancel()
        await service.aclose()
        admission.aclose()
        await models.aclose()
        if records is not None:
            await asyncio.to_thread(records.close)
        if store is not None:
            await asyncio.to_thread(store.close)


async def _part(line: Line, reason: HangUpReason) -> None:
    """Whoever has just gone needs no goodbye, and a line that does not even end is left alone."""
    with contextlib.suppress(TimeoutError, LineClosed):
        async with asyncio.timeout(_PARTING_S):
            await line.hang_up(reason)
