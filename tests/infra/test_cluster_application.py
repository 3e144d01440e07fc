"""What Serve runs, without a Ray."""

import logging

import pytest

pytest.importorskip("ray.serve", reason="needs the extra `cluster`")

from infra.cluster.application import Replica


async def test_a_replica_whose_model_is_dead_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("infra")
    monkeypatch.setattr(logger, "level", logger.level)
    replica = Replica("llm", {"profile": "scripted"}, 0.0, "127.0.0.1")
    await replica.check_health()
    monkeypatch.setattr(replica._model, "alive", True, raising=False)
    await replica.check_health()
    monkeypatch.setattr(replica._model, "alive", False)
    with pytest.raises(RuntimeError, match="dead"):
        await replica.check_health()
    replica._loop.call_soon_threadsafe(replica._loop.stop)
