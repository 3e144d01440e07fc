"""One call's voice, asked for one thing at a time."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from models.base import Samples, Speech, Voice


class CallVoice:
    """`models.base.Voice`. A context to prepare waits until the utterance in the making has ended or was
    closed: at a barge-in the cut context is known before the cancelled reply has let go of the voice."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice
        self._speaking = False
        self._wanted: Sequence[Speech] | None = None
        self.sample_rate_hz = voice.sample_rate_hz
        self.takes_context = voice.takes_context

    async def speak(
        self, text: str, *, utterance: str = "", context: Sequence[Speech] = ()
    ) -> AsyncGenerator[Samples, None]:
        self._speaking = True
        try:
            async with aclosing(self._voice.speak(text, utterance=utterance, context=context)) as chunks:
                async for chunk in chunks:
                    yield chunk
        finally:
            self._speaking = False
            wanted, self._wanted = self._wanted, None
            if wanted is not None:
                self._voice.prepare(wanted)

    def word_spans(self, utterance: str) -> Sequence[tuple[float, float]]:
        return self._voice.word_spans(utterance)

    def prepare(self, context: Sequence[Speech]) -> None:
        if self.takes_context == "nothing":
            return
        if self._speaking:
            self._wanted = context
        else:
            self._voice.prepare(context)

    async def aclose(self) -> None:
        await self._voice.aclose()
