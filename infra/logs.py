"""Logging of the `maya` command: one line per record on stderr, without callers'
numbers and secrets; stdout belongs to results."""

import logging
import sys

from infra.redaction import RedactingFormatter


def configure_logging(level: str = "info") -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)-7s %(name)s  %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # uvicorn's lines about WebSockets show whole addresses, and with them the secret of Asterisk's.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    for chatty in ("httpx", "httpcore", "filelock", "faster_whisper", "matplotlib", "twilio.http_client"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
