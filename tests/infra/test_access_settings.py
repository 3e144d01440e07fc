"""Secrets from files, [access], and which addresses are served in the open."""

from pathlib import Path

import pytest

from infra.settings import SettingsError, load_settings, misspelt_variables, secret_variables

HASH = "ab" * 32


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def file(folder: Path, content: str) -> str:
    path = folder / "secret"
    path.write_text(content)
    return str(path)


def test_every_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    named = secret_variables()
    assert {"TWILIO_AUTH_TOKEN", "MAYA_TALK_PASSWORD", "MAYA_SIP_USERS", "MAYA_STORE_URL"} <= set(named)
    merged = load_settings({"TWILIO_AUTH_TOKEN_FILE": file(tmp_path, "s3cret\n")})
    assert merged.auth_tokens == ("s3cret",)
    merged = load_settings(
        {"MAYA_SIP_HOST": "127.0.0.1", "MAYA_SIP_USERS_FILE": file(tmp_path, "ann:one, bob:two")}
    )
    assert merged.sip is not None
    assert merged.sip.secrets() == {"ann": "one", "bob": "two"}


def test_the_trunks_secret_comes_from_outside_too(tmp_path: Path) -> None:
    (tmp_path / "maya.toml").write_text('[sip]\n[sip.trunk]\nhost = "sip.example.com"\nuser = "u"\n')
    merged = load_settings({"MAYA_SIP_TRUNK_SECRET_FILE": file(tmp_path, "s3cret")})
    assert merged.sip is not None
    assert merged.sip.trunk is not None
    assert merged.sip.trunk.secret.get_secret_value() == "s3cret"


def test_a_keys_file_stays_a_file_that_is_looked_at_again(tmp_path: Path) -> None:
    path = file(tmp_path, f"ann:viewer:never:{HASH}")
    merged = load_settings({"MAYA_ACCESS_KEYS_FILE": path})
    assert merged.access.keys == ()
    assert merged.access.keys_file == Path(path)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TWILIO_AUTH_TOKEN_FILE": "none"}, "TWILIO_AUTH_TOKEN_FILE: none cannot be read"),
        ({"TWILIO_AUTH_TOKEN_FILE": "/"}, "cannot be read"),
        ({"TWILIO_AUTH_TOKEN_FILE": "secret", "TWILIO_AUTH_TOKEN": "x"}, "both set"),
        ({"MAYA_TALK_PASSWORD_FILE": "empty"}, "is empty"),
        ({"MAYA_TALK_PASSWORD_FILE": "binary"}, "no text"),
    ],
)
def test_a_file_that_does_not_do_is_named(tmp_path: Path, environ: dict[str, str], said: str) -> None:
    file(tmp_path, "s3cret")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=said) as caught:
        load_settings(environ)
    assert "s3cret" not in str(caught.value)


def test_a_misspelt_one_is_pointed_out() -> None:
    assert misspelt_variables({"MAYA_TALK_PASSWORD_FIEL": "x"}) == [
        "MAYA_TALK_PASSWORD_FIEL is no setting of Maya; did you mean MAYA_TALK_PASSWORD_FILE?"
    ]


def test_whoever_writes_the_key_for_its_line_does_not_see_it_in_the_error() -> None:
    with pytest.raises(SettingsError, match="maya keys new") as caught:
        load_settings({"MAYA_ACCESS_KEYS": "maya_thekeyitself"})
    assert "thekeyitself" not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "refused"),
    [
        ({"MAYA_PUBLIC_URL": "https://maya.example.com"}, ""),
        ({"MAYA_PUBLIC_URL": "http://maya.example.com"}, "without TLS"),
        ({"MAYA_PUBLIC_URL": "http://127.0.0.1:8080"}, ""),
        ({"MAYA_HOST": "0.0.0.0"}, "no public URL"),
        ({}, ""),
        (
            {
                "MAYA_PUBLIC_URL": "http://maya.example.com",
                "MAYA_ACCESS_TLS_CERTIFICATE": "c",
                "MAYA_ACCESS_TLS_KEY": "k",
            },
            "speaks https",
        ),
    ],
)
def test_a_public_address_is_not_served_in_the_open(environ: dict[str, str], refused: str) -> None:
    # With SIP alone, where nothing of Twilio's asks for https.
    merged = load_settings({**environ, "MAYA_SIP_ALLOW": "10.0.0.0/8"})
    if refused:
        with pytest.raises(SettingsError, match=refused):
            merged.check_serving()
    else:
        merged.check_serving()


def test_with_a_certificate_this_machines_address_is_https() -> None:
    merged = load_settings({"MAYA_ACCESS_TLS_CERTIFICATE": "c", "MAYA_ACCESS_TLS_KEY": "k"})
    assert merged.public_base_url == "https://127.0.0.1:8080"
