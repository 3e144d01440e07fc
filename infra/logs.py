"""Logging of the `maya` command: one line per record on stderr, text or JSON, with callers' numbers and
secrets taken out; stdout belongs to results."""

import logging
import sys
from typing import Literal

from infra.observe.log_lines import JsonLines, TextLines


def configure_logging(level: str = "info", log_format: Literal["text", "json"] = "text") -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if log_format == "json" else TextLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # uvicorn's lines about WebSockets show whole addresses, and with them the secret of Asterisk's.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    for chatty in (
        *("httpx", "httpcore", "filelock", "faster_whisper", "matplotlib", "twilio.http_client"),
        "alembic",  # tells each step that it takes, and each of its plugins
    ):
        logging.getLogger(chatty).setLevel(logging.WARNING)
