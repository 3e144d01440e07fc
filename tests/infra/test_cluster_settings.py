"""`[cluster]`, `--cluster`, and Ray's token."""

import stat
from pathlib import Path

import pytest

from infra.cluster.loading import told_of
from infra.cluster.settings import ClusterSettings
from infra.cluster.token import token_environment
from infra.loading import capacity_of
from infra.settings import Settings, SettingsError, load_settings


def test_the_option_goes_over_the_file_and_leaves_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "maya.toml"
    file.write_text('[cluster]\naddress = "head:6379"\ntts_replicas = 3\ntoken_file = "token"\n')
    settings = load_settings({"MAYA_CLUSTER_LLM_GPUS": "0.25"}, file, {"cluster": "auto"})
    assert settings.cluster.address == "auto"
    assert settings.cluster.replicas("tts") == (3, 3)
    assert settings.cluster.gpus("llm") == 0.25
    assert settings.cluster.token_file == tmp_path / "token"
    assert load_settings({}, file).cluster.address == "head:6379"
    assert load_settings({}, None).cluster.address == ""


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "head:", ":6379", "http://head:80/x"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(SettingsError, match=r"--cluster.*auto, or host:port"):
        load_settings({}, None, {"cluster": address})


def test_most_is_never_less_than_least() -> None:
    assert ClusterSettings(tts_replicas=4, tts_most_replicas=2).replicas("tts") == (4, 4)
    assert ClusterSettings(tts_replicas=2, tts_most_replicas=6).replicas("tts") == (2, 6)


def test_a_server_takes_what_the_least_replicas_have_slots_for() -> None:
    alone = Settings.model_validate({"profile": "embedded"})
    cluster = {"address": "auto", "stt_replicas": 2, "llm_replicas": 3, "tts_replicas": 4}
    several = Settings.model_validate({"profile": "embedded", "cluster": cluster})
    own = capacity_of(alone, here=False)
    assert capacity_of(several).llm == 3 * own.llm
    assert capacity_of(several).tts == 4 * own.tts
    assert capacity_of(several).calls == 2 * own.stt
    bounded = Settings.model_validate({"profile": "embedded", "cluster": cluster, "capacity": {"calls": 5}})
    assert capacity_of(bounded).calls == 5


def test_replicas_are_told_nothing_secret() -> None:
    settings = Settings.model_validate(
        {
            "profile": "tiny",
            "auth_token": "hush",
            "talk_password": "hush",
            "models_dir": "models",
            "threads": 2,
            "cluster": {"address": "auto"},
        }
    )
    told = told_of(settings)
    assert "hush" not in str(told)
    assert told["profile"] == "tiny"
    assert told["threads"] == 2
    assert Path(told["models_dir"]).is_absolute()


def test_auto_makes_a_token_that_nobody_else_reads_and_keeps_it(tmp_path: Path) -> None:
    file = tmp_path / "ray" / "token"
    told = token_environment({}, file, make=True)
    assert told == {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    token = file.read_text()
    assert len(token) == 64
    token_environment({}, file, make=True)
    assert file.read_text() == token


def test_a_clusters_token_must_be_there_be_something_and_be_ours_alone(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(SettingsError, match="missing"):
        token_environment({"RAY_AUTH_TOKEN_PATH": str(file)}, None, make=False)
    file.touch(0o600)
    with pytest.raises(SettingsError, match="empty"):
        token_environment({}, file, make=False)
    file.write_text("t")
    file.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        token_environment({}, file, make=False)


def test_a_token_of_the_environment_is_enough() -> None:
    told = token_environment({"RAY_AUTH_TOKEN": "t"}, None, make=False)
    assert told == {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "t"}
