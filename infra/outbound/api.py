"""`POST /calls`: whoever has an operator's key orders a call. `GET /calls/{id}` tells what became of it."""

import logging
from dataclasses import asdict
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

from infra.access.web import Principal, require
from infra.outbound.dialler import Dialler, Order
from infra.outbound.policy import Refused

log = logging.getLogger(__name__)

_MAX_BODY_BYTES: Final = 4_096
_RETRY_S: Final = "60"


class CallRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    to: Annotated[str, Field(min_length=2, max_length=64)]
    """In E.164 form."""
    persona: Annotated[str, Field(max_length=128)] = ""
    """The name of its file without `.toml`; "" is the server's own."""


Operator = Annotated[Principal, Depends(require("operator"))]
Viewer = Annotated[Principal, Depends(require("viewer"))]


def create_router(dialler: Dialler) -> APIRouter:
    """For an application with a door (`infra.access.web.install`)."""
    router = APIRouter()

    @router.post("/calls")
    async def order(
        request: Request,
        who: Operator,
        idempotency_key: Annotated[str, Header(max_length=200)] = "",
    ) -> Response:
        body = b""
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MAX_BODY_BYTES:
                    return _problem(413, "too long")
        except ClientDisconnect:
            return _problem(400, "the request broke off")
        try:
            wanted = CallRequest.model_validate_json(body)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "body"
            return _problem(422, f"{where}: {first['msg']}")
        try:
            taken = await dialler.order(wanted.to, wanted.persona, key=idempotency_key)
        except Refused as refused:
            retry = {"Retry-After": _RETRY_S} if refused.status == 429 else {}
            return _problem(refused.status, refused.reason, retry)
        log.info("order %s: given by %s", taken.id, who.name)
        return _shown(taken, 202)

    @router.get("/calls/{order_id}")
    async def status(order_id: str, who: Viewer) -> Response:
        found = dialler.status(order_id)
        return _problem(404, "no such call") if found is None else _shown(found, 200)

    @router.delete("/calls/{order_id}")
    async def cancel(order_id: str, who: Operator) -> Response:
        found = dialler.status(order_id)
        if found is None:
            return _problem(404, "no such call")
        if not dialler.cancel(order_id):
            return _problem(409, f"it is {found.state} already")
        return Response(status_code=204)

    return router


def _shown(order: Order, status: int) -> Response:
    return JSONResponse(asdict(order), status)


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers)
