"""From tokens to pieces of text: UTF-8 split over tokens, stop strings, and the end of a reply."""

import codecs
from collections.abc import Sequence

from models.llama.sampling import looping


class ReplyText:
    """One reply's text. Feed every chosen token; `done` tells when to stop decoding."""

    def __init__(self, *, max_tokens: int, stops: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._max_tokens = max_tokens
        self._stops = tuple(stops)
        self._before: list[int] = []
        self._tokens: list[int] = []
        self._held = ""
        self.done = max_tokens <= 0

    def follow(self, token: int) -> None:
        """`token` was said before this text begins: no part of it, but perhaps the beginning of a loop."""
        self._before.append(token)

    def push(self, token: int, piece: bytes, *, ends: bool = False) -> str:
        """Text that is certain after `token`, possibly "". `ends`: the token ends the reply and says
        nothing."""
        if self.done:
            return ""
        if ends:
            return self._finish("")
        self._tokens.append(token)
        text = self._held + self._decoder.decode(piece)
        stop = min((at for at in (text.find(s) for s in self._stops) if at >= 0), default=-1)
        if stop >= 0:
            self.done = True
            return text[:stop]
        if len(self._tokens) >= self._max_tokens or looping([*self._before, *self._tokens]):
            return self._finish(text)
        keep = self._beginning_of_a_stop(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _finish(self, text: str) -> str:
        self.done = True
        return (text or self._held) + self._decoder.decode(b"", final=True)

    def _beginning_of_a_stop(self, text: str) -> int:
        """Length of the longest end of `text` that may grow into a stop string."""
        return max(
            (n for stop in self._stops for n in range(1, len(stop)) if text.endswith(stop[:n])),
            default=0,
        )
