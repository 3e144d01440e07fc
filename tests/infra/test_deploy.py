"""What a deployment is made of fits together and is closed. What no engine could start is read as text."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from pytest_httpserver import HTTPServer

from infra.deploy.healthcheck import healthy

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "infra" / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
IMAGES = [ROOT / "Dockerfile", DEPLOY / "Dockerfile.cuda"]


# Compose


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_can_do_no_more_than_it_must(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert "privileged" not in service
    image = service["image"]
    assert image == "maya" or re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", image), (
        "a version, not whatever is newest"
    )


@pytest.mark.parametrize("name", SERVICES)
def test_what_a_service_names_is_there(name: str) -> None:
    service = SERVICES[name]
    for secret in service.get("secrets", ()):
        assert secret in COMPOSE["secrets"]
    for network in service["networks"]:
        assert network in COMPOSE["networks"]
    for mount in service.get("volumes", ()):
        source = mount.split(":")[0]
        if source.startswith("."):
            path = DEPLOY / source
            assert path.exists() or path.is_relative_to(DEPLOY / "secrets"), f"{source} is nowhere"
        else:
            assert source in COMPOSE["volumes"]
    for other in service.get("depends_on", {}):
        assert "healthcheck" in SERVICES[other]


def test_only_caddy_is_open_to_the_network() -> None:
    open_ = {
        port
        for service in SERVICES.values()
        for port in service.get("ports", ())
        if not port.startswith("127.0.0.1:")
    }
    assert open_ == {"80:80", "443:443", "443:443/udp"}
    assert COMPOSE["networks"]["back"]["internal"] is True
    assert "front" not in SERVICES["postgres"]["networks"]


def test_no_secret_stands_in_the_file() -> None:
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|TOKEN|SECRET|KEY", variable):
                assert str(value).startswith(("/run/secrets/", "/etc/maya/")), variable


def test_the_server_trusts_the_network_that_caddy_is_in() -> None:
    told = SERVICES["maya-a"]["environment"]
    assert told["MAYA_ACCESS_TRUSTED_PROXIES"] == COMPOSE["networks"]["front"]["ipam"]["config"][0]["subnet"]
    assert set(SERVICES["caddy"]["environment"]["MAYA_UPSTREAMS"].split()) == {"maya-a:8080", "maya-b:8080"}
    grace_s = int(SERVICES["maya-a"]["stop_grace_period"].removesuffix("s"))
    assert grace_s >= float(told["MAYA_DRAIN_S"]) + 10 + 5


def test_the_settings_in_the_compose_file_are_settings(tmp_path: Path) -> None:
    from infra.settings import load_settings, misspelt_variables

    told = {name: str(value) for name, value in SERVICES["maya-a"]["environment"].items()}
    told["MAYA_PUBLIC_URL"] = told["MAYA_PUBLIC_URL"].replace(
        "${MAYA_DOMAIN:?set MAYA_DOMAIN, such as maya.example.com}", "a.b"
    )
    (tmp_path / "secret").write_text("postgresql://maya:x@postgres/maya")
    for name in told:
        if told[name].startswith("/run/secrets/"):
            told[name] = str(tmp_path / "secret")
    assert misspelt_variables(told) == []
    settings = load_settings(told)
    settings.check_serving()
    assert settings.bind_host == "0.0.0.0"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder after new-secrets.sh."""
    folder = tmp_path_factory.mktemp("deploy")
    shutil.copy(DEPLOY / "new-secrets.sh", folder)
    run_new_secrets(folder)
    return folder


def run_new_secrets(folder: Path) -> str:
    command = f'{sys.executable} -c "from infra.cli import main; main()" "$@"'
    (folder / "maya").write_text(f"#!/bin/sh\nexec {command}\n")
    (folder / "maya").chmod(0o755)
    environment = os.environ | {"MAYA": str(folder / "maya"), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [str(folder / "new-secrets.sh")], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_new_secrets_are_what_the_compose_file_wants(made: Path) -> None:
    for secret in COMPOSE["secrets"].values():
        assert (made / secret["file"]).is_file()
    password = (made / "secrets/postgres_password").read_text().strip()
    assert len(password) == 48
    assert (made / "secrets/store_url").read_text().strip() == f"postgresql://maya:{password}@postgres/maya"
    assert (made / "secrets").stat().st_mode & 0o077 == 0
    from infra.access.keys import digest_of, parse_key_file

    admin, prometheus = parse_key_file((made / "secrets/keys/access_keys").read_text())
    assert (admin.role, prometheus.role) == ("admin", "metrics")
    assert digest_of((made / "secrets/metrics_key").read_text().strip()) == prometheus.digest


def test_secrets_that_are_there_stay(made: Path) -> None:
    before = {path: path.read_text() for path in (made / "secrets").rglob("*") if path.is_file()}
    assert "maya_" not in run_new_secrets(made)
    assert before == {path: path.read_text() for path in (made / "secrets").rglob("*") if path.is_file()}


# Images


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_an_image_runs_as_nobody_special(path: Path) -> None:
    text = path.read_text()
    final = text[text.rindex("\nFROM ") :]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert "HEALTHCHECK" in final
    assert "STOPSIGNAL SIGTERM" in final
    assert 'CMD ["maya", "serve"]' in final  # itself the first process: it gets the signal
    assert "g++" not in final
    for folder in ("telephony", "pipeline", "models", "infra", "bench"):
        assert f"COPY {folder} {folder}" in text


@pytest.mark.parametrize("path", IMAGES, ids=lambda path: path.name)
def test_an_image_has_what_its_extras_name(path: Path) -> None:
    (extras,) = re.findall(r"^ARG EXTRAS=(\S+)$", path.read_text(), re.MULTILINE)
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras.split(",")) <= set(known)
    assert "postgres" in extras.split(","), "the compose file's store"


def test_nothing_secret_gets_into_an_image() -> None:
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", "calls", "infra/deploy/secrets"} <= set(ignored)


@pytest.mark.parametrize(("status", "answer"), [(200, True), (503, False)])
def test_the_health_check_asks_whether_calls_are_taken(
    httpserver: HTTPServer, status: int, answer: bool
) -> None:
    httpserver.expect_request("/readyz").respond_with_json({}, status=status)
    assert healthy({"PORT": str(httpserver.port)}) is answer
    assert healthy({"PORT": "1", "MAYA_PORT": str(httpserver.port)}) is answer


def test_the_health_check_of_nobody() -> None:
    assert not healthy({"PORT": "1"})


# Units


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_the_units_are_right_and_closed(tmp_path: Path) -> None:
    for unit in ("maya.socket", "maya@.service"):
        text = (DEPLOY / "systemd" / unit).read_text()
        # It looks whether the command is there.
        (tmp_path / unit).write_text(text.replace("/opt/maya/bin/maya", "/bin/true"))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "./maya@a.service", "./maya.socket"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    said = [line for line in verified.stderr.splitlines() if "maya" in line]
    assert (verified.returncode, said) == (0, [])
    score = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", "./maya@.service"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert score.returncode == 0, score.stdout[-300:]  # 2.0 of 10


def test_the_unit_gives_the_drain_its_time() -> None:
    from infra.settings import Settings

    unit = (DEPLOY / "systemd" / "maya@.service").read_text()
    (stop_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(stop_s) >= Settings().drain_s + 10 + 5


# Checks


@pytest.mark.parametrize(
    ("result", "accepted", "status", "said"),
    [
        ("", "", 0, "NOT AUDITED"),
        ({"dependencies": [{"name": "a", "skip_reason": "nobody there"}]}, "", 0, "NOT AUDITED"),
        (
            {"dependencies": [{"name": "a", "version": "1", "vulns": []}]},
            "",
            0,
            "1 packages audited, 0 holes",
        ),
        ("HOLE", "", 1, "a 1: PYSEC-1 CVE-1; mended in 2"),
        ("HOLE", "# read\nCVE-1 not reached\n", 0, "0 holes that are not accepted"),
        ("HOLE", "# CVE-1\n", 1, "1 holes"),
    ],
)
def test_the_audit_fails_for_holes_and_says_when_nobody_could_be_asked(
    tmp_path: Path, result: object, accepted: str, status: int, said: str
) -> None:
    if result == "HOLE":
        hole = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}
        result = {"dependencies": [{"name": "a", "version": "1", "vulns": [hole]}]}
    (tmp_path / "result").write_text(json.dumps(result) if result else "")
    (tmp_path / "accepted").write_text(accepted)
    done = subprocess.run(
        [sys.executable, ROOT / "infra/setup/audit_report.py", "result", "accepted", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (status, "")
    assert said in done.stdout


@pytest.mark.skipif(
    not (ROOT / ".venv-security").exists(), reason="no .venv-security here: infra/setup/security.sh makes it"
)
def test_a_planted_secret_is_found(tmp_path: Path) -> None:
    """In a repository of its own, with our baseline and our script."""
    for name in ("secrets.sh", "common.sh", "secrets.baseline"):
        target = tmp_path / "infra" / "setup" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / "infra" / "setup" / name, target)
    (tmp_path / ".venv-security").symlink_to(ROOT / ".venv-security")
    (tmp_path / ".gitignore").write_text(".venv-security\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)

    def scan() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["infra/setup/secrets.sh"], cwd=tmp_path, capture_output=True, text=True, timeout=60
        )

    (tmp_path / "plain.py").write_text('GREETING = "Hello, this is Maya."\n')
    assert scan().returncode == 0
    for planted in (
        "token = 'ghp_" + "a1B2" * 9 + "'",
        "-----BEGIN RSA PRIVATE " + "KEY-----\nMIIE",
        "curl -H 'Authorization: Bearer maya_" + "Zx9_" * 10 + "abc'",
    ):
        (tmp_path / "plain.py").write_text(planted + "\n")
        done = scan()
        assert done.returncode != 0, planted[:12]
        assert "plain.py" in done.stdout
