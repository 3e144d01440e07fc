"""The login page: one form, no script."""

from functools import cache
from html import escape
from typing import Final

from telephony.browser.assets import FOLDER

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
{look}
main {{ display: grid; justify-content: center; padding: 12vh 1rem }}
.login {{ width: min(24rem, 100vw - 2rem); padding: 2rem }}
</style>
<main>
  <section class="login card">
    <h1>Log in to Maya</h1>
    <form method="post" action="{action}">
      <label for="key">Your key, from <code>maya keys new</code></label>
      <input id="key" name="key" type="password" autocomplete="current-password" maxlength="256"
       required autofocus>
      <input type="hidden" name="form" value="{form}">
      <input type="hidden" name="next" value="{then}">
      <p class="refusal"{alert}>{said}</p>
      <button class="primary">Log in</button>
    </form>
  </section>
</main>
</html>
"""


@cache
def _look() -> str:
    """What the pages behind the login look like, too; inside this one, which may load nothing."""
    return (FOLDER / "look.css").read_text("utf-8")


def login_page(*, action: str, form: str, then: str, said: str) -> str:
    """`said` is what went wrong with the last try, or ""."""
    alert = ' role="alert"' if said else ""
    return _PAGE.format(
        look=_look(),
        action=escape(action),
        form=escape(form),
        then=escape(then),
        alert=alert,
        said=escape(said),
    )
