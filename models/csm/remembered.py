"""What one call's voice knows: the codes of what it said, and of what the caller said."""

from collections.abc import Mapping, Sequence
from typing import Literal

from models.base import AgentSpeech, CallerSpeech, Speech
from models.csm.context import Said, Segment, heard_segments
from models.csm.stepping import Codes

ContextKind = Literal["audio", "text", "nothing"]

LONGEST_TURN_S = 30.0
"""The caller's speech is shown with its sound up to this length: beyond, it would push out the rest."""
MOST_CODEC_FRAMES = 4 * 2048
"""Four windows of codes, 1 MB: what lies further back is outside every context."""


class Remembered:
    """By key. `shared` holds the utterances that all calls know."""

    def __init__(
        self, shared: Mapping[str, Sequence[Said]], kind: ContextKind, speaker: int, caller_speaker: int
    ) -> None:
        self._shared = shared
        self._kind = kind
        self._speaker = speaker
        self._caller_speaker = caller_speaker
        self._said: dict[str, list[Said]] = {}
        self._heard: dict[str, Codes | None] = {}
        """Codes of the caller's speech by key; None while they are on their way."""
        self._words_only: set[str] = set()

    # What was said

    def begin(self, utterance: str, text: str) -> Said:
        """A new utterance, or the next part of one."""
        said = Said(text)
        if utterance:
            self._said.setdefault(utterance, []).append(said)
        return said

    def forget(self, utterance: str) -> None:
        """Before it is spoken anew."""
        self._said.pop(utterance, None)

    def parts(self, utterance: str) -> Sequence[Said]:
        return self._said.get(utterance) or self._shared.get(utterance, ())

    # What was heard

    def to_encode(self, context: Sequence[Speech]) -> list[CallerSpeech]:
        """The caller's speech whose codes are wanted and that nobody has asked for yet."""
        if self._kind != "audio":
            return []
        return [
            speech
            for speech in context
            if isinstance(speech, CallerSpeech)
            and speech.audio is not None
            and 0 < speech.audio.size <= LONGEST_TURN_S * speech.sample_rate_hz
            and speech.key not in self._heard
            and speech.key not in self._words_only
        ]

    def asked(self, key: str) -> None:
        self._heard[key] = None

    def encoded(self, key: str, codes: Codes | None) -> None:
        """None: there will be none; the words have to do."""
        if key not in self._heard:
            return
        if codes is None:
            del self._heard[key]
            self._words_only.add(key)
        else:
            self._heard[key] = codes

    def on_their_way(self, context: Sequence[Speech]) -> list[str]:
        return [speech.key for speech in context if isinstance(speech, CallerSpeech) and self._waits(speech)]

    def _waits(self, speech: CallerSpeech) -> bool:
        unsettled = speech.key not in self._words_only
        return unsettled and speech.key in self._heard and self._heard[speech.key] is None

    def stale(self, context: Sequence[Speech]) -> list[str]:
        """Keys of codes on their way that this context has no use for; they are forgotten."""
        wanted = {speech.key for speech in context if isinstance(speech, CallerSpeech)}
        stale = [key for key, codes in self._heard.items() if codes is None and key not in wanted]
        for key in stale:
            del self._heard[key]
        return stale

    def settle(self, context: Sequence[Speech]) -> None:
        """Go on with the words of what is still on its way: the rows that follow are evaluated after words
        only, and codes that come later would void them."""
        self._words_only.update(self.on_their_way(context))

    def unsettle(self) -> bool:
        """All rows are built anew: late codes may take their place. False when there are none."""
        late = {key for key in self._words_only if self._heard.get(key) is not None}
        self._words_only -= late
        return bool(late)

    # The context

    def segments(self, context: Sequence[Speech], *, prompt_key: str = "") -> list[Segment]:
        """What the model is shown of it, up to the first speech whose codes are on their way. What the voice
        prompt says already (`prompt_key`) is not said again."""
        segments: list[Segment] = []
        if self._kind == "nothing":
            return segments
        for speech in context:
            if isinstance(speech, AgentSpeech):
                if not prompt_key or speech.utterance != prompt_key:
                    segments += self._agent(speech)
            elif self._waits(speech):
                break
            elif speech.text.strip():
                segments.append(self._caller(speech))
        return segments

    def _agent(self, speech: AgentSpeech) -> list[Segment]:
        words = " ".join(speech.text.split())
        parts = self.parts(speech.utterance)
        if self._kind == "text" or not any(part.n_codec_frames for part in parts):
            return [Segment(self._speaker, words)] if words else []
        return heard_segments(parts, self._speaker, words=words, heard_s=speech.heard_s)

    def just_said(self, parts: Sequence[Said]) -> list[Segment]:
        """Earlier parts of the utterance that is being spoken."""
        if self._kind == "text":
            return [Segment(self._speaker, part.text) for part in parts]
        return heard_segments(parts, self._speaker) if self._kind == "audio" else []

    def _caller(self, speech: CallerSpeech) -> Segment:
        with_sound = self._kind == "audio" and speech.key not in self._words_only
        codes = self._heard.get(speech.key) if with_sound else None
        return Segment(self._caller_speaker, " ".join(speech.text.split()), codes)

    def prune(self) -> None:
        """Keep the latest `MOST_CODEC_FRAMES`."""
        said = sum(part.n_codec_frames for parts in self._said.values() for part in parts)
        while said > MOST_CODEC_FRAMES and len(self._said) > 1:
            said -= sum(part.n_codec_frames for part in self._said.pop(next(iter(self._said))))
        heard = sum(len(codes) for codes in self._heard.values() if codes is not None)
        while heard > MOST_CODEC_FRAMES and len(self._heard) > 1:
            key = next(iter(self._heard))
            codes = self._heard.pop(key)
            heard -= 0 if codes is None else len(codes)
            self._words_only.add(key)
