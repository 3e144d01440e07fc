"""Twilio's REST API, through Twilio's own client, with errors an operator can act on. Blocks."""

import json
from collections.abc import Callable
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import requests
from twilio.base.exceptions import (  # type: ignore[import-untyped]
    TwilioException,
    TwilioRestException,
    TwilioServiceException,
)
from twilio.http.http_client import TwilioHttpClient  # type: ignore[import-untyped]

from telephony.twilio.errors import TwilioAccountError

DEFAULT_TIMEOUT_S: Final = 10.0

_Result = TypeVar("_Result")


class _RedirectedHttpClient(TwilioHttpClient):  # type: ignore[misc]
    """Sends every request to another server, path and query unchanged."""

    def __init__(self, api_base_url: str, timeout_s: float) -> None:
        super().__init__(timeout=timeout_s)
        self._base = urlsplit(api_base_url)

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Any:
        there = urlsplit(url)._replace(scheme=self._base.scheme, netloc=self._base.netloc)
        return super().request(method, there.geturl(), *args, **kwargs)


class TwilioAccount:
    """One account's REST client. `api_base_url` points it at another server than api.twilio.com."""

    def __init__(
        self,
        account_sid: str,
        auth_token: str,
        *,
        api_base_url: str | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        if not account_sid.strip() or not auth_token.strip():
            raise TwilioAccountError(
                "The account SID and the auth token are both needed: "
                "copy them from console.twilio.com, Account Info."
            )
        # Hundreds of modules, which only these commands need.
        from twilio.rest import Client  # type: ignore[import-untyped]

        if api_base_url is None:
            http_client = TwilioHttpClient(timeout=timeout_s)
        else:
            http_client = _RedirectedHttpClient(api_base_url, timeout_s)
        self.account_sid = account_sid.strip()
        self.client = Client(self.account_sid, auth_token.strip(), http_client=http_client)
        self._timeout_s = timeout_s

    def ask(self, what: str, request: Callable[[], _Result]) -> _Result:
        """The result of `request()`; raises `TwilioAccountError`. `what` names it in the message, such as
        "changing +15550100"."""
        try:
            return request()
        except (TwilioRestException, TwilioServiceException) as refused:
            status = int(refused.status or 0)
            said = str(getattr(refused, "msg", "") or getattr(refused, "title", "")).strip()
            raise TwilioAccountError(_advice(what, status, said), status) from None
        except requests.Timeout:
            raise TwilioAccountError(
                f"Twilio did not answer within {self._timeout_s:g} s ({what}). "
                "Check status.twilio.com and this machine's connection, then try again."
            ) from None
        except requests.RequestException:
            raise TwilioAccountError(
                f"Twilio's API cannot be reached ({what}). "
                "Check this machine's connection, DNS and proxy settings, then try again."
            ) from None
        except TwilioException as unfit:
            # Lists raise this, with the response as a second argument.
            response = unfit.args[1] if len(unfit.args) > 1 else None
            status = int(getattr(response, "status_code", 0))
            raise TwilioAccountError(_advice(what, status, _said_in(response)), status) from None
        except (ValueError, KeyError, TypeError, AttributeError):
            # The client reads JSON and looks up keys without further ado.
            raise TwilioAccountError(_advice(what, 0, ""), 0) from None


def _said_in(response: Any) -> str:
    try:
        return str(json.loads(response.text)["message"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _advice(what: str, status: int, said: str) -> str:
    if status in (401, 403):
        return (
            f"Twilio refused the credentials ({what}). Copy the account SID and the primary auth token "
            "from console.twilio.com, Account Info; both must be of the same account."
        )
    if status == 404:
        return f"Twilio knows no such thing ({what}). Check the account SID and the number."
    if status == 429:
        return f"Twilio asks us to slow down ({what}). Wait a minute, then try again."
    if status >= 500:
        return (
            f"Twilio has trouble of its own, status {status} ({what}). "
            "Check status.twilio.com and try again later."
        )
    if status < 400:
        return (
            f"What answered is not Twilio's API ({what}). "
            "Check that no proxy or captive portal stands in between, then try again."
        )
    reason = said[:300].rstrip(".") or "nothing"
    return f"Twilio refused, status {status} ({what}), and said: {reason}."
