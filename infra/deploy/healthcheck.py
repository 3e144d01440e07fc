"""Exit status 0 while the server in this container takes calls: `python -m infra.deploy.healthcheck`."""

import http.client
import os
import ssl
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Final

_TIMEOUT_S: Final = 3.0


def healthy(environ: Mapping[str, str] = os.environ) -> bool:
    """Asks /readyz on this machine, over TLS where the server has a certificate. Blocks for up to 3 s."""
    port = int(environ.get("MAYA_PORT") or environ.get("PORT") or "8080")
    web: http.client.HTTPConnection
    if environ.get("MAYA_ACCESS_TLS_CERTIFICATE"):
        # The certificate has the public name; that it is the right one is not what is asked.
        unchecked = ssl._create_unverified_context()  # noqa: S323
        web = http.client.HTTPSConnection("127.0.0.1", port, timeout=_TIMEOUT_S, context=unchecked)
    else:
        web = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    with closing(web):
        try:
            web.request("GET", "/readyz")
            return web.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False


if __name__ == "__main__":
    sys.exit(not healthy())
