"""What a scenario may expect of the call: of the turn or the overlap before a step, or of the whole.

Judged by `telephony.simulator.expectations` when the call is over.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_Text = Annotated[str, Field(min_length=1)]
_Seconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]
_GAP = re.compile(r"\s*(<=?|>=?)?\s*(\d+(?:\.\d+)?)\s*(?:s)?\s*")


def _a_text(text: str) -> str:
    if len(text) > 2 and text.startswith("/") and text.endswith("/"):
        try:
            re.compile(text[1:-1])
        except re.error as error:
            raise ValueError(f"{text} is not a regular expression: {error}") from None
    elif not words(text):
        raise ValueError(f'"{text}" holds no word')
    return text


def _a_gap(value: object) -> object:
    if isinstance(value, str) and not _GAP.fullmatch(value):
        raise ValueError(f'a gap reads 1.5 (at most), "< 1.5" or "> 0.2" (seconds), not "{value}"')
    return value


def words(text: str) -> str:
    """The words of `text`, folded, each with a space before and behind: what expectations compare."""
    found = re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.replace("\u2019", "'").casefold())
    return f" {' '.join(found)} " if found else ""


_Pattern = Annotated[_Text, AfterValidator(_a_text)]
_Limit = Annotated[_Seconds | str, BeforeValidator(_a_gap)]


class _Expectations(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="after")
    def _of_something(self) -> Self:
        if not self.wanted():
            raise ValueError(f"expect what? ({', '.join(self._names())})")
        return self

    @classmethod
    def _names(cls) -> list[str]:
        return [name for name in cls.model_fields if name != "kind"]

    def wanted(self) -> dict[str, Any]:
        """The expectations that were written down, by name."""
        return {name: value for name in self._names() if (value := getattr(self, name)) is not None}


class Expect(_Expectations):
    """What must hold for the caller's turn, or the overlap, just before. Judged when the call is over.

    Texts are words in their order, whatever the case and punctuation; the last one may go on ("saturday"
    fits "Saturdays", "noon" does not fit "afternoon"); `/.../` is a regular expression, case ignored. `gap`
    and `edge_gap` are seconds: 1.5 (at most), "< 1.5", "> 0.2".
    """

    kind: Literal["expect"] = "expect"
    transcript: _Pattern | None = None
    """What the server understood of the turn."""
    reply: _Pattern | None = None
    """What the agent said in answer to the turn."""
    heard: _Pattern | None = None
    """What the caller heard of that answer."""
    gap: _Limit | None = None
    """Response gap at the caller's ear."""
    edge_gap: _Limit | None = None
    """Response gap at the server's edge."""
    no_stop: bool | None = None
    """True: the agent talked on through the overlap. False: it stopped."""
    stop_within: _Seconds | None = None
    """The overlap stopped the agent, and its last sample was heard so soon, at the server's edge."""
    no_cut_off: bool | None = None
    """True: the agent did not begin to speak within the turn."""


class Throughout(_Expectations):
    """What must hold for every turn and every overlap of the call. `gap`, `edge_gap` and `no_cut_off` are
    about the turns (not about one that the caller did not wait to have answered), `no_stop` about
    backchannels and sounds, `stop_within` about interruptions; see `Expect`."""

    gap: _Limit | None = None
    edge_gap: _Limit | None = None
    no_cut_off: bool | None = None
    no_stop: bool | None = None
    stop_within: _Seconds | None = None
    no_violations: Literal[True] | None = None
    """The server kept to the protocol."""
    ending: Literal["caller hung up", "agent hung up", "connection dropped"] | None = None
