"""Settings: read once, at start-up, into one frozen object.

Later sources win: defaults, `maya.toml`, environment (`MAYA_HOST` sets `host`), command line. Secrets come
from the environment, or from files that it names (`..._FILE`), and never show in `repr`, logs or errors.
"""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator

from infra.access.policy import AccessSettings
from infra.admission.settings import CapacitySettings
from infra.cluster.settings import ClusterSettings
from infra.loopback import is_loopback
from infra.observe.settings import ObserveSettings
from infra.outbound.policy import OutboundSettings
from infra.records.policy import RecordingPolicy
from infra.store.settings import StoreSettings
from pipeline.documents import read_toml
from telephony.asterisk.config import AsteriskConfig
from telephony.sip.config import SipConfig, parse_bind

CLINIC_PERSONA = Path(__file__).parent / "personas" / "clinic.toml"
DEFAULT_FILE = Path("maya.toml")
_PREFIX = "MAYA_"
# Names that are not simply MAYA_ + the field's name. PORT is what Procfile runners set.
_VARIABLES = {
    "auth_token": "TWILIO_AUTH_TOKEN",
    "auth_token_secondary": "TWILIO_AUTH_TOKEN_SECONDARY",
    "account_sid": "TWILIO_ACCOUNT_SID",
    "shared_keys": "TWILIO_SHARED_KEYS",
    "models_dir": "MAYA_MODELS",
}
_OTHER_VARIABLES = (
    *("MAYA_PYTHON", "MAYA_RECORDINGS_KEY", "MAYA_RECORDING_KEY_FILE"),
    *("MAYA_API_KEY", "MAYA_API_KEY_FILE", "MAYA_SERVER", "MAYA_TWILIO_API"),
)
"""Of Maya's, but no settings."""
_TRUNK_SECRET = "MAYA_SIP_TRUNK_SECRET"  # noqa: S105  (its name)
"""Sets `secret` of [sip.trunk]."""
_PATHS = ("persona", "routes", "models_dir", "calls_dir", "mimi", "tokenizer", "voice_prompt")
_SECTION_PATHS = (
    *(("outbound", "do_not_call"), ("recording", "key_file")),
    *(("access", "keys_file"), ("cluster", "token_file")),
    *(("access", "tls_certificate"), ("access", "tls_key"), ("access", "tls_authority")),
)
_SECRETS = (
    *("auth_token", "auth_token_secondary", "shared_keys", "talk_password"),
    *("sip.users", "sip.trunk", "asterisk.secret", "store.url"),
    *("outbound.api_keys", "access.keys"),  # whoever mistakes the key for its hash writes the key
)
Seconds = Annotated[float, Field(gt=0, le=86_400)]


SECTIONS: Mapping[str, type[BaseModel]] = {
    "sip": SipConfig,
    "asterisk": AsteriskConfig,
    "recording": RecordingPolicy,
    "outbound": OutboundSettings,
    "capacity": CapacitySettings,
    "access": AccessSettings,
    "observe": ObserveSettings,
    "store": StoreSettings,
    "cluster": ClusterSettings,
}
"""Tables of the settings file. `MAYA_SIP_HOST` is `host` of `[sip]`."""


class SettingsError(Exception):
    """A setting is wrong or missing; the message names it and what to do."""


class _Settable(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = ""
    """Address to bind. "" is this machine's own, for a proxy or a tunnel on it; with [access] tls_certificate
    and a `public_url`, every address."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    public_url: str = ""
    """Where Twilio reaches this server, e.g. https://maya.example.com; "" is the loopback address."""
    profile: Literal["embedded", "tiny", "maya", "scripted"] = "embedded"
    llm: str = ""
    """Catalogue name that replaces the profile's language model."""
    stt: str = ""
    """Catalogue name that replaces the profile's transcriber."""
    tts: str = ""
    """The voice: "" is the profile's, `hibari` the bundled one, else a catalogue name, or the path of a CSM
    checkpoint or of a folder with its files (then `mimi` and `tokenizer` may lie there too)."""
    mimi: Path | None = None
    """Kyutai's Mimi file, in place of the catalogue's."""
    tokenizer: Path | None = None
    """Llama 3's tokenizer.model or tokenizer.json, in place of the catalogue's."""
    voice_prompt: Path | None = None
    """What `maya voice prompt` wrote: the voice that CSM goes on with."""
    speaker: Annotated[int, Field(ge=0, le=999)] = 0
    """CSM's number for the agent; the caller gets the next one."""
    codec: Literal["own", "moshi"] = "own"
    """Whose Mimi runs: ours, or the package `moshi`."""
    voice_context: Literal["audio", "text", "nothing"] = "audio"
    """What CSM is shown of the conversation: sound and words, words only, nothing."""
    voice_weights: Literal["full", "w8a8", "int8"] = "full"
    """`w8a8` is for CPUs, `int8` for GPUs; `full` until `maya finetune gate` passed on your files."""
    tts_slots: Annotated[int, Field(ge=1, le=64)] | None = None
    """Calls that CSM speaks for at once, per device; None: the profile's calls, shared by its devices."""
    devices: str = ""
    """Where models run, e.g. `stt=cuda:0,llm=cuda:0,tts=cuda:1,tts=cuda:2`; several `tts` are replicas."""
    threads: Annotated[int, Field(ge=1, le=256)] | None = None
    """Threads per model; None lets the profile choose."""
    models_dir: Path | None = None
    persona: Path = CLINIC_PERSONA
    routes: Path | None = None
    """A file of routes: which numbers other personas answer, and when (`pipeline.routing`)."""
    calls_dir: Path = Path("calls")
    """Recordings and transcripts, one folder per call."""
    record: bool = True
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    start_timeout_s: Seconds = 5.0
    """A socket must send `start` within this time."""
    media_timeout_s: Seconds = 10.0
    """A call without media for this long is over."""
    token_ttl_s: Seconds = 60.0
    """How long a stream's token is good after the webhook answered."""
    max_pending_sockets: Annotated[int, Field(ge=1, le=100_000)] = 64
    """Sockets that have not authenticated yet."""
    drain_s: Annotated[float, Field(ge=0, le=3600)] = 120.0
    """After SIGTERM, how long live calls may go on."""
    talk: bool | None = None
    """The page /talk, on which one talks in the browser; None: where only this machine reaches it, or a
    `talk_password` is set."""
    sip: SipConfig | None = None
    """Take calls over SIP; None does not listen."""
    asterisk: AsteriskConfig | None = None
    """Take calls from Asterisk, over chan_websocket and AudioSocket; None: neither."""
    recording: RecordingPolicy = RecordingPolicy()
    outbound: OutboundSettings = OutboundSettings()
    capacity: CapacitySettings = CapacitySettings()
    access: AccessSettings = AccessSettings()
    observe: ObserveSettings = ObserveSettings()
    store: StoreSettings = StoreSettings()
    cluster: ClusterSettings = ClusterSettings()


class Settings(_Settable):
    """Everything one process is told. Build it with `load_settings`."""

    insecure: bool = False
    account_sid: str = ""
    auth_token: SecretStr = SecretStr("")
    auth_token_secondary: SecretStr = SecretStr("")
    talk_password: SecretStr = SecretStr("")
    shared_keys: SecretStr = SecretStr("")
    """Keys that sign webhooks in the auth token's place: `name:secret`, several with commas between."""

    @field_validator("shared_keys")
    @classmethod
    def _are_pairs(cls, keys: SecretStr) -> SecretStr:
        for pair in filter(None, keys.get_secret_value().split(",")):
            name, _, secret = pair.partition(":")
            if not name.strip() or not secret.strip():
                raise ValueError("write name:secret, and commas between several keys")
        return keys

    @property
    def shared_key_pairs(self) -> tuple[tuple[str, str], ...]:
        pairs = (pair.partition(":") for pair in self.shared_keys.get_secret_value().split(",") if pair)
        return tuple((name.strip(), secret.strip()) for name, _, secret in pairs)

    @property
    def auth_tokens(self) -> tuple[str, ...]:
        tokens = (self.auth_token, self.auth_token_secondary)
        return tuple(token.get_secret_value() for token in tokens if token.get_secret_value())

    @property
    def bind_host(self) -> str:
        """Where nothing is said: this machine alone, whose proxy or tunnel has TLS; with a certificate of our
        own and a public URL, everybody."""
        if self.host:
            return self.host
        if self.access.tls_certificate is None or self.insecure:
            return "127.0.0.1"
        return "127.0.0.1" if is_loopback(urlsplit(self.public_base_url).hostname or "") else "0.0.0.0"  # noqa: S104

    @property
    def public_base_url(self) -> str:
        """`public_url` without a trailing slash; loopback stands in when none is set."""
        scheme = "https" if self.access.tls_certificate is not None else "http"
        return (self.public_url or f"{scheme}://127.0.0.1:{self.port}").rstrip("/")

    @property
    def takes_twilio(self) -> bool:
        """Without an auth token Twilio's routes stay closed where calls come in another way."""
        return self.insecure or bool(self.auth_tokens) or not (self.sip or self.asterisk or self.talk)

    def check_serving(self) -> None:
        """What `maya serve` refuses beyond what `TwilioConfig` does. Raises `SettingsError`."""
        if self.insecure and self.auth_tokens:
            raise SettingsError("--insecure and TWILIO_AUTH_TOKEN exclude each other: unset one of the two.")
        if self.insecure and not is_loopback(self.bind_host):
            raise SettingsError(
                f"--insecure serves this machine only, not {self.bind_host!r}: leave out --host, "
                "or set TWILIO_AUTH_TOKEN and leave out --insecure."
            )
        if not self.public_url and not is_loopback(self.bind_host):
            raise SettingsError(
                f"bound to {self.bind_host}, but no public URL: set MAYA_PUBLIC_URL=https://your.host "
                "(Twilio signs the URL it called, so it must be known)."
            )
        plain = urlsplit(self.public_base_url).scheme != "https"
        if plain and self.access.tls_certificate is not None:
            raise SettingsError(
                f"the public URL is {self.public_url!r}, but with [access] tls_certificate this server "
                "speaks https: write https:// there."
            )
        if plain and not is_loopback(urlsplit(self.public_base_url).hostname or ""):
            raise SettingsError(
                f"the public URL {self.public_url!r} is without TLS, so whatever is said and shown there "
                "travels in the open: put a proxy with TLS in front and write https://, or set [access] "
                "tls_certificate and tls_key."
            )


def variable_of(field: str) -> str:
    """The environment variable that sets `field`."""
    return _VARIABLES.get(field, _PREFIX + field.upper())


def load_settings(
    environ: Mapping[str, str], file: Path | None = None, options: Mapping[str, object] | None = None
) -> Settings:
    """Merge all sources. `file` None means `maya.toml` if it exists. `options` that are None were not given.

    Raises `SettingsError`, or `pipeline.documents.DocumentError` for the file.
    """
    path = file if file is not None else (DEFAULT_FILE if DEFAULT_FILE.exists() else None)
    values: dict[str, object] = {}
    if path is not None:
        values.update(read_toml(path, _Settable).model_dump(exclude_unset=True))
        _resolve_paths(values, path.parent)
    sources = dict.fromkeys(values, str(path))
    environ = _with_secret_files(environ)
    for field in Settings.model_fields:
        variable = variable_of(field)
        value = environ.get(variable, "")
        if not value and field == "port":
            variable, value = "PORT", environ.get("PORT", "")
        if value and field != "insecure":  # a stray variable must not open the door
            values[field], sources[field] = value, variable
    _merge_sections(values, sources, environ)
    for field, option in (options or {}).items():
        if option is None:
            continue
        if field == "sip":
            host, port = parse_bind(str(option))
            option = dict(cast(Mapping[str, object], values.get("sip") or {})) | {"host": host, "port": port}
            if (options or {}).get("insecure"):
                option["insecure"] = True
        if field == "cluster":
            told = dict(cast(Mapping[str, object], values.get("cluster") or {}))
            option, sources["cluster.address"] = told | {"address": str(option)}, "--cluster"
        values[field], sources[field] = option, "--" + field.replace("_", "-")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"][:2])) if first["loc"][0] in SECTIONS else str(first["loc"][0])
        # A whole table may hold secrets, and is too long to be read.
        plain = field not in _SECRETS and isinstance(first["input"], str | int | float)
        shown = f" = {first['input']!r}" if plain else ""
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{sources.get(field, field)}{shown}: {message}") from None


def secret_variables() -> tuple[str, ...]:
    """Each may instead stand in a file: `TWILIO_AUTH_TOKEN_FILE` names one, as Docker's secrets do."""
    named = list(_SECRETS)
    for section, model in SECTIONS.items():
        held = (field for field, info in model.model_fields.items() if "SecretStr" in str(info.annotation))
        named += [f"{section}.{field}" for field in held]
    variables = dict.fromkeys([*map(_variable_of_secret, named), _TRUNK_SECRET])
    settings = {
        f"{_PREFIX}{section.upper()}_{field.upper()}"
        for section, model in SECTIONS.items()
        for field in model.model_fields
    }
    # Where NAME_FILE is a setting of its own, that is what it means.
    return tuple(variable for variable in variables if f"{variable}_FILE" not in settings)


def _variable_of_secret(name: str) -> str:
    section, _, field = name.rpartition(".")
    return f"{_PREFIX}{section.upper()}_{field.upper()}" if section else variable_of(field)


def _with_secret_files(environ: Mapping[str, str]) -> Mapping[str, str]:
    """`environ`, and in it what the files say that `..._FILE` names. Raises `SettingsError`."""
    read: dict[str, str] = {}
    for variable in secret_variables():
        file = environ.get(variable + "_FILE", "")
        if not file:
            continue
        if environ.get(variable):
            raise SettingsError(f"{variable} and {variable}_FILE are both set: unset one of the two.")
        try:
            read[variable] = Path(file).expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no text"
            raise SettingsError(f"{variable}_FILE: {file} cannot be read: {why}") from None
        if not read[variable]:
            raise SettingsError(f"{variable}_FILE: {file} is empty")
    return {**environ, **read}


def _merge_sections(values: dict[str, object], sources: dict[str, str], environ: Mapping[str, str]) -> None:
    """`MAYA_OUTBOUND_CALLER_ID` is `caller_id` of `[outbound]`; lists have commas between, and a colon stands
    between a name and its secret."""
    for section, model in SECTIONS.items():
        if isinstance(values.get(section), str):
            raise SettingsError(
                f"{sources[section]}: [{section}] is a table; set its keys, such as "
                f"{sources[section]}_{next(iter(model.model_fields)).upper()}"
            )
        told: dict[str, object] = dict(cast(Mapping[str, object], values.get(section) or {}))
        for field in model.model_fields:
            variable = f"{_PREFIX}{section.upper()}_{field.upper()}"
            value = environ.get(variable, "")
            if value:
                told[field] = _read_variable(value, str(model.model_fields[field].annotation))
                sources[f"{section}.{field}"] = variable
        if section == "sip" and isinstance(told.get("trunk"), dict) and environ.get(_TRUNK_SECRET):
            told["trunk"] = cast(dict[str, object], told["trunk"]) | {"secret": environ[_TRUNK_SECRET]}
        if told:
            values[section] = told


def _read_variable(value: str, annotation: str) -> object:
    parts = [part.strip() for part in value.split(",")]
    if "dict" in annotation:
        return {name.strip(): secret.strip() for name, _, secret in (part.partition(":") for part in parts)}
    return parts if "tuple" in annotation else value


def _resolve_paths(values: dict[str, object], folder: Path) -> None:
    """Paths in a settings file are relative to it. `tts` is one only where something lies there."""
    for name in _PATHS:
        if name in values:
            values[name] = folder / Path(str(values[name])).expanduser()
    for section, name in _SECTION_PATHS:
        told = values.get(section)
        if isinstance(told, dict) and name in told:
            told[name] = folder / Path(str(told[name])).expanduser()
    voice = str(values.get("tts") or "")
    if voice and (folder / Path(voice).expanduser()).exists():
        values["tts"] = str(folder / Path(voice).expanduser())


def misspelt_variables(environ: Mapping[str, str]) -> list[str]:
    """One line for each MAYA_ variable that looks like a setting but is none."""
    known = [variable_of(field) for field in Settings.model_fields] + list(_OTHER_VARIABLES)
    for section, model in SECTIONS.items():
        known += [f"{_PREFIX}{section.upper()}_{field.upper()}" for field in model.model_fields]
    known += [_TRUNK_SECRET, *(f"{variable}_FILE" for variable in secret_variables())]
    lines = []
    for variable in sorted(environ):
        if variable.startswith(_PREFIX) and variable not in known:
            close = difflib.get_close_matches(variable, known, n=1)
            if close:
                lines.append(f"{variable} is no setting of Maya; did you mean {close[0]}?")
    return lines
