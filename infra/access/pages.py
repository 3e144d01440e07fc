"""The login page: one form, no script."""

from html import escape
from typing import Final

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "Cache-Control": "no-store",
    # Under "no-referrer" browsers send the form with the origin "null".
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_PAGE: Final = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Maya: log in</title>
<style>
  :root {{ color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }}
  body {{ display: grid; place-items: center; min-height: 90vh; margin: 0 }}
  form {{ display: grid; gap: .75rem; width: min(22rem, 90vw) }}
  h1 {{ font-size: 1.25rem; margin: 0 }}
  input, button {{ font: inherit; padding: .5rem .75rem; border-radius: .4rem; border: 1px solid #888 }}
  button {{ background: #2457c5; border-color: #2457c5; color: #fff; cursor: pointer }}
  [role=alert] {{ margin: 0; color: #b3261e }}
  @media (prefers-color-scheme: dark) {{ [role=alert] {{ color: #ff8a80 }} }}
</style>
<form method="post" action="{action}">
  <h1>Maya</h1>
  {said}<label for="key">Your key, from <code>maya keys new</code></label>
  <input id="key" name="key" type="password" autocomplete="current-password" maxlength="256" required
   autofocus>
  <input type="hidden" name="form" value="{form}">
  <input type="hidden" name="next" value="{then}">
  <button>Log in</button>
</form>
</html>
"""


def login_page(*, action: str, form: str, then: str, said: str) -> str:
    """`said` is what went wrong with the last try, or ""."""
    alert = f'<p role="alert">{escape(said)}</p>\n  ' if said else ""
    return _PAGE.format(action=escape(action), form=escape(form), then=escape(then), said=alert)
