"""Profiles: which models make up one process, and how they are loaded. Data only."""

from dataclasses import dataclass

from models.base import ModelError

STAND_INS = "scripted"


@dataclass(frozen=True, slots=True)
class Profile:
    """Names of the catalogue; the voice is a package of its own (`models.hibari`)."""

    name: str
    title: str
    stt: str
    llm: str
    vad: str = "silero-vad"
    sequences: int = 6
    """Calls whose conversation the language model keeps at once."""
    context_tokens: int = 12_288
    """Of all calls together; `models.llama.LlamaChat` says how they share it."""
    gpu: bool = False
    note: str = ""

    @property
    def model_names(self) -> tuple[str, ...]:
        """What `maya models pull` fetches for this profile."""
        return (self.stt, self.llm, self.vad)


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            "embedded",
            "Bundled models on a laptop's CPU",
            stt="whisper-base",
            llm="qwen2.5-coder-1.5b",
        ),
        Profile(
            "tiny",
            "The smallest bundled models, for fast tests; its answers are nonsense",
            stt="whisper-tiny.en",
            llm="smollm2-135m",
            context_tokens=8_192,
        ),
        Profile(
            "maya",
            "Larger models on a CUDA device (Built with Llama)",
            stt="whisper-large-v3-turbo",
            llm="llama-3.2-3b",
            sequences=12,
            context_tokens=32_768,
            gpu=True,
            note="The voice is the bundled one until CSM-1B lands.",
        ),
    )
}


def find_profile(name: str) -> Profile:
    """The profile of real models of that name. Raises `ModelError` naming the known ones."""
    try:
        return PROFILES[name]
    except KeyError:
        known = ", ".join([*PROFILES, STAND_INS])
        raise ModelError(f"No profile is called {name!r}. Known: {known}.") from None
