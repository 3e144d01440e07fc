"""Loading what the settings name."""

from dataclasses import replace

from infra.admission.slots import Capacity
from infra.settings import Settings
from models.base import Models, Synthesizer
from models.voices import VoiceChoice

_STAND_IN_CALLS = 100


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


def capacity_of(settings: Settings) -> Capacity:
    """Calls that each model is to serve at once: what `[capacity]` says, else what the profile is made for.
    Raises `ModelError` for a profile that is none."""
    from models.load import profile_calls

    told = settings.capacity
    # Stand-ins keep nothing of a call.
    own = _STAND_IN_CALLS if settings.profile == "scripted" else profile_calls(settings.profile)
    replicas = max(1, settings.devices.count("tts="))
    return told.capacity(
        llm=own, tts=settings.tts_slots * replicas if settings.tts_slots else told.llm or told.calls or own
    )


def load(settings: Settings) -> Models:
    """Load the profile's models, for as many calls as `capacity_of` says. Blocks for seconds. Raises
    `ModelError`."""
    from models.load import load_models
    from models.store import Store

    capacity = capacity_of(settings)
    voice = voice_choice(settings)
    if voice.slots is None and settings.capacity.tts is not None:
        voice = replace(voice, slots=-(-capacity.tts // max(1, settings.devices.count("tts="))))
    return load_models(
        settings.profile,
        Store(settings.models_dir),
        threads=settings.threads,
        llm=settings.llm or None,
        stt=settings.stt or None,
        voice=voice,
        devices=settings.devices,
        calls=capacity.llm,
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
