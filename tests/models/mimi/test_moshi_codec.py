"""The adapter where moshi is not, which is everywhere but in an environment of its own (tests/peers)."""

import importlib.util

import pytest

from models.mimi import moshi_codec
from models.mimi.checkpoint import MimiError
from models.mimi.opening import open_codec
from models.mimi.random_mimi import save_random_mimi


def test_the_tiny_size_is_not_moshis(tmp_path):
    save_random_mimi(tmp_path / "mimi.safetensors", tiny=True)
    with pytest.raises(MimiError, match="codec = own"):
        open_codec("moshi", tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("moshi") is not None, reason="moshi is installed")
def test_its_absence_names_the_extra(tmp_path):
    with pytest.raises(MimiError, match=r"maya-voice\[moshi\]"):
        moshi_codec.MoshiCodec(tmp_path / "mimi.safetensors")
