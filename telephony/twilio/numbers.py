"""Points a phone number at this server, remembers what stood there before, and can put it back.

https://www.twilio.com/docs/phone-numbers/api/incomingphonenumber-resource. Blocks: run it from a command.
"""

import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from telephony.twilio.account import TwilioAccount
from telephony.twilio.config import TwilioConfig
from telephony.twilio.errors import TwilioAccountError, TwilioConfigError
from telephony.twilio.routes import AFTER, STATUS, VOICE

_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}", re.ASCII)


@dataclass(frozen=True, slots=True)
class NumberSettings:
    """Where a number's calls go. "" is Twilio's word for not set. An application or a trunk would
    overrule the voice URL."""

    voice_url: str = ""
    voice_method: str = "POST"
    voice_fallback_url: str = ""
    voice_fallback_method: str = "POST"
    status_callback: str = ""
    status_callback_method: str = "POST"
    voice_application_sid: str = ""
    trunk_sid: str = ""

    def same_targets(self, other: "NumberSettings") -> bool:
        """Whether calls go to the same places. Methods do not count: Twilio fills in its own."""
        targets = {name for name in asdict(self) if not name.endswith("_method")}
        return all(getattr(self, name) == getattr(other, name) for name in targets)


@dataclass(frozen=True, slots=True)
class NumberChange:
    """What `configure` or `undo` did to `number`."""

    number: str
    before: NumberSettings
    after: NumberSettings

    @property
    def changed(self) -> dict[str, tuple[str, str]]:
        """Each setting that differs: (before, after)."""
        before, after = asdict(self.before), asdict(self.after)
        return {name: (before[name], after[name]) for name in before if before[name] != after[name]}


@dataclass(frozen=True, slots=True)
class AccountCheck:
    """Credentials that work. `numbers` are the account's first fifty, in E.164, and where each one's calls
    are sent."""

    name: str
    status: str
    kind: str
    numbers: tuple[tuple[str, str], ...]


class PhoneNumbers:
    """The account's numbers. `state_file` (JSON) keeps what stood at a number before we changed it.

    Every method may raise `TwilioAccountError`, whose message tells the operator what to do next.
    """

    def __init__(self, account: TwilioAccount, state_file: Path) -> None:
        self._account = account
        self._undo = UndoFile(state_file)

    def check(self) -> AccountCheck:
        """Ask for the account itself, which only its own credentials may read."""
        account = self._account
        client = account.client
        found = account.ask(
            f"reading account {account.account_sid}",
            lambda: client.api.v2010.accounts(account.account_sid).fetch(),
        )
        owned = account.ask("listing the numbers", lambda: client.incoming_phone_numbers.list(limit=50))
        return AccountCheck(
            name=str(found.friendly_name or ""),
            status=str(found.status or ""),
            kind=str(found.type or ""),
            numbers=tuple((str(number.phone_number), str(number.voice_url or "")) for number in owned),
        )

    def configure(self, number: str, public_url: str, *, fallback_url: str | None = None) -> NumberChange:
        """Point `number` (E.164) at this server: voice URL, fallback and status callback.

        `fallback_url` should be TwiML that outlives this server, such as a TwiML Bin; without it the
        fallback is our own apology, which is no help when the whole server is down.
        """
        wanted = _settings_for(public_url, fallback_url)
        sid, before = self._find(number)
        self._undo.keep(number, before, wanted)
        after = self._update(number, sid, before, wanted)
        return NumberChange(number, before, after)

    def undo(self, number: str, *, force: bool = False) -> NumberChange:
        """Put back what stood at `number` before the first `configure`. Refuses when somebody has
        changed the number since, unless `force`."""
        record = self._undo.read(number)
        if record is None:
            raise TwilioAccountError(
                f"Nothing is remembered of {number}, so nothing can be undone. "
                "It was not configured from here, or was undone already."
            )
        before, ours = record
        sid, current = self._find(number)
        if not force and not current.same_targets(ours) and not current.same_targets(before):
            raise TwilioAccountError(
                f"{number} was changed since by somebody else: its voice URL is now "
                f"{current.voice_url or 'empty'!r}. To overwrite that too, force the undo."
            )
        after = self._update(number, sid, current, before)
        self._undo.forget(number)
        return NumberChange(number, current, after)

    def _find(self, number: str) -> tuple[str, NumberSettings]:
        if not _E164.fullmatch(number):
            raise TwilioAccountError(f"{number!r} is not a phone number: write it like +15550100123.")
        client = self._account.client
        found = self._account.ask(
            f"looking up {number}",
            lambda: client.incoming_phone_numbers.list(phone_number=number, limit=20),
        )
        # The API finds parts of numbers too.
        exact = [one for one in found if one.phone_number == number]
        if not exact:
            raise TwilioAccountError(
                f"{number} is not a number of account {self._account.account_sid}. "
                "See console.twilio.com, Phone Numbers, for those that are."
            )
        return str(exact[0].sid), _settings_of(exact[0])

    def _update(
        self, number: str, sid: str, current: NumberSettings, wanted: NumberSettings
    ) -> NumberSettings:
        """Send what differs only: naming an application or a trunk, even an empty one, unsets the other."""
        now = asdict(current)
        changes = {name: value for name, value in asdict(wanted).items() if value != now[name]}
        if not changes:
            return current
        client = self._account.client
        changed = self._account.ask(
            f"changing {number}", lambda: client.incoming_phone_numbers(sid).update(**changes)
        )
        after = _settings_of(changed)
        if after.voice_url != wanted.voice_url or changed.sid != sid:
            raise TwilioAccountError(
                f"Twilio accepted the change of {number}, yet its voice URL is {after.voice_url!r}. "
                "Look at the number in console.twilio.com, Phone Numbers."
            )
        return after


class UndoFile:
    """What stood at each number before us, and what we put there; readable by its owner only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, number: str) -> tuple[NumberSettings, NumberSettings] | None:
        record = self._load().get(number)
        if record is None:
            return None
        try:
            return _read_settings(record["before"]), _read_settings(record["ours"])
        except (KeyError, TypeError, AttributeError):
            raise self._damaged() from None

    def keep(self, number: str, before: NumberSettings, ours: NumberSettings) -> None:
        """Called before the change. Configuring twice must not make us undo to our own URLs."""
        known = self.read(number)
        if known is not None and before.same_targets(known[1]):
            before = known[0]
        records = self._load()
        records[number] = {"before": asdict(before), "ours": asdict(ours)}
        self._save(records)

    def forget(self, number: str) -> None:
        records = self._load()
        records.pop(number, None)
        self._save(records)

    def _load(self) -> dict[str, Any]:
        try:
            records = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except OSError as fault:
            raise TwilioAccountError(
                f"The undo file {self._path} cannot be read: {fault.strerror}."
            ) from None
        except ValueError:
            raise self._damaged() from None
        if not isinstance(records, dict):
            raise self._damaged()
        return records

    def _damaged(self) -> TwilioAccountError:
        return TwilioAccountError(
            f"The undo file {self._path} is damaged. "
            "Read from it what you can, then move it away and try again."
        )

    def _save(self, records: dict[str, Any]) -> None:
        """Whole or not at all: a half-written record could not be undone."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    json.dump(records, file, indent=2)
                    file.write("\n")
                Path(temporary).replace(self._path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as fault:
            raise TwilioAccountError(
                f"The undo file {self._path} cannot be written ({fault.strerror}). "
                "Free or choose a place for it, then try again."
            ) from None


def _settings_for(public_url: str, fallback_url: str | None) -> NumberSettings:
    try:
        config = TwilioConfig(public_url=public_url, auth_tokens=("unused",))
    except TwilioConfigError as unfit:
        raise TwilioAccountError(str(unfit)) from None
    if not config.public_url.startswith("https://"):
        raise TwilioAccountError(
            f"Twilio cannot reach {config.public_url}: "
            "give the https:// URL under which this server is public."
        )
    return NumberSettings(
        voice_url=config.webhook_url(VOICE),
        voice_fallback_url=fallback_url or config.webhook_url(AFTER),
        status_callback=config.webhook_url(STATUS),
    )


def _settings_of(number: Any) -> NumberSettings:
    settings = {field.name: getattr(number, field.name) or "" for field in fields(NumberSettings)}
    return NumberSettings(**{name: str(value) for name, value in settings.items()})


def _read_settings(record: dict[str, Any]) -> NumberSettings:
    known = {field.name for field in fields(NumberSettings)}
    return replace(NumberSettings(), **{name: str(value) for name, value in record.items() if name in known})
