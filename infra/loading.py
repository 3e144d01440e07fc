"""Loading what the settings name."""

from dataclasses import replace

from infra.admission.slots import EVERY_MODEL, Capacity
from infra.settings import Settings
from models.base import Models, Synthesizer
from models.voices import VoiceChoice, voice_name

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


def capacity_of(settings: Settings, *, here: bool = True) -> Capacity:
    """Calls that each model is to serve at once: what `[capacity]` says, else what the profile is made for
    and this machine answers in time. `here` False: on other machines, whatever they are. Raises `ModelError`
    for a profile that is none."""
    from models.load import machine_calls, profile_calls

    told = settings.capacity
    here = here and not settings.cluster.address
    own = machine_calls(settings.profile) if here else profile_calls(settings.profile)
    if settings.profile == "scripted" and not voice_name(settings.profile, settings.tts):
        own = _STAND_IN_CALLS  # they keep nothing of a call
    replicas = max(1, settings.devices.count("tts="))
    served = told.capacity(
        llm=own, tts=settings.tts_slots * replicas if settings.tts_slots else told.llm or told.calls or own
    )
    if not settings.cluster.address:
        return served
    # Of each replica; those that Ray adds under load are a reserve, not a promise.
    least = {model: settings.cluster.replicas(model)[0] * served.of(model) for model in EVERY_MODEL}
    most = told.calls or max(least.values())
    return Capacity(**{model: min(most, slots) for model, slots in least.items()})


def load(settings: Settings) -> Models:
    """Load the profile's models, for as many calls as `capacity_of` says. Blocks for seconds. Raises
    `ModelError`."""
    from models.load import load_models
    from models.store import Store

    if settings.cluster.address:
        from infra.cluster.front import connect

        return connect(settings)
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
