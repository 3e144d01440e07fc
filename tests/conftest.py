"""Tests beside other implementations need an environment of their own (infra/setup/peers.sh); elsewhere they
are not collected. Those marked `gpu` are skipped where torch finds no CUDA device."""

import importlib.util

import pytest

collect_ignore = [] if importlib.util.find_spec("torchtune") else ["peers"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    wanting = [item for item in items if item.get_closest_marker("gpu")]
    if wanting and not _has_cuda():
        for item in wanting:
            item.add_marker(pytest.mark.skip(reason="no CUDA device that torch can use"))


def _has_cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()
