"""`POST /calls`: whoever has a key orders a call. `GET /calls/{id}` tells what became of it."""

import hashlib
import hmac
import secrets
from dataclasses import asdict
from typing import Annotated, Final

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import ClientDisconnect

from infra.outbound.dialler import Dialler, Order
from infra.outbound.policy import OutboundSettings, Refused

_MAX_BODY_BYTES: Final = 4_096
_RETRY_S: Final = "60"


class CallRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    to: Annotated[str, Field(min_length=2, max_length=64)]
    """In E.164 form."""
    persona: Annotated[str, Field(max_length=128)] = ""
    """The name of its file without `.toml`; "" is the server's own."""


def new_key() -> tuple[str, str]:
    """A key, and what the settings keep of it."""
    key = secrets.token_urlsafe(32)
    return key, hashlib.sha256(key.encode()).hexdigest()


def create_router(settings: OutboundSettings, dialler: Dialler) -> APIRouter:
    router = APIRouter()

    def refusal(authorization: str) -> Response | None:
        scheme, _, key = authorization.partition(" ")
        given = hashlib.sha256(key.strip().encode(errors="surrogatepass")).hexdigest()
        known = [hmac.compare_digest(given, one) for one in settings.api_keys]
        if scheme.lower() == "bearer" and any(known):
            return None
        return _problem(401, "a key is needed: Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"})

    @router.post("/calls")
    async def order(
        request: Request,
        authorization: Annotated[str, Header()] = "",
        idempotency_key: Annotated[str, Header(max_length=200)] = "",
    ) -> Response:
        if (refused := refusal(authorization)) is not None:
            return refused
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
        except Refused as refused_:
            retry = {"Retry-After": _RETRY_S} if refused_.status == 429 else {}
            return _problem(refused_.status, refused_.reason, retry)
        return _shown(taken, 202)

    @router.get("/calls/{order_id}")
    async def status(order_id: str, authorization: Annotated[str, Header()] = "") -> Response:
        if (refused := refusal(authorization)) is not None:
            return refused
        found = dialler.status(order_id)
        return _problem(404, "no such call") if found is None else _shown(found, 200)

    @router.delete("/calls/{order_id}")
    async def cancel(order_id: str, authorization: Annotated[str, Header()] = "") -> Response:
        if (refused := refusal(authorization)) is not None:
            return refused
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
