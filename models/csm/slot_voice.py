"""One call's CSM voice: one slot of an engine."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress

import numpy as np

from models.base import SHARED, AgentSpeech, CallerSpeech, ModelFailed, Samples, Speech
from models.csm.context import Context, Said, Window, build_context
from models.csm.encoding import EncodeJob
from models.csm.ending import EndRules
from models.csm.engine import Engine
from models.csm.host import EngineHost
from models.csm.listening import Listener
from models.csm.pieces import utterances
from models.csm.prebuffer import Prebuffer
from models.csm.remembered import Remembered
from models.csm.rows import text_rows
from models.csm.shapes import RATE_HZ
from models.csm.shared_voice import SharedVoice
from models.csm.stepping import Codes, Rows
from models.csm.utterance import Utterance

_EXPECTED_PER_CHARACTER = 12.5 / 15
"""CodecFrames."""


class CsmVoice:
    """`models.base.Voice`. One utterance at a time: a new one cancels the one before."""

    sample_rate_hz: int = RATE_HZ

    def __init__(
        self,
        shared: SharedVoice,
        host: EngineHost,
        slot: int,
        *,
        number: int,
        speaker: int,
        on_prompt: Callable[[Rows], None],
        on_closed: Callable[[], None],
    ) -> None:
        """`number` of the call, for its seeds. `on_prompt` is told rows that became the voice prompt."""
        options = shared.options
        self.takes_context = options.context
        self._shared = shared
        self._options = options
        self._host = host
        self._slot = slot
        self._number = number
        self._speaker = speaker
        self._on_prompt = on_prompt
        self._on_closed = on_closed
        self._remembered = Remembered(shared.utterances, options.context, speaker, options.caller_speaker)
        self._window = Window(options.rows)
        self._prebuffer = Prebuffer(options.most_prebuffer)
        self._utterances = 0
        self._speaking: Listener | None = None
        self._wanted: tuple[Speech, ...] | None = None
        """What `prepare` asked for last, until an utterance begins."""
        self._jobs: dict[str, EncodeJob] = {}
        """By the caller's key. Touched on the engine's thread only."""
        self._codes_came = asyncio.Event()
        self._closed = False

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            self._post(lambda engine: engine.close(self._slot))
            self._on_closed()

    def _post(self, fn: Callable[[Engine], object]) -> None:
        """What the end of the engine makes needless anyway."""
        with suppress(ModelFailed):
            self._host.post(fn)

    # Speaking

    async def speak(
        self, text: str, *, utterance: str = "", context: Sequence[Speech] = ()
    ) -> AsyncGenerator[Samples, None]:
        """Yield (1920,) float32 chunks of 80 ms. Nothing for a text without words; a long one is spoken piece
        by piece. Closing ends the engine's work at its next tick. Raises `ModelFailed`."""
        self._remembered.forget(utterance)
        spoken: list[Said] = []
        for piece in utterances(text):
            said = self._remembered.begin(utterance, piece)
            async with aclosing(self._say(said, context, spoken)) as chunks:
                async for chunk in chunks:
                    yield chunk
            spoken.append(said)
        if spoken and utterance.startswith(SHARED) and self._shared.share(utterance, spoken):
            self._on_prompt(self._shared.prompt)

    async def _say(
        self, said: Said, context: Sequence[Speech], before: Sequence[Said]
    ) -> AsyncGenerator[Samples, None]:
        self._check_open()
        self._wanted = None
        await self._caller_codes(context)
        # Closed meanwhile, its slot may be another call's.
        self._check_open()
        listener, utterance = self._request(said, context, before)
        held = self._prebuffer.codec_frames(self._host.stats.rtf, _EXPECTED_PER_CHARACTER * len(said.text))
        self._speaking = listener
        self._host.post(lambda engine: engine.speak(self._slot, utterance))
        try:
            async with aclosing(listener.samples(held)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            self._hush(listener)
        if listener.ended in ("failed", "closed", "cancelled"):
            raise ModelFailed(f"the voice stopped in {said.text[:60]!r}: {listener.ended}")

    def _check_open(self) -> None:
        if self._closed:
            raise ModelFailed("this call's voice is closed")

    def _hush(self, listener: Listener) -> None:
        """The utterance is over, or nobody wants the rest of it."""
        self._prebuffer.spoken(listener.late)
        self._remembered.prune()
        if self._speaking is listener:
            self._speaking = None
            if listener.ended is None and not self._closed:
                self._post(lambda engine: engine.cancel(self._slot))
            self._refresh()

    def _request(
        self, said: Said, context: Sequence[Speech], before: Sequence[Said]
    ) -> tuple[Listener, Utterance]:
        own = text_rows(self._shared.tokens(self._speaker, said.text))
        limits = self._options.ends
        most = limits.most_codec_frames(said.text)
        known = self._context(context, before, needed=len(own) + most + 1)
        # A small cache shortens an utterance rather than refuse it.
        most = min(most, known.room - len(own) - 1)
        if most < limits.least_codec_frames(said.text):
            raise ModelFailed(f"the voice's {self._options.rows} rows have no room for {said.text[:60]!r}")
        rules = EndRules(said.text, limits)
        listener = Listener(said, rules)
        number, self._utterances = self._utterances, self._utterances + 1
        return listener, Utterance(
            rows=np.concatenate([known.rows, own]),
            seed=seed_of(self._options.seed, self._number, number),
            judge=rules.judge,
            most_codec_frames=most,
            on_frame=listener.on_frame,
            on_end=listener.on_end,
            may_end_after=limits.earliest,
            temperature=self._options.temperature,
        )

    # Context

    def word_spans(self, utterance: str) -> Sequence[tuple[float, float]]:
        """Unknown: nothing in CSM tells which CodecFrame belongs to which word."""
        return ()

    def prepare(self, context: Sequence[Speech]) -> None:
        """Have the context evaluated in the background, and the caller's speech in it encoded. During an
        utterance: after it."""
        if self._closed:
            return
        self._wanted = tuple(context)
        for key in self._remembered.stale(context):
            self._post(lambda engine, key=key: self._cancel_codes(engine, key))  # type: ignore[misc]
        self._ask_codes(context)
        self._refresh()

    def _refresh(self) -> None:
        if self._wanted is not None and self._speaking is None and not self._closed:
            # After the agent's words comes the caller: the time to rebuild.
            roomy = bool(self._wanted) and isinstance(self._wanted[-1], AgentSpeech)
            rows = self._context(self._wanted, roomy=roomy).rows
            self._post(lambda engine: engine.prepare(self._slot, rows))

    def _context(
        self,
        context: Sequence[Speech],
        before: Sequence[Said] = (),
        *,
        needed: int | None = None,
        roomy: bool = False,
    ) -> Context:
        rebuilds = self._window.rebuilds
        while True:
            segments = self._remembered.segments(context, prompt_key=self._shared.prompt_key)
            segments += self._remembered.just_said(before)
            known = build_context(
                self._shared.prompt, segments, self._window, self._shared.tokens, needed=needed, roomy=roomy
            )
            # Built anew anyway: codes that came too late for their moment now have their place.
            if self._window.rebuilds == rebuilds or not self._remembered.unsettle():
                return known

    # The caller's sound

    def _ask_codes(self, context: Sequence[Speech]) -> None:
        for speech in self._remembered.to_encode(context):
            self._remembered.asked(speech.key)
            self._encode(speech)

    def _encode(self, speech: CallerSpeech) -> None:
        if speech.audio is None:
            return
        loop, key = asyncio.get_running_loop(), speech.key
        audio, rate_hz = speech.audio, speech.sample_rate_hz

        def on_codes(codes: Codes | None) -> None:
            self._jobs.pop(key, None)
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._encoded, key, codes)

        def begin(engine: Engine) -> None:
            self._jobs[key] = engine.encode(self._slot, audio, on_codes, rate_hz=rate_hz)

        self._post(begin)

    def _cancel_codes(self, engine: Engine, key: str) -> None:
        job = self._jobs.pop(key, None)
        if job is not None:
            engine.cancel_encode(job)

    def _encoded(self, key: str, codes: Codes | None) -> None:
        self._remembered.encoded(key, codes)
        self._codes_came.set()
        self._refresh()

    async def _caller_codes(self, context: Sequence[Speech]) -> None:
        """Wait a moment for codes on their way; then the words have to do."""
        self._ask_codes(context)
        with suppress(TimeoutError):
            async with asyncio.timeout(self._options.codes_wait_s):
                while self._remembered.on_their_way(context):
                    self._codes_came.clear()
                    await self._codes_came.wait()
        self._remembered.settle(context)


def seed_of(seed: int, call: int, utterance: int) -> int:
    """63 bits for one utterance: equal for equal numbers, on every machine."""
    digest = hashlib.blake2b(f"{seed}/{call}/{utterance}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
