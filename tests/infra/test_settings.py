from pathlib import Path

import pytest

from infra.settings import Settings, SettingsError, load_settings, misspelt_variables
from pipeline.documents import DocumentError

SECRET = "b3a9c1-very-secret"
TWILIO = {"TWILIO_AUTH_TOKEN": SECRET, "TWILIO_ACCOUNT_SID": "AC1"}
TLS = {"MAYA_ACCESS_TLS_CERTIFICATE": "c.pem", "MAYA_ACCESS_TLS_KEY": "k.pem"}


def settings(environ: dict[str, str] | None = None, **options: object) -> Settings:
    return load_settings(environ or {}, options=options)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_later_sources_win(tmp_path: Path) -> None:
    (tmp_path / "maya.toml").write_text('port = 1001\nprofile = "tiny"\nhost = "127.0.0.2"\n')
    merged = load_settings({"MAYA_PORT": "1002", "MAYA_HOST": "127.0.0.3"}, options={"port": 1003})
    assert (merged.port, merged.host, merged.profile) == (1003, "127.0.0.3", "tiny")


def test_an_option_that_was_not_given_changes_nothing() -> None:
    assert settings({"MAYA_PORT": "1002"}, port=None).port == 1002


def test_procfile_runners_set_port() -> None:
    assert settings({"PORT": "5000"}).port == 5000
    assert settings({"PORT": "5000", "MAYA_PORT": "1"}).port == 1


def test_paths_in_the_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    file = tmp_path / "etc" / "maya.toml"
    file.write_text('persona = "shop.toml"\ncalls_dir = "/var/calls"\n')
    merged = load_settings({}, file)
    assert merged.persona == tmp_path / "etc" / "shop.toml"
    assert merged.calls_dir == Path("/var/calls")


@pytest.mark.parametrize(
    ("text", "line", "word"),
    [
        ('port = 8080\nprot = "x"\n', 2, "prot"),
        ("port = 8080\n\nhost = [\n", 3, ""),
        ("\nport = 99999\n", 2, "port"),
        (f'auth_token = "{SECRET}"\n', 1, "auth_token"),
    ],
)
def test_an_unreadable_file_is_named_with_its_line(tmp_path: Path, text: str, line: int, word: str) -> None:
    (tmp_path / "maya.toml").write_text(text)
    with pytest.raises(DocumentError) as caught:
        settings()
    assert "maya.toml" in str(caught.value)
    assert word in str(caught.value)
    assert caught.value.line is not None
    assert abs(caught.value.line - line) <= 1
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "options", "named"),
    [
        ({"MAYA_PORT": "eighty"}, {}, "MAYA_PORT"),
        ({"PORT": "-1"}, {}, "PORT"),
        ({}, {"profile": "huge"}, "--profile"),
        ({"MAYA_DRAIN_S": "-3"}, {}, "MAYA_DRAIN_S"),
    ],
)
def test_a_wrong_value_names_its_source(
    environ: dict[str, str], options: dict[str, object], named: str
) -> None:
    with pytest.raises(SettingsError, match=named):
        settings(environ, **options)


def test_secrets_never_show() -> None:
    merged = settings({**TWILIO, "TWILIO_AUTH_TOKEN_SECONDARY": SECRET + "2"})
    assert SECRET not in repr(merged) + str(merged) + merged.model_dump_json()
    assert merged.auth_tokens == (SECRET, SECRET + "2")


def test_the_environment_cannot_make_the_server_insecure() -> None:
    assert not settings({"MAYA_INSECURE": "1"}).insecure


@pytest.mark.parametrize(
    ("environ", "options", "complaint"),
    [
        (TWILIO, {"insecure": True}, "exclude each other"),
        ({}, {"insecure": True, "host": "0.0.0.0"}, "this machine only"),
        (TWILIO, {"host": "0.0.0.0"}, "MAYA_PUBLIC_URL"),
    ],
)
def test_serving_is_refused(environ: dict[str, str], options: dict[str, object], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint) as caught:
        settings(environ, **options).check_serving()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("environ", "options", "host"),
    [
        (TWILIO, {}, "127.0.0.1"),
        (TWILIO, {"public_url": "https://maya.example.com/"}, "127.0.0.1"),
        (TWILIO, {"public_url": "https://maya.example.com/", "host": "0.0.0.0"}, "0.0.0.0"),
        (TWILIO | TLS, {"public_url": "https://maya.example.com/"}, "0.0.0.0"),
        (TWILIO | TLS, {"public_url": "https://localhost:8080"}, "127.0.0.1"),
        (TWILIO, {"public_url": "https://maya.example.com", "host": "127.0.0.1"}, "127.0.0.1"),
        ({}, {"insecure": True}, "127.0.0.1"),
        ({}, {"insecure": True, "host": "::1"}, "::1"),
    ],
)
def test_where_it_listens(environ: dict[str, str], options: dict[str, object], host: str) -> None:
    merged = settings(environ, **options)
    merged.check_serving()
    assert merged.bind_host == host
    assert not merged.public_base_url.endswith("/")


def test_misspelt_variables_are_pointed_out() -> None:
    lines = misspelt_variables(
        {"MAYA_PUBLIC_ULR": "x", "MAYA_APP_DIR_OF_ANOTHER_PROGRAM": "y", "MAYA_PORT": "1"}
    )
    assert lines == ["MAYA_PUBLIC_ULR is no setting of Maya; did you mean MAYA_PUBLIC_URL?"]


def test_the_voice_is_described_by_settings(tmp_path: Path) -> None:
    (tmp_path / "maya.toml").write_text('tts = "csm-1b"\ndevices = "tts=cuda:1"\nvoice_weights = "int8"\n')
    merged = settings({"MAYA_SPEAKER": "4", "MAYA_TTS_SLOTS": "16"}, voice_context="text")
    assert (merged.tts, merged.devices, merged.voice_weights) == ("csm-1b", "tts=cuda:1", "int8")
    assert (merged.speaker, merged.tts_slots, merged.voice_context) == (4, 16, "text")


def test_a_voice_in_the_files_folder_is_found_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "etc" / "voice").mkdir(parents=True)
    file = tmp_path / "etc" / "maya.toml"
    file.write_text('tts = "voice"\nmimi = "mimi.safetensors"\nvoice_prompt = "ex04.safetensors"\n')
    merged = load_settings({}, file)
    assert merged.tts == str(tmp_path / "etc" / "voice")
    assert merged.mimi == tmp_path / "etc" / "mimi.safetensors"
    assert merged.voice_prompt == tmp_path / "etc" / "ex04.safetensors"


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"MAYA_CODEC": "other"}, "MAYA_CODEC"),
        ({"MAYA_VOICE_WEIGHTS": "int4"}, "MAYA_VOICE_WEIGHTS"),
        ({"MAYA_VOICE_CONTEXT": "all"}, "MAYA_VOICE_CONTEXT"),
        ({"MAYA_TTS_SLOTS": "0"}, "MAYA_TTS_SLOTS"),
        ({"MAYA_SPEAKER": "-1"}, "MAYA_SPEAKER"),
    ],
)
def test_a_wrong_voice_setting_names_its_source(environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        settings(environ)


# Tables


def test_a_tables_settings_come_from_the_file_the_environment_and_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "maya.toml").write_text('[sip]\nallow = ["10.0.0.0/8"]\nport = 5070\n')
    environ = {"MAYA_SIP_USERS": "ann: s3cret, bob:hunter2", "MAYA_SIP_CODECS": "PCMA"}
    sip = load_settings(environ, options={"sip": "192.0.2.1:5080"}).sip
    assert sip is not None
    assert (sip.host, sip.port, sip.codecs) == ("192.0.2.1", 5080, ("PCMA",))
    assert sip.secrets() == {"ann": "s3cret", "bob": "hunter2"}
    assert [str(network) for network in sip.allow] == ["10.0.0.0/8"]


def test_a_table_that_nobody_writes_is_off() -> None:
    merged = settings()
    assert merged.sip is None
    assert merged.asterisk is None
    assert merged.outbound.allowed_prefixes == ()


def test_an_insecure_server_takes_sip_from_this_machine() -> None:
    sip = settings(sip="127.0.0.1:0", insecure=True).sip
    assert sip is not None
    assert sip.insecure
    with pytest.raises(SettingsError, match="--sip: insecure takes calls from this machine only"):
        settings(sip="0.0.0.0:5060", insecure=True)


def test_sip_for_nobody_says_whom_to_let_in() -> None:
    with pytest.raises(SettingsError, match="nobody may call: list the networks"):
        settings(sip="0.0.0.0:5060")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"MAYA_OUTBOUND_DAILY": "many"}, "MAYA_OUTBOUND_DAILY = 'many'"),
        ({"MAYA_OUTBOUND_ALLOWED_PREFIXES": "0049"}, "MAYA_OUTBOUND_ALLOWED_PREFIXES = '0049'"),
        ({"MAYA_RECORDING_KEEP": "nothing"}, "MAYA_RECORDING_KEEP = 'nothing'"),
    ],
)
def test_a_wrong_value_in_a_table_names_where_it_stands(environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        settings(environ)
    assert named in str(caught.value)


def test_secrets_of_tables_do_not_show() -> None:
    with pytest.raises(SettingsError) as caught:
        settings({"MAYA_SIP_USERS": f"ann:{SECRET}", "MAYA_SIP_HOST": "phones.example.com"})
    assert SECRET not in str(caught.value)
    with pytest.raises(SettingsError) as caught:
        settings({"MAYA_ASTERISK_SECRET": f"{SECRET}&"})
    assert SECRET not in str(caught.value)
    # A key where its hash should stand.
    with pytest.raises(SettingsError, match=r"MAYA_OUTBOUND_API_KEYS.*maya keys new") as caught:
        settings({"MAYA_OUTBOUND_API_KEYS": SECRET})
    assert SECRET not in str(caught.value)


def test_a_key_in_the_file_does_not_show(tmp_path: Path) -> None:
    path = tmp_path / "maya.toml"
    path.write_text(f'[outbound]\napi_keys = ["{SECRET}"]\n')
    with pytest.raises(DocumentError, match="maya keys new") as caught:
        load_settings({}, path)
    assert SECRET not in str(caught.value)


def test_a_table_is_not_one_variable() -> None:
    with pytest.raises(SettingsError, match=r"MAYA_SIP: \[sip\] is a table; set its keys, such as MAYA_SIP_"):
        settings({"MAYA_SIP": "0.0.0.0:5060"})


def test_without_a_token_twilio_is_off_where_calls_come_another_way() -> None:
    assert settings().takes_twilio
    assert settings(TWILIO).takes_twilio
    assert not settings({"MAYA_SIP_ALLOW": "10.0.0.0/8"}).takes_twilio
    assert settings({"MAYA_SIP_ALLOW": "10.0.0.0/8", **TWILIO}).takes_twilio


def test_variables_of_tables_are_known() -> None:
    environ = {"MAYA_SIP_ALLOW": "10.0.0.0/8", "MAYA_RECORDINGS_KEY": "x", "MAYA_API_KEY": "y"}
    assert misspelt_variables(environ) == []
    assert "did you mean MAYA_SIP_ALLOW" in misspelt_variables({"MAYA_SIP_ALOW": "x"})[0]
