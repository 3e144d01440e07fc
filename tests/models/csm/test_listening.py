import asyncio
import threading

import numpy as np
import pytest

from models.csm.context import Said
from models.csm.ending import EndLimits, EndRules
from models.csm.listening import Listener, faded
from models.csm.utterance import SpokenFrame


def frame(index: int, *, last: bool = False) -> SpokenFrame:
    return SpokenFrame(index, np.full(32, index, np.int32), np.ones(1920, np.float32), last)


def listener(said: Said) -> Listener:
    return Listener(said, EndRules(said.text, EndLimits()))


def test_only_the_first_and_a_cut_end_are_faded() -> None:
    middle = frame(3)
    assert np.array_equal(faded(middle), middle.pcm) and faded(middle) is not middle.pcm
    first, end = faded(frame(0)), faded(frame(5, last=True))
    assert first[0] == 0 and (np.diff(first[:121]) > 0).all() and (first[120:] == 1).all()
    assert end[-1] == 0 and (end[:1440] == 1).all() and (np.diff(end[1440:]) < 0).all()
    only = faded(frame(0, last=True))
    assert only[0] == 0 and only[-1] == 0


async def test_frames_cross_from_another_thread_in_order() -> None:
    said = Said("Hello.")
    ear = listener(said)

    def engine() -> None:
        for index in range(50):
            ear.on_frame(frame(index))
        ear.on_end("end")

    thread = threading.Thread(target=engine)
    thread.start()
    heard = [chunk async for chunk in ear.samples(1)]
    thread.join()
    assert len(heard) == 50 and ear.ended == "end"
    assert said.codes()[:, 0].tolist() == list(range(50))


async def test_what_the_engine_writes_later_into_its_buffers_is_not_heard() -> None:
    said = Said("Hello.")
    ear = listener(said)
    buffer = frame(1)
    ear.on_frame(buffer)
    buffer.pcm[:] = 9
    buffer.codes[:] = 9
    ear.on_end("end")
    heard = [chunk async for chunk in ear.samples(1)]
    assert (heard[0] == 1).all() and said.codes()[0, 0] == 1


async def test_some_are_held_back_and_an_early_end_releases_them() -> None:
    ear = listener(Said("Hello."))
    first = asyncio.ensure_future(anext(ear.samples(3)))
    for index in range(2):
        ear.on_frame(frame(index))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not first.done()
    ear.on_end("cap")
    assert (await first).shape == (1920,)


async def test_repeats_at_the_end_are_not_remembered() -> None:
    said = Said("Hello.")
    rules = EndRules(said.text, EndLimits(repeats=3))
    ear = Listener(said, rules)
    for index, code in enumerate((5, 6, 7, 7, 7)):
        spoken = SpokenFrame(index, np.full(32, code, np.int32), np.ones(1920, np.float32))
        verdict = rules.judge(index, spoken.codes, spoken.pcm)
        assert (verdict is not None) == (index == 4)
        ear.on_frame(spoken)
    ear.on_end("repeat")
    assert len([chunk async for chunk in ear.samples(1)]) == 5
    assert said.codes()[:, 0].tolist() == [5, 6, 7]


def test_an_engine_that_outlives_the_loop_is_not_disturbed() -> None:
    async def make() -> Listener:
        return listener(Said("Hello."))

    ear = asyncio.run(make())
    ear.on_frame(frame(0))
    ear.on_end("closed")
    assert ear.ended is None


async def test_silence_without_a_codec_frame_ends() -> None:
    ear = listener(Said("Hello."))
    ear.on_end("failed")
    with pytest.raises(StopAsyncIteration):
        await anext(ear.samples(2))
