"""What all calls of the CSM voice have in common: its options, its prompt, and utterances voiced once."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from models.base import ModelError
from models.csm.context import Said
from models.csm.ending import EndLimits
from models.csm.prompt import VoicePrompt
from models.csm.remembered import ContextKind
from models.csm.rows import NO_ROWS, segment_rows
from models.csm.shapes import CODEC_FRAME_S, CONTEXT_ROWS
from models.csm.stepping import Rows
from models.csm.text import TextTokenizer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CsmVoiceOptions:
    speaker: int = 0
    """The number in front of the agent's words; that of the voice prompt."""
    caller_speaker: int = 1
    context: ContextKind = "audio"
    """What the voice is shown of the conversation. "audio": words and sound of both sides. "text": the words.
    "nothing": the voice prompt only."""
    prompt: VoicePrompt | None = None
    """None: the first utterance with a `SHARED` key, a greeting, becomes it."""
    temperature: float = 0.9
    seed: int = 0
    """Equal seeds and equal calls give equal samples."""
    rows: int = CONTEXT_ROWS
    """Of a slot's cache."""
    codes_wait_s: float = 0.15
    """How long an utterance may wait for the codes of what the caller just said."""
    most_prebuffer: int = 12
    """CodecFrames that a slow engine may hold back before the first sound."""
    ends: EndLimits = field(default_factory=EndLimits)


class SharedVoice:
    """Lives on the event loop."""

    def __init__(self, tokenizer: TextTokenizer, options: CsmVoiceOptions) -> None:
        """Raises `ModelError` for a voice prompt that fills more than half of the context."""
        self.options = options
        self.tokens = lru_cache(2048)(lambda speaker, text: tuple(tokenizer.encode(speaker, text)))
        """(speaker, text) to the tokens of an utterance."""
        self.utterances: dict[str, Sequence[Said]] = {}
        """Those with a `SHARED` key."""
        self.prompt: Rows = NO_ROWS
        self.prompt_key = ""
        """The shared utterance that became the voice prompt."""
        if options.prompt is not None:
            self.prompt = self._configured(options.prompt)

    def _configured(self, prompt: VoicePrompt) -> Rows:
        options = self.options
        if prompt.speaker != options.speaker:
            log.warning(
                "the voice prompt is of speaker %d, the voice speaks as %d: it will not sound alike",
                prompt.speaker,
                options.speaker,
            )
        rows = segment_rows(self.tokens(prompt.speaker, prompt.text), prompt.codes)
        if len(rows) > options.rows // 2:
            raise ModelError(
                f"The voice prompt takes {len(rows)} of {options.rows} rows: use one of at most"
                f" {options.rows // 3 * CODEC_FRAME_S:.0f} s."
            )
        return rows

    def share(self, key: str, parts: Sequence[Said]) -> bool:
        """Remember an utterance for all calls. True: it has become the voice prompt, for want of one."""
        self.utterances[key] = tuple(parts)
        if len(self.prompt):
            return False
        speaker = self.options.speaker
        built = [segment_rows(self.tokens(speaker, part.text), part.codes()) for part in parts]
        rows = np.concatenate([NO_ROWS, *built])
        if not 0 < len(rows) <= self.options.rows // 2:
            return False
        self.prompt, self.prompt_key = rows, key
        log.warning(
            "no voice prompt is configured: the first greeting, %.1f s as they came out, is the voice of"
            " all calls from now on. Choose a voice with: maya voice prompt FILE --text '...'",
            sum(part.n_codec_frames for part in parts) * CODEC_FRAME_S,
        )
        return True
