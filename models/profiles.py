"""Profiles: which models make up one process, and how they are loaded. Data only."""

from dataclasses import dataclass

from models.base import ModelError

STAND_INS = "scripted"


@dataclass(frozen=True, slots=True)
class Profile:
    """Names of the catalogue."""

    name: str
    title: str
    stt: str
    llm: str
    vad: str = "silero-vad"
    glimpser: str = ""
    """The transcriber that glimpses at voices over the agent's; "" is `stt`."""
    tts: str = ""
    """A voice of CSM, or "" for the bundled one, which is a package of its own (`models.hibari`)."""
    sequences: int = 6
    """Calls whose conversation the language model keeps at once."""
    context_tokens: int = 12_288
    """Of all calls together; `models.llama.LlamaChat` says how they share it."""
    gpu: bool = False
    calls_per_core: float | None = None
    """Calls at once that each core of a processor answers in time, measured; None: not by its cores."""

    @property
    def model_names(self) -> tuple[str, ...]:
        """What `maya models pull` fetches for this profile."""
        glimpser = (self.glimpser,) if self.glimpser else ()
        return (self.stt, self.llm, self.vad, *glimpser, *voice_models(self.tts))


CODEC = "mimi"
TOKENIZER = "llama-3-tokenizer"


def voice_models(tts: str) -> tuple[str, ...]:
    """What the voice `tts` of CSM is loaded from: its weights, the codec and the tokenizer."""
    return (tts, CODEC, TOKENIZER) if tts else ()


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            "embedded",
            "Bundled models on a laptop's CPU",
            stt="whisper-base",
            llm="qwen2.5-coder-1.5b",
            glimpser="whisper-tiny.en",
            calls_per_core=1.5,  # `maya bench crowd` on two cores
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
            glimpser="whisper-tiny.en",
            sequences=12,
            context_tokens=32_768,
            tts="csm-1b-expresso",
            gpu=True,
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
