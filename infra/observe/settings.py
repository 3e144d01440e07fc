"""`[observe]` of the server's settings."""

from typing import Annotated, Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

_TRACES_PATH = "/v1/traces"
"""Where a collector takes spans over HTTP (OTLP specification, section OTLP/HTTP Request)."""


class ObserveSettings(BaseModel):
    """Headers for the collector, which may be secret, come from the environment variable
    OTEL_EXPORTER_OTLP_HEADERS (`name=value`, commas between)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: Literal["off", "viewers", "loopback"] = "loopback"
    """Who may read /metrics: nobody; who shows a key (the role metrics is enough); or whoever asks from this
    machine itself, too."""
    traces_endpoint: str = ""
    """A collector that speaks OTLP over HTTP, such as http://127.0.0.1:4318; "" sends no traces."""
    traces_share: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of how many calls traces are sent."""
    log_format: Literal["text", "json"] = "text"
    """`json`: one object a line."""
    slow_loop_s: Annotated[float, Field(gt=0, le=60)] = 0.1
    """An event loop that stood still for so long is in the log, with what held it up."""
    full_is_ready: bool = True
    """Whether /readyz still says ready when every place is taken. Whoever calls then is told that all lines
    are busy; with `false` a balancer sends calls elsewhere, and the webhooks of this server's calls with them
    unless it keeps those to their server."""

    @field_validator("traces_endpoint")
    @classmethod
    def _is_url(cls, url: str) -> str:
        if not url:
            return url
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("write http://host:4318, or a whole URL that takes OTLP over HTTP")
        if parts.username or parts.password:
            raise ValueError("secrets stand in OTEL_EXPORTER_OTLP_HEADERS, not in the URL")
        return urlunsplit(parts._replace(path=parts.path.rstrip("/") or _TRACES_PATH))
