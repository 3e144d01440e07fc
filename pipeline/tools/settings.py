"""What a persona says of its tools, of where it may pass callers on to, and of keys. Pure."""

import ipaddress
import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_FROZEN = ConfigDict(frozen=True, extra="forbid")
_Text = Annotated[str, Field(min_length=1)]

BuiltIn = Literal[
    "hang_up", "transfer", "press_keys", "take_message", "say_time", "pause_recording", "resume_recording"
]
ToolName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
SpokenName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_ -]{0,39}$")]
"""What the language model may name: it never sees the number behind it."""
Target = Annotated[str, Field(pattern=r"^(\+[1-9][0-9]{5,14}|sips?:[^\s<>\"]{3,200})$")]
"""A number in E.164 form, or a SIP URI."""
Keys = Annotated[str, Field(pattern=r"^[0-9A-D*#]{1,64}$")]

PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
SECRET = re.compile(r"\{env:([A-Za-z_][A-Za-z0-9_]*)\}")


class Parameter(BaseModel):
    """One argument of an HTTP tool."""

    model_config = _FROZEN
    type: Literal["string", "integer", "number", "boolean"] = "string"
    description: str = ""
    enum: tuple[str, ...] = ()
    required: bool = True

    @model_validator(mode="after")
    def _words_only(self) -> Self:
        if self.enum and self.type != "string":
            raise ValueError("enum lists strings; leave type out")
        return self


class HttpExample(BaseModel):
    """See `pipeline.tools.Example`."""

    model_config = _FROZEN
    caller: _Text
    arguments: dict[ToolName, str | int | float | bool] = Field(default_factory=dict)
    result: str = ""
    answer: str = ""


class HttpTool(BaseModel):
    """One request to one host. What `url` and `body` do not name goes into the query of a GET, and into a
    JSON body otherwise."""

    model_config = _FROZEN
    name: ToolName
    description: _Text
    """What it is for, in a few words; the language model decides by them."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    url: _Text
    """https, or http on this machine; `{parameter}` only in the path and the query."""
    parameters: dict[ToolName, Parameter] = Field(default_factory=dict)
    headers: dict[str, str] = Field(default_factory=dict)
    """`{env:NAME}` is read from the environment when the persona is loaded."""
    body: dict[str, str] | None = None
    """A JSON object; `{parameter}` in its values."""
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 5.0
    max_bytes: Annotated[int, Field(ge=1, le=1 << 20)] = 1 << 16
    allow_private: bool = False
    """Addresses of this machine's own network are meant."""
    side_effects: bool | None = None
    """It changes something: at most once in a caller's turn. By default what is no GET does."""
    cancellable: bool = True
    """A caller who interrupts stops it."""
    example: HttpExample | None = None

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        check_url(self.url)
        used = set(PLACEHOLDER.findall(self.url))
        used.update(name for value in (self.body or {}).values() for name in PLACEHOLDER.findall(value))
        unknown = sorted(used - set(self.parameters))
        if unknown:
            raise ValueError(f"{{{unknown[0]}}} is no parameter of this tool")
        in_path = set(PLACEHOLDER.findall(urlsplit(self.url).path))
        missing = sorted(name for name in in_path if not self.parameters[name].required)
        if missing:
            raise ValueError(f"{missing[0]} stands in the path of the url, so it must be required")
        if self.body is not None and self.method == "GET":
            raise ValueError("a GET has no body")
        return self

    @property
    def changes_something(self) -> bool:
        return self.method != "GET" if self.side_effects is None else self.side_effects


def check_url(url: str) -> None:
    """Raises `ValueError` where a model's words could choose the host, or send secrets in the clear."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is no URL: {error}") from None
    if "{" in parts.scheme + parts.netloc:
        raise ValueError("the host must be fixed: parameters belong in the path, the query or the body")
    if not host or port == 0 or re.search(r"[\s\\]", url):
        raise ValueError(f"{url!r} is no URL with a host")
    if parts.username or parts.password:
        raise ValueError("a password in a URL ends up in logs: use headers")
    if parts.fragment:
        raise ValueError("a fragment (#...) is never sent")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ValueError("only https, or http on this machine (127.0.0.1, ::1, localhost)")


def is_loopback(host: str) -> bool:
    """Whether a host of a URL is this machine, by its spelling alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ToolSettings(BaseModel):
    """Which tools the agent has, and how it waits for them."""

    model_config = _FROZEN
    python: str = ""
    """A Python file beside the persona's own; its public functions are tools."""
    built_in: tuple[BuiltIn, ...] = ()
    http: tuple[HttpTool, ...] = ()
    timeout_s: Annotated[float, Field(gt=0, le=120)] = 10.0
    """For a Python function that says nothing else."""
    filler: str = "One moment, please."
    """Said when a tool takes longer than `filler_after_s`; "": nothing."""
    filler_after_s: Annotated[float, Field(ge=0.1, le=10)] = 0.7
    rounds: Annotated[int, Field(ge=1, le=5)] = 3
    """Tools that one turn of the caller may lead to."""

    @field_validator("python")
    @classmethod
    def _beside(cls, name: str) -> str:
        if name and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\.py", name):
            raise ValueError("name a .py file in the persona's own folder")
        return name


class TransferSettings(BaseModel):
    """Where callers may be passed on to."""

    model_config = _FROZEN
    targets: dict[SpokenName, Target] = Field(default_factory=dict)
    announce: _Text = "I will put you through. One moment, please."
    """Said before a transfer when the agent has said nothing itself."""
