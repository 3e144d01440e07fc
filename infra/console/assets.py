"""The page's own files, and the headers that go with them. Looks are shared with the page /talk."""

from pathlib import Path
from typing import Final

from telephony.browser.assets import FOLDER as TALK_FOLDER
from telephony.browser.assets import Asset, load_assets

PAGE: Final = "console.html"
_FOLDER: Final = Path(__file__).parent / "static"
_SHARED: Final = ("look.css", "icon.svg")
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "media-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(), camera=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Under "no-referrer" browsers send the form that logs out with the origin "null".
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def console_assets() -> dict[str, Asset]:
    """Every file of the page by name. Raises `OSError`."""
    talk = load_assets(TALK_FOLDER)
    return {name: talk[name] for name in _SHARED} | load_assets(_FOLDER)
