"""What a fine-tune is told, and what it tells."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from models.csm.files import CsmFiles
from models.csm.finetune.audio import LOUDNESS_LUFS
from models.csm.finetune.corpus import Wanted
from models.csm.finetune.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Job:
    corpus: Path
    files: CsmFiles
    """The base model; Mimi must be among them."""
    out: Path
    wanted: Wanted = field(default_factory=Wanted)
    splits: Path | None = None
    """Folder with train.txt, dev.txt and test.txt, for a corpus without splits."""
    cache: Path | None = None
    """Where features are kept; default: in `out`."""
    speaker: int = 0
    """The number that the text rows name the speaker by."""
    loudness_lufs: float = LOUDNESS_LUFS
    recipe: Recipe = field(default_factory=Recipe)
    device: str = "cpu"
    at_once: int = 512
    """CodecFrames that go through the decoder together: memory against speed."""
    sample_every: int = 1000
    """Steps between samples of the voice; 0: none."""
    n_samples: int = 3


@dataclass(frozen=True, slots=True)
class Telling:
    """Who is told how it goes on; called on the thread that trains."""

    stage: Callable[[str, int, int], None] = lambda name, done, total: None
    """A stage of `total` units begins, `done` of them done before."""
    advance: Callable[[str], None] = lambda note: None
    """One unit of the stage is done."""
    say: Callable[[str], None] = lambda line: None
    """Something worth a line."""
