"""The model of one replica: the very one that this role has in a process of its own."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from infra.cluster.pacing import PacedSynthesizer
from infra.cluster.roles import Role
from infra.cluster.station import Model
from infra.loading import capacity_of, voice_choice
from infra.settings import Settings
from models.load import load_chat, load_synthesizer, load_transcriber
from models.store import Store

MODEL_SETTINGS = (
    *("profile", "llm", "stt", "tts", "mimi", "tokenizer", "voice_prompt", "speaker", "codec"),
    *("voice_context", "voice_weights", "tts_slots", "threads", "models_dir", "capacity"),
)
"""What a replica is told of the settings: nothing secret."""
_PATHS = {"mimi", "tokenizer", "voice_prompt", "models_dir"}


def told_of(settings: Settings) -> dict[str, Any]:
    """JSON for `load_role`, on a machine with the same paths."""
    told = settings.model_dump(mode="json", include=set(MODEL_SETTINGS), exclude_unset=True)
    for name in _PATHS & {name for name, value in told.items() if value}:
        told[name] = str(Path(told[name]).absolute())
    return told


def settings_of(told: Mapping[str, Any]) -> Settings:
    """Raises `pydantic.ValidationError` for settings that are none."""
    return Settings.model_validate({name: told[name] for name in MODEL_SETTINGS if name in told})


def load_role(role: Role, told: Mapping[str, Any], *, on_gpu: bool) -> tuple[Model, int]:
    """The model and its slots. Blocks for seconds. `on_gpu`: the only GPU that this process sees. Raises
    `ModelError`; `pydantic.ValidationError` for settings that are none. `voice_pace` among what is told slows
    the voice down, for drills."""
    settings = settings_of(told)
    devices = f"{role}=cuda:0" if on_gpu else ""
    store = Store(settings.models_dir)
    capacity = capacity_of(settings, here=False)
    if role == "stt":
        return (
            load_transcriber(
                settings.profile, store, threads=settings.threads, stt=settings.stt or None, devices=devices
            ),
            capacity.stt,
        )
    if role == "llm":
        return (
            load_chat(
                settings.profile,
                store,
                threads=settings.threads,
                llm=settings.llm or None,
                devices=devices,
                calls=capacity.llm,
            ),
            capacity.llm,
        )
    voice = load_synthesizer(
        settings.profile,
        store,
        threads=settings.threads,
        voice=replace(voice_choice(settings), slots=settings.tts_slots or capacity.tts),
        devices=devices,
    )
    pace = told.get("voice_pace")
    return voice if pace is None else PacedSynthesizer(voice, float(pace)), capacity.tts
