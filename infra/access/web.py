"""The door in a FastAPI application. `install(app, ...)` once; then any route, HTTP or WebSocket:

    @router.get("/console/calls")
    async def calls(who: Annotated[Principal, Depends(require("viewer"))]) -> ...:

Programs show `Authorization: Bearer KEY`. Browsers log in at `/login` with a key and get a cookie; with
`require(role, page=True)` a stranger is sent there. `POST /logout` ends the login, `GET /whoami` tells whose
it is.
"""

from collections.abc import Callable, Coroutine, Iterable
from typing import Final
from urllib.parse import parse_qs, quote, urlsplit

from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.requests import ClientDisconnect, HTTPConnection

from infra.access.door import Door, Visit
from infra.access.errors import AccessRefused
from infra.access.keys import Principal, Role
from infra.access.pages import SECURITY_HEADERS, login_page
from infra.access.policy import AccessSettings
from infra.access.tls import Neighbourhood

__all__ = ["Principal", "Role", "door_of", "install", "require", "still_admitted", "visit_of"]

LOGIN: Final = "/login"
LOGOUT: Final = "/logout"
WHOAMI: Final = "/whoami"
_MAX_BODY_BYTES: Final = 4_096

Admission = Callable[[HTTPConnection], Coroutine[None, None, Principal]]


def install(
    app: FastAPI,
    settings: AccessSettings,
    *,
    public_url: str,
    insecure: bool = False,
    operator_hashes: Iterable[str] = (),
) -> Door:
    """Give `app` its door and the routes to log in by. Raises `ValueError` or `OSError` where the keys' file
    cannot be read, `AccessConfigError` where the neighbours' authority cannot."""
    door = Door(settings, public_url=public_url, insecure=insecure, operator_hashes=operator_hashes)
    app.state.door = door
    app.state.neighbourhood = Neighbourhood(settings, public_url)
    app.include_router(_login_router(door))
    return door


def require(
    role: Role, *, page: bool = False
) -> Callable[[HTTPConnection], Coroutine[None, None, Principal]]:
    """A dependency that yields whoever asks, and refuses (401, 403) who has not `role` at least. `page`: a
    browser that is not logged in is sent to the login."""

    async def admitted(connection: HTTPConnection) -> Principal:
        try:
            return door_of(connection).admit(visit_of(connection), role)
        except AccessRefused as refused:
            if page and refused.status == 401:
                raise HTTPException(303, headers={"Location": _login_url(connection)}) from None
            headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else None
            raise HTTPException(refused.status, refused.why, headers) from None

    return admitted


def still_admitted(connection: HTTPConnection, role: Role) -> bool:
    """Whether whoever opened a long connection (a WebSocket, an event stream) may still have it: a login
    ends, a key is struck out. Ask every few seconds; it costs microseconds."""
    try:
        door_of(connection).admit(visit_of(connection), role)
    except AccessRefused:
        return False
    return True


def door_of(connection: HTTPConnection) -> Door:
    door = getattr(connection.app.state, "door", None)
    if not isinstance(door, Door):
        raise RuntimeError("infra.access.web.install was not called for this application")
    return door


def visit_of(connection: HTTPConnection) -> Visit:
    scope = connection.scope
    return Visit(
        headers={name.lower(): value for name, value in connection.headers.items()},
        peer=connection.client.host if connection.client is not None else "",
        scheme=scope.get("scheme", "http"),
        method=scope.get("method", ""),
        cookies=connection.cookies,
    )


def _login_router(door: Door) -> APIRouter:
    router = APIRouter()

    @router.get(LOGIN, include_in_schema=False)
    async def form(request: Request) -> Response:
        return _form(door, request, _local(request.query_params.get("next", "")))

    @router.post(LOGIN, include_in_schema=False)
    async def log_in(request: Request) -> Response:
        fields = await _fields(request)
        if fields is None:
            return JSONResponse({"detail": "the request is no form, or too long"}, 400, SECURITY_HEADERS)
        then = _local(fields.get("next", ""))
        try:
            cookie, _ = door.log_in(visit_of(request), fields.get("key", ""), fields.get("form", ""))
        except AccessRefused as refused:
            return _form(door, request, then, refused)
        response = RedirectResponse(door.path + (then or WHOAMI), 303, SECURITY_HEADERS)
        response.set_cookie(
            door.session_cookie,
            cookie,
            max_age=int(door.session_s),
            path=door.path or "/",
            httponly=True,
            samesite="strict",
            secure=door.secure,
        )
        return response

    @router.post(LOGOUT, include_in_schema=False)
    async def log_out(request: Request, everywhere: bool = False) -> Response:
        try:
            if everywhere:
                door.log_out_everywhere(visit_of(request))
            else:
                door.log_out(visit_of(request))
        except AccessRefused as refused:
            return JSONResponse({"detail": refused.why}, refused.status, SECURITY_HEADERS)
        response = RedirectResponse(door.path + LOGIN, 303, SECURITY_HEADERS)
        response.delete_cookie(
            door.session_cookie,
            path=door.path or "/",
            httponly=True,
            samesite="strict",
            secure=door.secure,
        )
        return response

    @router.get(WHOAMI, include_in_schema=False)
    async def whoami(request: Request) -> Response:
        try:
            who = door.admit(visit_of(request), "viewer")
        except AccessRefused as refused:
            return JSONResponse({"detail": refused.why}, refused.status, SECURITY_HEADERS)
        return JSONResponse({"name": who.name, "role": who.role}, headers=SECURITY_HEADERS)

    return router


def _form(door: Door, request: Request, then: str, refused: AccessRefused | None = None) -> Response:
    """The login page, with what went wrong before."""
    browser = request.cookies.get(door.form_cookie, "")[:64] or door.new_browser()
    status = refused.status if refused is not None else 200
    page = login_page(
        action=door.path + LOGIN,
        form=door.new_form(browser),
        then=then,
        said=refused.why if refused is not None else "",
    )
    response = HTMLResponse(page, status, SECURITY_HEADERS)
    if refused is not None and refused.retry_after_s:
        response.headers["Retry-After"] = str(int(refused.retry_after_s) + 1)
    response.set_cookie(
        door.form_cookie,
        browser,
        path=door.path or "/",
        httponly=True,
        samesite="strict",
        secure=door.secure,
    )
    return response


async def _fields(request: Request) -> dict[str, str] | None:
    """The form's fields; None for what is no form."""
    if (
        request.headers.get("content-type", "").partition(";")[0].strip()
        != "application/x-www-form-urlencoded"
    ):
        return None
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _MAX_BODY_BYTES:
                return None
        fields = parse_qs(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=True, max_num_fields=16
        )
    except (ClientDisconnect, ValueError):
        return None
    return {name: values[-1] for name, values in fields.items()}


def _local(path: str) -> str:
    """`path` if it leads nowhere but to a page of ours; else ""."""
    parts = urlsplit(path)
    plain = path.isascii() and path.isprintable() and "\\" not in path
    return path if plain and path.startswith("/") and not path.startswith("//") and not parts.netloc else ""


def _login_url(connection: HTTPConnection) -> str:
    return f"{door_of(connection).path}{LOGIN}?next={quote(connection.url.path)}"
