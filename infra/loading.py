"""Loading what the settings name."""

from dataclasses import replace

from infra.settings import Settings
from models.base import Models, Synthesizer
from models.voices import VoiceChoice


def voice_choice(settings: Settings) -> VoiceChoice:
    return VoiceChoice(
        tts=settings.tts,
        mimi=settings.mimi,
        tokenizer=settings.tokenizer,
        prompt=settings.voice_prompt,
        speaker=settings.speaker,
        codec=settings.codec,
        context=settings.voice_context,
        weights=settings.voice_weights,
        slots=settings.tts_slots,
    )


def load(settings: Settings) -> Models:
    """Load the profile's models. Blocks for seconds. Raises `ModelError`."""
    from models.load import load_models
    from models.store import Store

    return load_models(
        settings.profile,
        Store(settings.models_dir),
        threads=settings.threads,
        llm=settings.llm or None,
        stt=settings.stt or None,
        voice=voice_choice(settings),
        devices=settings.devices,
    )


def load_voice(settings: Settings) -> Synthesizer:
    """Load the voice alone, for one text at a time, as fast as it can. Blocks for seconds. Raises
    `ModelError`."""
    from models.load import load_synthesizer
    from models.store import Store

    return load_synthesizer(
        settings.profile,
        Store(settings.models_dir),
        threads=settings.threads,
        voice=replace(voice_choice(settings), slots=1, paced=False),
        devices=settings.devices,
    )
