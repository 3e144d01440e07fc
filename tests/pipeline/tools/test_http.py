"""HTTP tools: what is asked of whom, and what is not."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from pipeline.tools.http import http_tool, request_of
from pipeline.tools.settings import HttpTool
from pipeline.tools.tool import ToolError, ToolFailed

NO_DESK: Any = None
PUBLIC = "93.184.216.34"
STATUS = {
    "name": "order_status",
    "description": "Look up an order.",
    "url": "https://shop.example.com/orders/{number}",
    "parameters": {"number": {}},
}


def settings(**changes: object) -> HttpTool:
    return HttpTool.model_validate(STATUS | changes)


def at(*addresses: str) -> Callable[[str, int], Awaitable[Sequence[str]]]:
    async def resolve(host: str, port: int) -> Sequence[str]:
        return addresses

    return resolve


def as_it_arrives(answer: httpx.Response) -> httpx.Response:
    """As the network gives it: in pieces that are read once."""

    async def pieces() -> AsyncIterator[bytes]:
        yield answer.content

    return httpx.Response(answer.status_code, headers=answer.headers, content=pieces())


async def ask(
    given: dict[str, object],
    answer: httpx.Response | Callable[[httpx.Request], httpx.Response],
    *addresses: str,
    environment: dict[str, str] | None = None,
    **changes: object,
) -> tuple[object, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answer(request) if callable(answer) else as_it_arrives(answer)

    tool = http_tool(
        settings(**changes),
        environment or {},
        resolve=at(*(addresses or (PUBLIC,))),
        transport=httpx.MockTransport(handle),
    )
    return await tool.use(tool.arguments.model_validate(given), NO_DESK), asked


async def test_the_host_is_the_personas_and_the_connection_goes_where_was_looked() -> None:
    result, [request] = await ask({"number": "4711"}, httpx.Response(200, json={"status": "late", "days": 2}))
    assert result == '{"status": "late", "days": 2}'
    assert request.url == f"https://{PUBLIC}/orders/4711"
    assert request.headers["host"] == "shop.example.com"
    assert request.extensions["sni_hostname"] == "shop.example.com", "the certificate must be the name's"
    assert request.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("value", "path"),
    [
        ("47/11", "/orders/47%2F11"),
        ("4711?admin=1", "/orders/4711%3Fadmin%3D1"),
        ("4711#x", "/orders/4711%23x"),
        ("../users", "/orders/..%2Fusers"),
        ("@evil.example.net", "/orders/%40evil.example.net"),
        ("4711\r\nX-Admin: 1", "/orders/4711%0D%0AX-Admin%3A%201"),
        ("%2e%2e", "/orders/%252e%252e"),
        ("Zo\u00eb", "/orders/Zo%C3%AB"),
    ],
)
async def test_what_the_model_says_stays_in_its_place(value: str, path: str) -> None:
    url, _ = request_of(settings(), {"number": value})
    assert url == f"https://shop.example.com{path}"


@pytest.mark.parametrize("value", ["", ".", ".."])
def test_a_value_that_would_be_another_path_is_refused(value: str) -> None:
    with pytest.raises(ToolFailed):
        request_of(settings(), {"number": value})


def test_what_the_url_does_not_name_goes_into_the_query_or_the_body() -> None:
    parameters = {"number": {}, "note": {"required": False}, "days": {"type": "integer"}}
    url, body = request_of(settings(parameters=parameters), {"number": "1", "days": 3, "note": "a&b=c"})
    assert (url, body) == ("https://shop.example.com/orders/1?days=3&note=a%26b%3Dc", None)
    url, body = request_of(settings(parameters=parameters, method="POST"), {"number": "1", "days": 3})
    assert (url, body) == ("https://shop.example.com/orders/1", {"days": 3})


def test_a_body_may_be_spelled_out_and_a_query_leave_out_what_is_not_given() -> None:
    spelled = settings(
        method="POST",
        url="https://shop.example.com/notes?shop=1&day={day}",
        parameters={"day": {"required": False}, "count": {"type": "integer"}, "text": {}},
        body={"count": "{count}", "note": "From the phone: {text}"},
    )
    url, body = request_of(spelled, {"count": 2, "text": 'say "hi"'})
    assert url == "https://shop.example.com/notes?shop=1"
    assert body == {"count": 2, "note": 'From the phone: say "hi"'}


async def test_secrets_come_from_the_environment_and_are_missed_at_once() -> None:
    headers = {"Authorization": "Bearer {env:SHOP_TOKEN}"}
    _, [request] = await ask(
        {"number": "1"}, httpx.Response(204), environment={"SHOP_TOKEN": "s3cret"}, headers=headers
    )
    assert request.headers["authorization"] == "Bearer s3cret"
    with pytest.raises(ToolError, match="SHOP_TOKEN"):
        http_tool(settings(headers=headers), {})


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:10.0.0.1",
        "2002:0a00:0001::1",
        "not an address",
    ],
)
async def test_a_name_that_means_a_private_address_is_not_asked(address: str) -> None:
    with pytest.raises(ToolFailed):
        await ask({"number": "1"}, httpx.Response(200, text="secret"), PUBLIC, address)


async def test_private_addresses_are_asked_where_the_persona_says_so_and_link_local_ones_never() -> None:
    result, _ = await ask({"number": "1"}, httpx.Response(200, text="ok"), "10.1.2.3", allow_private=True)
    assert result == "ok"
    for address in ("169.254.169.254", "fe80::1", "0.0.0.0"):
        with pytest.raises(ToolFailed):
            await ask({"number": "1"}, httpx.Response(200), address, allow_private=True)


async def test_a_name_that_is_not_known_is_a_failure() -> None:
    async def unknown(host: str, port: int) -> Sequence[str]:
        raise OSError("no such name")

    tool = http_tool(settings(), {}, resolve=unknown)
    with pytest.raises(ToolFailed, match="cannot be reached"):
        await tool.use(tool.arguments(number="1"), NO_DESK)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(302, headers={"location": "http://169.254.169.254/"}),
        httpx.Response(307, headers={"location": "https://shop.example.com/else"}),
        httpx.Response(404),
        httpx.Response(500, text="stack trace with secrets"),
        httpx.Response(200, content=b"\x89PNG", headers={"content-type": "image/png"}),
        httpx.Response(200, content=b"x", headers={"content-encoding": "br", "content-type": "text/plain"}),
    ],
    ids=["redirect", "redirect home", "missing", "broken", "image", "compressed"],
)
async def test_other_answers_are_short_sentences(answer: httpx.Response) -> None:
    with pytest.raises(ToolFailed) as caught:
        await ask({"number": "1"}, answer)
    assert len(caught.value.reason) < 60
    assert "secrets" not in caught.value.reason


async def test_an_endless_answer_is_read_up_to_the_limit() -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 1000
            yield b"x" * 1000

    result, _ = await ask(
        {"number": "1"},
        lambda request: httpx.Response(200, content=endless(), headers={"content-type": "text/plain"}),
        max_bytes=5000,
    )
    assert result == "x" * 5000
    assert sent <= 7000


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"url": "http://shop.example.com/x"}, "only https"),
        ({"url": "https://{number}.example.com/x"}, "host must be fixed"),
        ({"url": "https://shop.example.com:{number}/x"}, r"host must be fixed|no URL"),
        ({"url": "{number}://shop.example.com/x"}, "no URL"),
        ({"url": "https://me:pw@shop.example.com/x"}, "password"),
        ({"url": "https:///x"}, "no URL"),
        ({"url": "https://shop.example.com/x#y"}, "fragment"),
        ({"url": "https://shop.example.com\\@evil.example.net/x"}, "no URL"),
        ({"url": "ftp://shop.example.com/x"}, "only https"),
        ({"url": "file:///etc/passwd"}, "no URL"),
        ({"url": "https://shop.example.com/{other}"}, "no parameter"),
        ({"parameters": {"number": {"required": False}}}, "must be required"),
        ({"body": {"x": "1"}}, "no body"),
        ({"parameters": {"number": {"type": "integer", "enum": ["1"]}}}, "enum"),
        ({"max_bytes": 1 << 30}, "max_bytes"),
        ({"name": "Order"}, "name"),
    ],
    ids=str,
)
def test_a_tool_that_could_reach_elsewhere_is_refused(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        settings(**changes)


def test_what_is_no_get_changes_something() -> None:
    assert not settings().changes_something
    assert settings(method="POST").changes_something
    assert not settings(method="POST", side_effects=False).changes_something


async def test_a_service_on_this_machine_is_asked_for_real(httpserver: HTTPServer) -> None:
    def answer(request: Request) -> Response:
        return Response(f"{request.path} {request.headers['Host']}", content_type="text/plain")

    httpserver.expect_request("/orders/4711").respond_with_handler(answer)
    tool = http_tool(settings(url=httpserver.url_for("/orders/{number}")), {})
    result = await tool.use(tool.arguments(number="4711"), NO_DESK)
    assert result == f"/orders/4711 {httpserver.host}:{httpserver.port}"
