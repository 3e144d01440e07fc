"""Which files a CSM voice consists of. Nothing here opens them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from models.base import ModelError

MERGED = "model_merged.pt"
BASES = (
    MERGED,
    "model.safetensors",
    "ckpt.pt",
    "model.safetensors.index.json",
    "transformers.safetensors.index.json",
)
"""Names of a whole model, best first: the fine-tune's, then sesame/csm-1b's, then transformers' shards."""
MIMI = ("tokenizer-e351c8d8-checkpoint125.safetensors", "mimi.safetensors")
TOKENIZERS = ("tokenizer.json", "tokenizer.model")
PROMPT = "prompt.safetensors"


class CheckpointError(ModelError):
    """A checkpoint cannot be used. The message says why and what to do; nothing of it was loaded.

    `missing`, `unexpected` and `misshapen` name tensors."""

    def __init__(
        self,
        message: str,
        *,
        missing: Iterable[str] = (),
        unexpected: Iterable[str] = (),
        misshapen: Iterable[str] = (),
    ) -> None:
        super().__init__(message)
        self.missing = tuple(missing)
        self.unexpected = tuple(unexpected)
        self.misshapen = tuple(misshapen)


@dataclass(frozen=True, slots=True)
class Parts:
    """Files of a fine-tune that replace parts of a base model; None keeps the base's."""

    decoder: Path | None = None
    audio_head: Path | None = None
    projection: Path | None = None


@dataclass(frozen=True, slots=True)
class CsmFiles:
    """What a folder holds of a voice. `base` is a whole model; the rest may be kept elsewhere (None)."""

    base: Path
    decoder: Path | None = None
    audio_head: Path | None = None
    projection: Path | None = None
    mimi: Path | None = None
    tokenizer: Path | None = None
    prompt: Path | None = None

    @property
    def parts(self) -> Parts | None:
        """For `open_checkpoint`: None when the base is used as it is."""
        if self.decoder is self.audio_head is self.projection is None:
            return None
        return Parts(self.decoder, self.audio_head, self.projection)


def find_csm_files(place: Path) -> CsmFiles:
    """What lies in a folder, or beside a file that is itself the whole model.

    A merged model holds the fine-tuned parts already; with any other base, `decoder.pt`, `audio_head.pt`
    and `projection.pt` replace its own, all three or none. Raises `CheckpointError`."""
    place = place.expanduser()
    if not place.exists():
        raise CheckpointError(f"{place} does not exist; name a folder with {MERGED}, or the file itself")
    folder = place if place.is_dir() else place.parent
    parts = {name: _first(folder, (f"{name}.pt",)) for name in ("decoder", "audio_head", "projection")}
    base = place if place.is_file() else _first(folder, BASES)
    if base is None:
        raise CheckpointError(_no_base(folder, any(parts.values())))
    if base.name == MERGED or not any(parts.values()):
        parts = dict.fromkeys(parts)
    elif absent := [f"{name}.pt" for name, path in parts.items() if path is None]:
        held = [f"{name}.pt" for name, path in parts.items() if path is not None]
        raise CheckpointError(
            f"{folder} holds {' and '.join(held)} but not {' and '.join(absent)}: they were trained "
            f"together. Put {' and '.join(absent)} there, or take {' and '.join(held)} away to use the base"
        )
    return CsmFiles(
        base=base,
        **parts,
        mimi=_first(folder, MIMI),
        tokenizer=_first(folder, TOKENIZERS),
        prompt=_first(folder, (PROMPT,)),
    )


def _first(folder: Path, names: Iterable[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def _no_base(folder: Path, has_parts: bool) -> str:
    if has_parts:
        return (
            f"{folder} holds parts of a fine-tune but no base model: put the model.safetensors of "
            f"sesame/csm-1b beside them, or the fine-tune's {MERGED}"
        )
    return f"{folder} holds no CSM model; one of these is needed: {', '.join(BASES)}"
