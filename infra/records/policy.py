"""What is kept of a call, and for how long."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class RecordingPolicy(BaseModel):
    """One server's rules. Hand it to `infra.records.recorder.CallRecords`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = True
    keep: Literal["audio", "words", "both"] = "both"
    """`audio`: no words, neither the caller's nor the agent's nor keys, but the times of all turns. `words`:
    no recording."""
    encrypt: bool = False
    """Nothing readable reaches the disk. Needs a key (`infra.records.keys`)."""
    key_file: Path | None = None
    """Where keys lie, one a line; MAYA_RECORDINGS_KEY comes first."""
    retention_days: Annotated[float, Field(gt=0, le=36_500)] | None = None
    """Calls that ended longer ago are deleted; None keeps them."""
    pause_allowed: bool = True
    """False: `RecordingPaused` is noted, and recording goes on."""
    consent_required: bool = False
    """Nothing is kept before the first `RecordingResumed`, which whoever asked for consent sends."""

    @property
    def keeps_audio(self) -> bool:
        return self.keep != "words"

    @property
    def keeps_words(self) -> bool:
        return self.keep != "audio"
