"""Ray's token: whoever knows it may run anything on the cluster, so it stays on and in a file of 0600."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from infra.settings import SettingsError

DEFAULT = Path("~/.ray/auth_token")
"""Where Ray's own commands look."""


def token_environment(environ: Mapping[str, str], file: Path | None, *, make: bool) -> dict[str, str]:
    """What a process of Ray needs in its environment. `make`: a file that is not there is made. Raises
    `SettingsError` for a token that is missing, empty, or that others may read."""
    if file is None and environ.get("RAY_AUTH_TOKEN"):
        return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": environ["RAY_AUTH_TOKEN"]}
    path = (file or Path(environ.get("RAY_AUTH_TOKEN_PATH") or DEFAULT)).expanduser()
    try:
        if make and not path.exists():
            _make(path)
        mode = path.stat().st_mode
        empty = not path.read_text().strip()
    except OSError as error:
        raise SettingsError(
            f"Ray's token is missing: {path} ({error.strerror}). Copy the cluster's there "
            "(`ray get-auth-token` on its head), with mode 0600, or set RAY_AUTH_TOKEN_PATH."
        ) from None
    if empty:
        raise SettingsError(f"Ray's token in {path} is empty: delete the file, or copy the cluster's there.")
    if mode & 0o077:
        raise SettingsError(f"Ray's token in {path} may be read by others: chmod 600 {path}")
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return  # another server was quicker
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_hex(32))
