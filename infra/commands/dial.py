"""`maya dial`: order a call from a running server."""

import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from infra.errors import CommandError

_POLL_S = 1.0
_TIMEOUT_S = 15.0


def dial(
    number: Annotated[str, typer.Argument(help="Whom to call, in E.164: +12025550123", show_default=False)],
    persona: Annotated[str, typer.Option(help="Who calls: a persona's file name without .toml.")] = "",
    server: Annotated[
        str, typer.Option(envvar="MAYA_SERVER", help="The running server.")
    ] = "http://127.0.0.1:8080",
    key: Annotated[
        str, typer.Option(envvar="MAYA_API_KEY", help="From maya keys new.", show_default=False)
    ] = "",
    once: Annotated[
        str, typer.Option(help="Idempotency key: the same again makes no second call.", show_default=False)
    ] = "",
    wait: Annotated[bool, typer.Option(help="Stay until the call is over.")] = True,
) -> None:
    """Have a running server call somebody. The server's settings say whom, when, and how often.

    Example: [bold]maya dial +12025550123 --persona clinic[/bold]
    """
    key = key or _key_from_file()
    if not key:
        raise CommandError("set MAYA_API_KEY to a key of the server (maya keys new makes one)")
    headers = {"Authorization": f"Bearer {key}"} | ({"Idempotency-Key": once} if once else {})
    base = server.rstrip("/")
    order = _ask("POST", f"{base}/calls", headers, {"to": number, "persona": persona})
    state = ""
    while True:
        if order["state"] != state:
            state = order["state"]
            typer.echo(f"{order['number']}: {state}" + (f" ({order['detail']})" if order["detail"] else ""))
        if state == "failed":
            raise typer.Exit(1)
        if state == "over" or not wait:
            return
        time.sleep(_POLL_S)
        order = _ask("GET", f"{base}/calls/{order['id']}", headers)


def _key_from_file() -> str:
    """What stands in the file that MAYA_API_KEY_FILE names; "" where it names none. Raises `CommandError`."""
    path = os.environ.get("MAYA_API_KEY_FILE", "")
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CommandError(f"MAYA_API_KEY_FILE: {path} cannot be read: {why}") from None


def _ask(
    method: str, url: str, headers: dict[str, str], body: dict[str, str] | None = None
) -> dict[str, Any]:
    import requests

    try:
        answer = requests.request(method, url, headers=headers, json=body, timeout=_TIMEOUT_S)
        told = answer.json()
    except requests.ConnectionError:
        raise CommandError(f"no server at {url}: start `maya serve`, or give --server") from None
    except (requests.RequestException, ValueError) as error:
        raise CommandError(f"{url} does not answer as a server of Maya does: {error}") from None
    if not isinstance(told, dict):
        raise CommandError(f"{url} does not answer as a server of Maya does")
    if answer.status_code == 404 and method == "POST":
        raise CommandError(
            "this server makes no calls: its settings need [outbound] with allowed_prefixes, caller_id, "
            "hours, and a key of an operator"
        )
    if answer.status_code >= 400:
        raise CommandError(f"the server refuses: {told.get('detail', answer.status_code)}")
    if not {"id", "number", "state", "detail"} <= told.keys():
        raise CommandError(f"{url} does not answer as a server of Maya does")
    return told
