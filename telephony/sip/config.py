"""How this server is reached over SIP, and by whom."""

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from telephony.sip.digest import Algorithm
from telephony.sip.errors import SipConfigError
from telephony.sip.sdp import Codec

Port = Annotated[int, Field(ge=0, le=65_535)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Rate = Annotated[float, Field(gt=0, le=100_000)]


class TrunkConfig(BaseModel):
    """A provider or PBX that we register with and dial through. `host` may be a name: it is the operator's,
    and the one name that is ever looked up."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: Annotated[str, Field(min_length=1, max_length=253)]
    port: Annotated[int, Field(ge=1, le=65_535)] = 5060
    transport: Literal["UDP", "TCP"] = "UDP"
    domain: str = ""
    """What stands behind the @; "" is `host`."""
    user: str = ""
    secret: SecretStr = SecretStr("")
    auth_user: str = ""
    """The name that the secret belongs to where it is not `user`."""
    register_calls: bool = True
    """Register there, so that its calls come here. Off for trunks that know our address."""
    expires_s: Annotated[int, Field(ge=60, le=86_400)] = 600

    @property
    def realm_user(self) -> str:
        return self.auth_user or self.user

    @property
    def at(self) -> str:
        return self.domain or self.host


class SipConfig(BaseModel):
    """Build it with `sip_config`, whose errors tell the operator what to do."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    """Address to bind; "0.0.0.0" or "::" is every one."""
    port: Port = 5060
    """0 takes any free port."""
    udp: bool = True
    tcp: bool = True
    public_address: str = ""
    """The address that others reach us at, where a NAT stands between: it goes into Contact and c=."""
    local_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Peers in these networks get our own address, not the public one."""
    rtp_first_port: Annotated[int, Field(ge=1_024, le=65_534)] = 40_000
    rtp_last_port: Annotated[int, Field(ge=1_025, le=65_535)] = 40_999
    codecs: Annotated[tuple[Codec, ...], Field(min_length=1)] = ("PCMU", "PCMA")
    allow: tuple[IPv4Network | IPv6Network, ...] = ()
    """Who may call without a secret, such as 192.168.1.0/24 or a trunk's addresses."""
    users: dict[str, SecretStr] = Field(default_factory=dict)
    """Names and secrets of those who may call from anywhere."""
    realm: Annotated[str, Field(min_length=1, max_length=64)] = "maya"
    digest: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("MD5",)
    """How `users` may prove their secrets, the preferred way first. SHA-256 is for houses whose phones all
    know it: others (baresip 1.0, sipp 3.6) give up at one that they do not know, wherever it stands."""
    insecure: bool = False
    """Take every call from this machine, and from nowhere else."""
    trunk: TrunkConfig | None = None
    max_calls: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_calls_per_source: Annotated[int, Field(ge=1, le=10_000)] = 100
    busy: Literal[486, 503] = 486
    """What a full house answers, with Retry-After: 486 tells the caller, 503 sends a proxy or trunk on to the
    next of its servers. One that is about to stop always answers 503."""
    invites_per_s: Rate = 50.0
    """New calls, from one source that may call; twice as many at once."""
    messages_per_s: Rate = 2_000.0
    stranger_messages_per_s: Rate = 10.0
    """Messages of one source that has not proved anything."""
    max_connections: Annotated[int, Field(ge=1, le=100_000)] = 256
    session_expires_s: Annotated[int, Field(ge=90, le=86_400)] = 1_800
    min_session_s: Annotated[int, Field(ge=90, le=86_400)] = 90
    """RFC 4028 allows nothing shorter than 90 s."""
    rtp_timeout_s: Seconds = 30.0
    """A call that is not on hold and sends nothing for so long is over."""
    answer_timeout_s: Seconds = 60.0
    """How long a phone that we dial may ring."""
    transfer_timeout_s: Seconds = 40.0
    never_dial: tuple[str, ...] = ()
    """Numbers and beginnings of numbers that are never dialled, besides emergency and premium ones."""
    user_agent: Annotated[str, Field(max_length=64, pattern=r"^[ -~]*$")] = "Maya"

    @model_validator(mode="after")
    def _check(self) -> "SipConfig":
        _literal(self.host, "host")
        if self.public_address:
            _literal(self.public_address, "public_address")
        if not self.udp and not self.tcp:
            raise ValueError("udp and tcp are both off: leave one of them on")
        if self.rtp_last_port <= self.rtp_first_port:
            raise ValueError("rtp_last_port must be above rtp_first_port; each call takes two ports")
        loopback = ip_address(self.host).is_loopback
        if self.insecure and not loopback:
            raise ValueError(
                f"insecure takes calls from this machine only, not on {self.host}: bind 127.0.0.1, or leave "
                "it out and set `allow` or `users`"
            )
        if not (self.insecure or self.allow or self.users or self.trunk):
            raise ValueError(
                "nobody may call: list the networks of your phones or trunk in `allow`, or names and secrets "
                "in `users`, or a `trunk`; an open SIP port is found and misused within minutes"
            )
        if any(not secret.get_secret_value() for secret in self.users.values()):
            raise ValueError("a user without a secret: everybody could call in that name")
        return self

    @property
    def bound_to_all(self) -> bool:
        return ip_address(self.host).is_unspecified

    def secrets(self) -> dict[str, str]:
        return {name: secret.get_secret_value() for name, secret in self.users.items()}


def sip_config(**settings: Any) -> SipConfig:
    """A checked `SipConfig`. Raises `SipConfigError` with one sentence for each thing that is wrong; secrets
    do not show in it."""
    try:
        return SipConfig(**settings)
    except ValidationError as wrong:
        sentences = []
        for error in wrong.errors(include_input=False, include_url=False):
            where = ".".join(str(part) for part in error["loc"])
            what = error["msg"].removeprefix("Value error, ")
            sentences.append(f"{where}: {what}" if where else what)
        raise SipConfigError("SIP: " + "; ".join(sentences)) from None


def parse_bind(text: str) -> tuple[str, int]:
    """Host and port of `0.0.0.0:5060`, `[::]:5060` or `0.0.0.0`. Raises `SipConfigError`."""
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, "5060"
    host = host.strip("[]")
    try:
        ip_address(host)
        number = int(port)
    except ValueError:
        number = -1
    if not 0 <= number <= 65_535:
        raise SipConfigError(
            f"SIP: {text!r} must look like 0.0.0.0:5060: an address of this machine and a port."
        )
    return host, number


def networks(*texts: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """CIDR networks. Raises `SipConfigError`."""
    try:
        return tuple(ip_network(text, strict=False) for text in texts)
    except ValueError as wrong:
        raise SipConfigError(f"SIP: {wrong}: write networks like 192.168.1.0/24") from None


def _literal(text: str, name: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        raise ValueError(f"{name} must be an IP address, not {text!r}") from None
