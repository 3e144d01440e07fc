import pytest


@pytest.fixture(autouse=True)
def logging_stays_pytests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run in this process must not take over its root logger."""
    monkeypatch.setattr("infra.logs.configure_logging", lambda level="info", log_format="text": None)
