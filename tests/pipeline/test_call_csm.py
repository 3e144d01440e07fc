"""Whole calls in virtual time with the CSM voice and its engine, without a model: what a slot holds."""

import asyncio
import itertools
import math

import pytest

from models.csm.engine import Engine
from models.csm.host import LoopHost
from models.csm.shapes import CODEBOOKS, CODEC_FRAME_S
from models.csm.text import BOS
from models.csm.voice import CsmSynthesizer, CsmVoiceOptions
from models.scripted import ScriptedChat, ScriptedTranscriber
from pipeline.events import AgentAudio
from pipeline.line import LINE_RATE_HZ
from pipeline.persona import TurnTaking
from pipeline.service import CallService
from tests.models.csm.voice_kit import SpeakingStepper, byte_tokenizer
from tests.pipeline.hand_line import HandLine
from tests.pipeline.virtual_calls import PERSONA, House, hears, tone

SPOKEN = 40
"""CodecFrames of every utterance: 3.2 s."""
TICK_S = 0.02


def virtual_now() -> float:
    return asyncio.get_running_loop().time()


class ClearedLine(HandLine):
    """Tells when a barge-in reached it."""

    def __init__(self) -> None:
        super().__init__()
        self.cleared = asyncio.Event()

    async def clear(self) -> None:
        await super().clear()
        self.cleared.set()


class CsmHouse(House):
    """One slot, so that the cache of the call can be looked at. The greeting becomes the voice prompt."""

    def __init__(
        self, transcriber: ScriptedTranscriber, chat: ScriptedChat, *, tick_s: float = TICK_S
    ) -> None:
        stepper = SpeakingStepper(1, 2048)
        stepper.ends_at = SPOKEN
        self.engine = Engine(stepper, clock=virtual_now)
        self.stepper = stepper
        host = LoopHost(self.engine, tick_s=tick_s)
        synthesizer = CsmSynthesizer([host], byte_tokenizer(), CsmVoiceOptions())
        # Whoever interrupts is believed at once: the first `clear` is the end of the reply.
        turns = TurnTaking(end_of_turn="silence", endpoint_silence_s=0.7, barge_in="eager")
        persona = PERSONA.model_copy(update={"turns": turns})
        super().__init__(
            transcriber=transcriber,
            chat=chat,
            synthesizer=synthesizer,  # type: ignore[arg-type]
            persona=persona,
        )

    def segments(self) -> list[tuple[list[int], int]]:
        """Of the call's cache: the tokens of each text, and how many CodecFrames follow before its END;
        -1 where the words stand alone."""
        found: list[tuple[list[int], int]] = []
        for row in self.engine.holds(0):
            if row[CODEBOOKS] == BOS:
                found.append(([], -1))
            text, n_codec_frames = found.pop()
            if row[CODEBOOKS] >= 0:
                found.append(([*text, int(row[CODEBOOKS])], n_codec_frames))
            else:
                found.append((text, n_codec_frames + 1))
        return found

    def played_s(self, since_s: float) -> float:
        """Of the agent's voice, in the record."""
        since = round(since_s * LINE_RATE_HZ)
        pieces = [e for e in self.observed.events if isinstance(e, AgentAudio) and e.start_sample >= since]
        return sum(piece.pcm.size for piece in pieces) / LINE_RATE_HZ


def tokens(speaker: int, text: str) -> list[int]:
    return list(byte_tokenizer().encode(speaker, text))


@pytest.mark.parametrize("tick_s", [TICK_S, 2 * CODEC_FRAME_S], ids=["fast", "slower than speech"])
def test_a_barge_in_rewinds_the_slot_to_what_was_played(tick_s: float) -> None:
    """As soon as the step that runs is over; one more evaluates the rows of the cut clause."""
    reply = "I will tell you a story without any comma in it."
    house = CsmHouse(hears("tell me", "stop it"), ScriptedChat([reply, "All right."]), tick_s=tick_s)
    held: list[list[tuple[list[int], int]]] = []

    async def looks(line: HandLine) -> None:
        assert isinstance(line, ClearedLine)
        await line.cleared.wait()
        await asyncio.sleep(2.5 * tick_s)
        held.append(house.segments())

    async def interrupts(line: HandLine, service: CallService) -> None:
        looking = asyncio.create_task(looks(line))
        await line.silent(5)
        await line.say(tone("tell me please"))
        await line.silent(2.5 + 5 * tick_s)
        await line.say(tone("stop it now", 0.5))
        await looking
        await line.silent(8)

    house.by_hand(interrupts, ClearedLine)
    cut = house.observed.agent[1]
    assert cut.interrupted
    assert cut.heard
    ((greeting, caller, agent),) = held
    assert greeting[0] == tokens(0, PERSONA.greeting)
    assert greeting[1] == SPOKEN
    assert caller[0] == tokens(1, "tell me")
    # Where a single step outlasts the time that the caller's codes are waited for, the words have to do.
    part_s, turn_s = house.transcriber.durations_s[:2]
    assert part_s < turn_s, "the words were asked for while the caller spoke, too"
    spoken = math.ceil(turn_s / CODEC_FRAME_S)
    assert caller[1] == (spoken if tick_s == TICK_S else -1)
    assert agent[0] == tokens(0, cut.heard)
    played = house.played_s(cut.times.first_played_s or 0.0) - SPOKEN * CODEC_FRAME_S
    assert agent[1] * CODEC_FRAME_S == pytest.approx(played, abs=CODEC_FRAME_S + 0.06)
    assert 0 < agent[1] < SPOKEN - 5, "what was made and not played is gone"


def test_a_row_is_evaluated_once() -> None:
    """Over a call of whole turns: the caller's while the language model thinks, each clause's words when they
    come, what was spoken never."""
    chat = ScriptedChat(["We open at eight. Come in at noon.", "Goodbye then."], first_token_s=0.5)
    house = CsmHouse(hears("one", "two"), chat)

    async def two_turns(line: HandLine, service: CallService) -> None:
        del house.stepper.prefills[:]
        await line.silent(5)
        await line.say(tone("one one one"))
        await line.silent(9)
        await line.say(tone("two two two"))
        await line.silent(5)

    house.by_hand(two_turns)
    assert [turn.interrupted for turn in house.observed.agent] == [False] * 3
    spans = [(start, start + n_rows) for _, start, n_rows in house.stepper.prefills]
    gaps = [later[0] - earlier[1] for earlier, later in itertools.pairwise(spans)]
    assert gaps == [0, SPOKEN + 1, SPOKEN + 1, 0], "two clauses, and END behind each"
