"""The Caddyfile in front of a real `maya serve`: TLS by Caddy's own authority, a whole call through it."""

import http.client
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path

import pytest

from infra.local_server import LocalServer, free_port, local_server
from tests.certificates import certificate

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("caddy") is None, reason="no Caddy here: apt-get install caddy"),
]

CADDYFILE = Path(__file__).parents[2] / "infra" / "deploy" / "caddy" / "Caddyfile"
SCENARIO = """
name: through Caddy
voice: ruth
steps:
  - listen
  - say: What time do you open on Saturday?
  - listen
  - hang_up
"""


@dataclass(frozen=True)
class House:
    server: LocalServer
    https: int
    http: int
    authority: Path

    @property
    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority))

    def ask(self, method: str, path: str, body: bytes | None = None) -> "Answer":
        web = http.client.HTTPSConnection("localhost", self.https, context=self.trusting, timeout=10)
        with closing(web):
            web.request(method, path, body)
            answer = web.getresponse()
            answer.read()
            return Answer(answer.status, answer.headers)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with behind_caddy(tmp_path_factory.mktemp("caddy"), tls=False) as made:
        yield made


@pytest.fixture(scope="module")
def secured_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """The front-end has a certificate, too."""
    with behind_caddy(tmp_path_factory.mktemp("caddy"), tls=True) as made:
        yield made


@contextmanager
def behind_caddy(folder: Path, *, tls: bool) -> Iterator[House]:
    https, plain = free_port(), free_port()
    told = {"MAYA_PUBLIC_URL": f"https://localhost:{https}"}
    if tls:
        chain, key = certificate(folder, "public", "DNS:localhost")
        told |= {"MAYA_ACCESS_TLS_CERTIFICATE": str(chain), "MAYA_ACCESS_TLS_KEY": str(key)}
        told["MAYA_ACCESS_TLS_AUTHORITY"] = str(chain)
    with local_server(folder / "calls", folder / "server.log", ["--profile", "scripted"], told) as server:
        # Ports that anybody may have, and nothing put into the machine's own list of authorities.
        ours = f"http_port {plain}\n\thttps_port {https}\n\tadmin off\n\tskip_install_trust\n\tservers {{"
        text = CADDYFILE.read_text().replace("servers {", ours, 1)
        if tls:
            text = re.sub(r"^(\t+)#(?=transport http|\ttls_|})", r"\1", text, flags=re.MULTILINE)
        (folder / "Caddyfile").write_text(text)
        environment = os.environ | {
            "XDG_DATA_HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "MAYA_DOMAIN": "localhost",
            "MAYA_UPSTREAMS": f"http{'s' if tls else ''}://127.0.0.1:{server.port}",
            "MAYA_AUTHORITY": str(folder / "public.pem"),
        }
        with (folder / "caddy.log").open("wb") as log:
            caddy = subprocess.Popen(
                ["caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
            )
        try:
            made = House(
                server, https, plain, folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"
            )
            wait_until_serving(made, folder / "caddy.log")
            yield made
        finally:
            caddy.terminate()
            caddy.wait(20)


def wait_until_serving(house: House, log: Path) -> None:
    deadline = time.monotonic() + 100
    while True:
        try:
            if house.ask("GET", "/readyz").status == 200:
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, (house.server.log_lines(), log.read_text())
        time.sleep(0.2)


def test_a_call_goes_through_tls(house: House, tmp_path: Path) -> None:
    call_through(house, tmp_path)


def test_a_call_goes_through_tls_on_both_sides_of_the_proxy(secured_house: House, tmp_path: Path) -> None:
    call_through(secured_house, tmp_path)


def call_through(house: House, tmp_path: Path) -> None:
    (tmp_path / "call.yaml").write_text(SCENARIO)
    url = f"wss://localhost:{house.https}/twilio/media"
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from infra.cli import main; main()", "simulate"),
            *(str(tmp_path / "call.yaml"), "--url", url, "--json"),
        ],
        env=os.environ
        | {"TWILIO_AUTH_TOKEN": house.server.auth_token, "SSL_CERT_FILE": str(house.authority)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["violations"] == []
    assert report["turns"][0]["edge_gap_ms"] is not None


def test_plain_http_leads_to_https(house: House) -> None:
    with closing(http.client.HTTPConnection("localhost", house.http, timeout=10)) as web:
        web.request("GET", "/console")
        answer = web.getresponse()
        assert answer.status in (301, 308)
        assert (answer.getheader("location") or "").startswith("https://localhost")


def test_metrics_stay_inside_and_the_page_is_kept_to_tls(house: House) -> None:
    assert house.ask("GET", "/metrics").status == 404
    answer = house.ask("GET", "/login")
    assert answer.status == 200
    assert "max-age=" in answer.headers.get("strict-transport-security", "")
    cookies = answer.headers.get_all("set-cookie") or []
    (form,) = [cookie for cookie in cookies if "maya_form" in cookie]
    assert form.startswith("__Host-")
    assert "Secure" in form


def test_what_is_too_long_goes_no_further(house: House) -> None:
    """The refusal closes the connection on a body that is not read: while Caddy still sends that, it may see
    the closing alone."""
    assert house.ask("POST", "/twilio/voice", b"x" * 2_000_000).status in (413, 502)
    assert house.ask("POST", "/login", b"x" * 100_000).status in (413, 502)


def test_a_stranger_who_floods_is_told_apart_by_its_own_address(house: House) -> None:
    """Caddy writes down who asked, over whatever the client claims to be."""
    web = http.client.HTTPSConnection("localhost", house.https, context=house.trusting, timeout=10)
    with closing(web):
        statuses = []
        for number in range(150):
            web.request("GET", "/whoami", headers={"X-Forwarded-For": f"198.51.100.{number}"})
            answer = web.getresponse()
            answer.read()
            statuses.append(answer.status)
    assert set(statuses) == {401, 429}
    assert house.ask("GET", "/readyz").status in (200, 429)
