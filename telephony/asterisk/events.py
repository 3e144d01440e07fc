"""What both of Asterisk's protocols tell beside a line's own events."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.line import LineEvent


@dataclass(frozen=True, slots=True)
class MediaStarted:
    """`MEDIA_START` of chan_websocket. Nothing here is authenticated. `variables` are the channel's own,
    which only JSON tells."""

    connection_id: str
    channel: str
    channel_id: str
    format: str
    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class UuidReceived:
    """The first message of AudioSocket."""

    uuid: uuid.UUID


@dataclass(frozen=True, slots=True)
class PeerEnded:
    """The peer says that it is over. Nothing follows."""

    reason: str


CallEvent = MediaStarted | UuidReceived | PeerEnded | LineEvent
