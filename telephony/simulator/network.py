"""The phone network between the caller's ear and Twilio's edge, as delay, jitter and loss drawn from a seed.

    caller's mouth --- phone leg up ---> Twilio's edge --- WebSocket ---> server
    caller's ear  <-- phone leg down --- Twilio's edge <-- WebSocket ---  server

All of the modelled network lies on the two phone legs. The WebSocket is the real one (or, in virtual time,
one without delay), so the edge of Twilio and the edge of the server are the same place here. One way takes
`delay_ms` on average and uniformly up to `jitter_ms` more or less, drawn per AudioFrame.

Up: an AudioFrame is handed to the server the moment it reaches the edge, never before the one ahead of it, so
the server sees the jitter. A lost AudioFrame is concealed with silence: Twilio's stream has no holes.
Down: the caller's phone hides jitter behind a playout buffer of `jitter_ms`, so sound is heard `delay_ms +
jitter_ms` after Twilio played it, evenly; a lost AudioFrame is heard as 20 ms of silence.

Hence, for one response: gap at the ear = gap at the edge + the way up of the caller's last sample +
delay_ms + jitter_ms.
"""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NetworkModel:
    """`loss` is a probability; the same `seed` gives the same network, packet for packet."""

    delay_s: float
    jitter_s: float
    loss: float
    seed: int

    @property
    def ear_delay_s(self) -> float:
        """From Twilio's playback to the caller's ear."""
        return self.delay_s + self.jitter_s


@dataclass(frozen=True, slots=True)
class Arrival:
    at_s: float
    lost: bool


class UpwardLeg:
    """Mouth to edge."""

    def __init__(self, network: NetworkModel) -> None:
        self._network = network
        self._random = random.Random(f"up {network.seed}")
        self._latest_s = 0.0

    def carry(self, sent_s: float) -> Arrival:
        """When what leaves the phone at `sent_s` reaches the edge. Order is kept."""
        network = self._network
        delay_s = network.delay_s + self._random.uniform(-network.jitter_s, network.jitter_s)
        self._latest_s = max(self._latest_s, sent_s + max(delay_s, 0.0))
        return Arrival(self._latest_s, self._random.random() < network.loss)


class DownwardLeg:
    """Edge to ear: which 20 ms of the ear's time axis are lost."""

    def __init__(self, network: NetworkModel) -> None:
        self._loss = network.loss
        self._random = random.Random(f"down {network.seed}")
        self._lost: list[bool] = []

    def lost(self, audio_frame: int) -> bool:
        """Whether AudioFrame number `audio_frame` of the ear's time axis is lost; asked in any order."""
        while len(self._lost) <= audio_frame:
            self._lost.append(self._random.random() < self._loss)
        return self._lost[audio_frame]
