"""One house, many calls: set-up, admission, faults that stay where they belong, and closing time."""

import asyncio
from collections.abc import Sequence

import pytest

from models.base import (
    GREEDY,
    Message,
    ModelBusy,
    ModelError,
    ModelFailed,
    Samples,
    Sampling,
    VoiceActivityStream,
)
from models.scripted import (
    EnergyVoiceActivity,
    ScriptedChat,
    ScriptedChatSession,
    ScriptedSynthesizer,
    ScriptedVoice,
)
from models.store import Store
from pipeline.call import CallOutcome
from pipeline.events import CallStarted
from pipeline.persona import Persona, WordChoice
from pipeline.service import CallService
from telephony.simulator.virtual_loop import run_virtual
from tests.pipeline.hand_line import HandLine
from tests.pipeline.virtual_calls import PERSONA, House, hears, tone


class FailingDetector(EnergyVoiceActivity):
    def open(self) -> VoiceActivityStream:
        raise ModelFailed("no detector")


class FailingChat(ScriptedChat):
    """Opens once, when the house starts; after `delay_s`, each call gets `error` or its session."""

    def __init__(self, error: Exception | None = None, *, delay_s: float = 0.0) -> None:
        super().__init__()
        self.error = error
        self.delay_s = delay_s

    async def open(self, prefix: Sequence[Message], *, sampling: Sampling = GREEDY) -> ScriptedChatSession:
        if self.prefixes:
            await asyncio.sleep(self.delay_s)
            if self.error is not None:
                raise self.error
        return await super().open(prefix, sampling=sampling)


class FailingSynthesizer(ScriptedSynthesizer):
    """Opens once, when the house starts."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.opened = 0

    async def open(self, voice: str = "", *, speed: float = 1.0) -> ScriptedVoice:
        self.opened += 1
        if self.opened > 1:
            raise self.error
        return await super().open(voice, speed=speed)


class PoisonedDetector(EnergyVoiceActivity):
    """Raises for every batch that holds the stream opened last."""

    def open(self) -> VoiceActivityStream:
        self.poisoned = super().open()
        return self.poisoned

    def probabilities(self, streams: Sequence[VoiceActivityStream], windows: Samples) -> Samples:
        if any(stream is self.poisoned for stream in streams):
            raise ModelFailed("poisoned")
        return super().probabilities(streams, windows)


async def waits(line: HandLine, service: CallService) -> None:
    await line.silent(10)


def test_the_first_caller_waits_for_nothing_that_is_the_same_for_all() -> None:
    house = House()

    async def before_the_call(line: HandLine, service: CallService) -> None:
        assert house.synthesizer.said == [
            PERSONA.greeting,
            PERSONA.pardon,
            PERSONA.still_there,
            PERSONA.last_minute,
            PERSONA.apology,
            PERSONA.goodbye,
        ]
        assert house.chat.prefixes == [PERSONA.prefix()]
        await line.silent(3)

    house.by_hand(before_the_call)
    assert len(house.synthesizer.said) == 6, "the greeting was not voiced again"
    assert house.chat.prefixes == [PERSONA.prefix()] * 2
    assert house.chat.sessions == 0


def test_a_house_whose_models_fail_does_not_open() -> None:
    house = House(synthesizer=ScriptedSynthesizer(fail=lambda text: ModelFailed("hoarse")))
    with pytest.raises(ModelError, match="hoarse"):
        house.by_hand(waits)


def test_a_voice_that_the_synthesizer_does_not_know_is_told_at_the_start() -> None:
    voice = PERSONA.voice.model_copy(update={"name": "nobody"})
    house = House(persona=PERSONA.model_copy(update={"voice": voice}))
    with pytest.raises(ModelError, match="nobody"):
        house.by_hand(waits)


@pytest.mark.parametrize(
    ("broken", "reason", "where"),
    [
        ({"chat": FailingChat(ModelFailed("engine is gone"))}, "failed", "set-up"),
        ({"chat": FailingChat(ModelBusy("all sequences in use"))}, "busy", "admission"),
        ({"synthesizer": FailingSynthesizer(ModelFailed("no voice"))}, "failed", "set-up"),
        ({"synthesizer": FailingSynthesizer(ModelBusy("no slot"))}, "busy", "admission"),
        ({"voice_activity": FailingDetector()}, "failed", "set-up"),
    ],
    ids=["chat fails", "chat busy", "voice fails", "voice busy", "detector fails"],
)
def test_a_call_that_cannot_be_set_up_is_on_record_and_owed_an_apology(
    broken: dict[str, object], reason: str, where: str
) -> None:
    house = House(**broken)  # type: ignore[arg-type]
    line = house.by_hand(waits)
    assert line.hung_up == "apology"
    assert not house.outcomes[0].completed
    assert isinstance(house.observed.events[0], CallStarted)
    assert [fault.where for fault in house.observed.faults] == [where]
    assert [(end.reason, end.outcome) for end in house.observed.ended] == [(reason, "failed")]
    assert house.chat.sessions == 0, "what was reserved is given back"


def test_a_caller_who_is_cut_off_in_set_up_is_on_record() -> None:
    house = House(chat=FailingChat(delay_s=100.0))

    async def call() -> None:
        async with house.service() as service:
            answering = asyncio.create_task(service.answer(HandLine()))
            await asyncio.sleep(1.0)
            answering.cancel()
            with pytest.raises(asyncio.CancelledError):
                await answering
            assert service.live_calls == 0

    run_virtual(call())
    assert [end.outcome for end in house.observed.ended] == ["failed"]


async def _two_calls(house: House, first: list[float], second: list[float]) -> dict[str, CallOutcome]:
    """Two callers at once; each is silent and speaks in turn for the seconds given."""

    async def call(service: CallService, line: HandLine, says: list[float]) -> CallOutcome:
        answering = asyncio.create_task(service.answer(line))
        await line.silent(4.0)
        for seconds in says:
            await line.say(tone("a line of the caller", seconds))
            await line.silent(4.0)
        line.close()
        return await answering

    async with house.service() as service:
        async with asyncio.TaskGroup() as group:
            one = group.create_task(call(service, HandLine("one"), first))
            await asyncio.sleep(0.01)
            other = group.create_task(call(service, HandLine("other"), second))
        assert service.live_calls == 0
    return {"one": one.result(), "other": other.result()}


def test_two_calls_have_two_conversations() -> None:
    house = House(transcriber=hears("first", "second", "third"))
    outcomes = run_virtual(_two_calls(house, [1.0, 1.0], [2.5]))
    assert all(outcome.completed for outcome in outcomes.values())
    assert house.calls["one"].caller == ["first", "third"]
    assert house.calls["other"].caller == ["second"]
    (history,) = [request for request in house.chat.requests if request[-1].content == "third"]
    assert not any(message.content == "second" for message in history)


def _free(temperature: float) -> Persona:
    return PERSONA.model_copy(update={"words": WordChoice(temperature=temperature, top_p=0.95)})


def test_each_call_chooses_its_words_as_its_persona_says() -> None:
    house = House()

    async def calls() -> None:
        async with house.service() as service:
            for number, persona in enumerate((PERSONA, _free(0.8))):
                line = HandLine(f"call-{number}")
                answering = asyncio.create_task(service.answer(line, persona))
                await line.silent(2)
                line.close()
                await answering

    run_virtual(calls())
    *_, plain, drawn = house.chat.samplings
    assert (plain.temperature, drawn.temperature, drawn.top_p) == (0, 0.8, 0.95)
    assert drawn == _free(0.8).words.of("call-1")


@pytest.mark.models
async def test_two_personas_in_one_batch_choose_their_words_differently() -> None:
    from models.llama import LlamaChat

    path = Store(None).path("smollm2-135m")
    gguf = next(path.glob("*.gguf")) if path.is_dir() else path
    chat = await asyncio.to_thread(LlamaChat, gguf, threads=1, context_tokens=4096, sequences=4)
    question = [Message("user", "Tell me about cats.")]

    async def says(persona: Persona, call_id: str) -> str:
        session = await chat.open(persona.prefix(), sampling=persona.words.of(call_id))
        return "".join([piece async for piece in session.reply(question, max_tokens=12)])

    try:
        personas = (PERSONA, PERSONA, _free(1.5), _free(1.5))
        said = await asyncio.gather(*(says(each, f"call-{n}") for n, each in enumerate(personas)))
    finally:
        await chat.aclose()
    # Sums of one batch may round differently: the first words are enough.
    assert said[0].split()[:3] == said[1].split()[:3]
    assert len({said[0], said[2], said[3]}) == 3


def test_a_call_whose_model_fails_leaves_the_other_alone() -> None:
    house = House(transcriber=hears(ModelFailed("no ears"), "second", "third"))
    outcomes = run_virtual(_two_calls(house, [1.0], [2.0, 2.0]))
    assert house.calls["one"].agent[-1].text == PERSONA.apology
    assert house.calls["one"].ended[0].outcome == "failed"
    assert house.calls["other"].caller == ["second", "third"]
    assert house.calls["other"].faults == []
    assert outcomes["other"] == CallOutcome(True, "caller hung up")


def test_a_detector_that_raises_in_a_batch_hurts_only_its_own_call() -> None:
    house = House(voice_activity=PoisonedDetector(), transcriber=hears("hello"))
    outcomes = run_virtual(_two_calls(house, [1.0], [1.0]))
    assert outcomes["one"] == CallOutcome(True, "caller hung up")
    assert house.calls["one"].caller == ["hello"]
    assert not outcomes["other"].completed
    assert house.calls["other"].ended[0].outcome == "failed"


def test_the_last_place_is_free_again_after_its_call() -> None:
    house = House(chat=ScriptedChat(sequences=1))

    async def calls() -> list[CallOutcome]:
        outcomes = []
        async with house.service() as service:
            for number in range(3):
                line = HandLine(f"call-{number}")
                answering = asyncio.create_task(service.answer(line))
                await line.silent(2)
                line.close()
                outcomes.append(await answering)
        return outcomes

    assert run_virtual(calls()) == [CallOutcome(True, "caller hung up")] * 3


def test_closing_time_waits_for_a_call_in_set_up_and_has_it_say_goodbye() -> None:
    house = House(chat=FailingChat(delay_s=1.0))

    async def closing_meanwhile(line: HandLine, service: CallService) -> None:
        await asyncio.sleep(0.5)
        assert service.live_calls == 1
        service.end_politely()
        await line.silent(10)

    line = house.by_hand(closing_meanwhile)
    assert line.hung_up == "shutdown"
    assert house.observed.agent[-1].heard == PERSONA.goodbye
    assert house.outcomes == [CallOutcome(True, "shutdown")]


def test_a_call_that_begins_after_closing_time_is_told_goodbye() -> None:
    house = House()

    async def call() -> HandLine:
        async with house.service() as service:
            service.end_politely()
            line = HandLine()
            answering = asyncio.create_task(service.answer(line))
            await line.silent(10)
            await answering
            return line

    assert run_virtual(call()).hung_up == "shutdown"
    assert house.observed.agent[-1].text == PERSONA.goodbye


def test_a_call_leaves_no_timer_behind() -> None:
    house = House()

    async def calls() -> int:
        async with house.service() as service:
            for number in range(10):
                line = HandLine(f"call-{number}")
                answering = asyncio.create_task(service.answer(line))
                await line.silent(3)
                line.close()
                await answering
            timers = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
            return sum(not timer.cancelled() for timer in timers)

    assert run_virtual(calls()) < 5
