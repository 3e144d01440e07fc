"""What the page's routes answer with, and whom they ask for."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, Request, Response

from infra.access.web import Principal, require
from infra.console.assets import SECURITY_HEADERS
from telephony.browser.assets import Asset

NOT_KEPT: Final = SECURITY_HEADERS | {"Cache-Control": "no-store"}

Viewer = Annotated[Principal, Depends(require("viewer"))]
Operator = Annotated[Principal, Depends(require("operator"))]
PageViewer = Annotated[Principal, Depends(require("viewer", page=True))]


def answer(content: Mapping[str, Any] | list[Any], status: int = 200) -> Response:
    body = json.dumps(content, ensure_ascii=False).encode(errors="replace")
    return Response(body, status, NOT_KEPT, "application/json")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    response = answer({"detail": detail}, status)
    response.headers.update(headers or {})
    return response


def file(request: Request, asset: Asset) -> Response:
    headers = SECURITY_HEADERS | {"ETag": asset.etag, "Cache-Control": "no-cache"}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    return Response(asset.body, headers=headers, media_type=asset.media_type)
