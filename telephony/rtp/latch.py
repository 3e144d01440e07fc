"""Whose packets are the caller's: symmetric RTP, latched once.

A phone behind NAT sends from another address than its SDP names, so the source of its packets decides where
ours go. Whoever else finds the port must neither be heard nor draw the call's audio to himself.
"""

from collections import Counter
from enum import IntEnum
from typing import Final

Address = tuple[str, int]
"""Literal IP and port."""

PATIENCE_PACKETS: Final = 5
"""A source that the SDP does not name must send so many packets before it is believed: the one that the SDP
does name may be about to speak."""
_MOST_CANDIDATES: Final = 8


class Rank(IntEnum):
    """How well a source fits the SDP."""

    STRANGE = 0
    """Another IP: a phone behind NAT, or a stranger."""
    SAME_IP = 1
    """The SDP's IP, another port: a NAT that renumbers ports, a peer that sends and receives on two, or one
    of the peer's other calls."""
    EXACT = 2


class Latch:
    """`accepts(source)` for each packet. Send to `target`.

    The address that the SDP names latches with its first packet, others with their fifth. A source is kept
    until `open` says otherwise (a re-INVITE), or until one that fits the SDP better speaks up: nobody can
    claim the SDP's own address by merely sending.
    """

    def __init__(self) -> None:
        self._remote: Address | None = None
        self._latched: Address | None = None
        self._rank = Rank.STRANGE
        self._loose = False
        self._candidates: Counter[Address] = Counter()

    def open(self, remote: Address | None, *, quiet: bool = True) -> None:
        """The SDP names `remote`, or nobody yet: whoever speaks next is looked at anew. An offer that merely
        refreshes the session (the same `remote`) changes nothing while the latched source speaks; when it is
        `quiet`, as behind a hold, it is still believed at once, but a patient other one may replace it."""
        self._candidates.clear()
        if remote == self._remote and self._latched is not None:
            self._loose = quiet
            return
        self._remote = remote
        self._latched = None
        self._loose = False

    @property
    def latched(self) -> Address | None:
        return self._latched

    @property
    def target(self) -> Address | None:
        """Where our packets go: the latched source; before that what the SDP says."""
        return self._latched or self._remote

    def accepts(self, source: Address) -> bool:
        if source == self._latched:
            self._loose = False
            return True
        rank = self._rank_of(source)
        if self._latched is not None and rank <= self._rank and not self._loose:
            return False
        if rank < Rank.EXACT and not self._patient(source):
            return False
        self._latched, self._rank, self._loose = source, rank, False
        self._candidates.clear()
        return True

    def _rank_of(self, source: Address) -> Rank:
        if self._remote is None or source[0] != self._remote[0]:
            return Rank.STRANGE
        return Rank.EXACT if source[1] == self._remote[1] else Rank.SAME_IP

    def _patient(self, source: Address) -> bool:
        if source not in self._candidates and len(self._candidates) >= _MOST_CANDIDATES:
            # A sweep over many ports must not fill the memory, nor shut out who comes behind it.
            self._candidates.clear()
        self._candidates[source] += 1
        return self._candidates[source] >= PATIENCE_PACKETS
