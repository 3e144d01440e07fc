"""A front-end's replicas: which are asked, who is waited for, what a loss means."""

import asyncio

import pytest

from infra.cluster.choice import Patience
from infra.cluster.fleet import NoReplica
from infra.cluster.link import ReplicaLost, ReplicaSlow
from models.base import ModelBusy, ModelError, ModelFailed
from models.scripted import ScriptedChat, ScriptedSynthesizer, ScriptedTranscriber
from tests.infra.cluster_kit import house, stand, until

OPEN = {"prefix": [["system", "x"]]}


async def test_calls_spread_over_replicas_and_the_last_one_is_refused() -> None:
    stands = [stand(name, "llm", ScriptedChat(), slots=2) for name in ("a", "b")]
    async with house(*stands) as there:
        seats = [await there.fleet.seat("llm", "chat.open", OPEN) for _ in range(4)]
        assert sorted(seat.link.where.replica for seat in seats) == ["a", "a", "b", "b"]
        with pytest.raises(ModelBusy):
            await there.fleet.seat("llm", "chat.open", OPEN)
        there.fleet.leave(seats[0])
        there.fleet.leave(seats[0])
        again = await there.fleet.seat("llm", "chat.open", OPEN)
        assert again.link is seats[0].link


async def test_a_lost_connection_tells_whoever_waits_at_once() -> None:
    async with house(stand("a", "stt", ScriptedTranscriber(latency_s=5))) as there:
        link = there.fleet.links("stt")[0]
        answer = link.ask({"op": "transcribe", "ticket": "t"})
        await until(lambda: there.at("a").station.used == 1)
        there.at("a").die()
        with pytest.raises(ReplicaLost):
            await answer.next(1.0)
        assert there.fleet.serving()["stt"] == 0
        with pytest.raises(ReplicaLost):
            link.ask({"op": "transcribe", "ticket": "u"})


async def test_while_there_is_none_one_waits_and_then_gives_up() -> None:
    async with house(patience=Patience(replica=0.1)) as there:
        with pytest.raises(NoReplica):
            await there.fleet.replica("tts")
        late = stand("late", "tts", ScriptedSynthesizer())
        waiting = asyncio.create_task(there.fleet.replica("tts", within_s=3.0))
        await asyncio.sleep(0.02)
        there.fleet.update([late.where])
        assert (await waiting).where.replica == "late"
        await there.fleet.aclose()
        await asyncio.to_thread(late.end)


async def test_one_that_stands_still_while_it_works_for_us_is_noticed() -> None:
    stands = [stand(name, "stt", ScriptedTranscriber(latency_s=9)) for name in ("a", "b")]
    async with house(*stands, stall_s=0.15) as there:
        link = await there.fleet.replica("stt")
        answer = link.ask({"op": "transcribe", "ticket": "t"})
        there.at(link.where.replica).stand_still(1.0)
        with pytest.raises(ReplicaSlow):
            await there.fleet.patient(link, answer, within_s=5.0)
        assert link.stalled
        assert there.fleet.serving()["stt"] == 1
        answer.drop()
        await until(lambda: not link.stalled)
        assert there.fleet.serving()["stt"] == 2


async def test_the_only_one_is_waited_for_while_it_stands_still() -> None:
    async with house(
        stand("a", "stt", ScriptedTranscriber(["Hello."])), stall_s=0.1, patience=Patience(replica=3.0)
    ) as there:
        link = there.fleet.links("stt")[0]
        there.at("a").stand_still(0.6)
        packet = await there.fleet.patient_once(link, {"op": "transcribe", "ticket": "t"}, within_s=5.0)
        assert packet.header["transcript"]["text"] == "Hello."


async def test_a_brief_stall_leaves_the_only_one_its_whole_time() -> None:
    model = ScriptedTranscriber(["Hello."], latency_s=0.8)
    async with house(stand("a", "stt", model), stall_s=0.1, patience=Patience(replica=0.5)) as there:
        link = there.fleet.links("stt")[0]
        there.at("a").stand_still(0.4)
        asking = there.fleet.patient_once(link, {"op": "transcribe", "ticket": "t"}, within_s=5.0)
        assert (await asking).header["transcript"]["text"] == "Hello."


async def test_a_model_that_hangs_behind_live_pings_is_given_up_and_comes_last() -> None:
    async with house(stand("a", "stt", ScriptedTranscriber(latency_s=60))) as there:
        link = there.fleet.links("stt")[0]
        with pytest.raises(ReplicaSlow):
            await there.fleet.patient_once(link, {"op": "transcribe", "ticket": "t"}, within_s=0.2)
        assert not link.stalled
        assert link.failed_at > 0
        await until(lambda: there.at("a").station.used == 0)


async def test_what_a_model_refuses_is_not_asked_of_another_one() -> None:
    stands = [stand(name, "tts", ScriptedSynthesizer()) for name in ("a", "b")]
    async with house(*stands) as there:
        with pytest.raises(ModelError, match="No voice 'nobody'"):
            await there.fleet.seat("tts", "voice.open", {"voice": "nobody"})
        assert all(one.station.used == 0 for one in stands)


class Broken(ScriptedSynthesizer):
    async def open(self, voice: str = "", *, speed: float = 1.0) -> object:  # type: ignore[override]
        raise MemoryError("no memory is left")


async def test_one_whose_memory_is_used_up_is_passed_over() -> None:
    async with house(stand("a", "tts", Broken()), stand("b", "tts", ScriptedSynthesizer())) as there:
        for _ in range(4):
            seat = await there.fleet.seat("tts", "voice.open", {})
            assert seat.link.where.replica == "b"
    async with house(stand("a", "tts", Broken())) as there:
        with pytest.raises(ModelFailed, match="no memory is left"):
            await there.fleet.seat("tts", "voice.open", {})


async def test_one_that_ray_takes_away_keeps_its_calls_and_gets_no_new_ones() -> None:
    stands = [stand(name, "llm", ScriptedChat()) for name in ("a", "b")]
    async with house(*stands) as there:
        seat = await there.fleet.seat("llm", "chat.open", OPEN)
        other = next(one for one in stands if one.where.replica != seat.link.where.replica)
        there.fleet.update([other.where])
        for _ in range(3):
            assert (await there.fleet.seat("llm", "chat.open", OPEN)).link.where is other.where
        assert seat.link.connected
        header = {"op": "chat.reply", "ticket": seat.ticket, "messages": [["user", "hi"]]}
        said = [one async for one in there.fleet.stream(seat.link, header, first_s=1, next_s=1)]
        assert said[0].header["piece"] == "You"
        there.fleet.leave(seat)
        await until(lambda: len(there.fleet.links("llm")) == 1)
