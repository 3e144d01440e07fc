"""What a replica does: one model each."""

from typing import Literal, get_args

Role = Literal["stt", "llm", "tts"]
ROLES: tuple[Role, ...] = get_args(Role)
