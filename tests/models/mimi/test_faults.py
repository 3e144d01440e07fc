"""Each mistake that is easily made in Mimi, made on purpose: the golden vectors must reject it."""

from dataclasses import replace

import pytest
import torch

from models.mimi import convolution, transformer
from models.mimi.config import MIMI_TINY
from models.mimi.own import OwnMimi
from models.mimi.random_mimi import RandomSource
from tests.golden import mimi_case as case
from tests.models.mimi.golden import LIMITS, differences, rejected

BY_FAR = 10
"""A fault must exceed its limit this many times: it is found by more than luck."""
ALL = set(LIMITS)
SOUND = {"stream", "whole"}
CODES = {"stream_codes", "whole_codes"}
STREAMS = {"stream", "stream_codes"}
WHOLES = {"whole", "whole_codes"}


class Altered:
    """The golden weights, some of them changed."""

    def __init__(self, change=lambda name, tensor: tensor, rename=lambda name: name):
        self._source = RandomSource(case.SEED, MIMI_TINY)
        self._change, self._rename = change, rename

    def __getitem__(self, name):
        return self._change(name, self._source[self._rename(name)])


def assert_rejected(expected, source=None, config=MIMI_TINY):
    found = differences(OwnMimi(source or Altered(), config), expected)
    assert rejected(found) == expected, found
    assert all(not found[what] <= BY_FAR * LIMITS[what] for what in expected), found


def swapped(one, other):
    def rename(name):
        if one in name:
            return name.replace(one, other)
        return name.replace(other, one)

    return rename


def only(suffix, change):
    return lambda name, tensor: change(tensor) if name.endswith(suffix) else tensor


# --- weights read wrongly ---


def test_rope_layout():
    """Queries and keys stored for rotation by halves."""

    def halves(tensor):
        turned = tensor.clone()
        heads = turned[: 2 * MIMI_TINY.dim].view(2 * MIMI_TINY.heads, MIMI_TINY.head_dim, -1)
        turned[: 2 * MIMI_TINY.dim] = torch.cat((heads[:, ::2], heads[:, 1::2]), 1).flatten(0, 1)
        return turned

    assert_rejected(ALL, Altered(only("in_projs.0.weight", halves)))


def test_rope_base():
    assert_rejected(ALL, config=replace(MIMI_TINY, rope_base=500_000.0))


@pytest.mark.parametrize("layer", [(3, 4), (0, 30)])
def test_two_codebooks_swapped(layer):
    one, other = (f"rvq_rest.vq.layers.{number}." for number in layer)
    assert_rejected(ALL, Altered(rename=swapped(one, other)))


def test_the_split_of_the_quantizer_reversed():
    assert_rejected(SOUND, Altered(rename=swapped("rvq_first.output_proj", "rvq_rest.output_proj")))
    assert_rejected(CODES, Altered(rename=swapped("rvq_first.input_proj", "rvq_rest.input_proj")))


def test_centroids_not_divided_by_their_usage():
    assert_rejected(ALL, Altered(only("cluster_usage", torch.ones_like)))


@pytest.mark.parametrize("scale", ["layer_scale_1.scale", "layer_scale_2.scale"])
def test_a_layer_scale_left_out(scale):
    assert_rejected(ALL, Altered(only(scale, torch.ones_like)))


def test_the_norms_biases_left_out():
    assert_rejected(ALL, Altered(only("norm2.bias", torch.zeros_like)))


def test_the_halves_of_an_overlap_exchanged():
    def exchanged(tensor):
        return tensor.roll(tensor.shape[2] // 2, 2)

    assert_rejected(SOUND, Altered(only("decoder.model.8.convtr.convtr.weight", exchanged)))
    assert_rejected(SOUND, Altered(only("upsample.convtr.convtr.convtr.weight", exchanged)))


# --- computed wrongly ---


@pytest.mark.parametrize("window", [249, 251])
def test_the_window_off_by_one_when_whole(window):
    assert_rejected(WHOLES, config=replace(MIMI_TINY, window=window))


@pytest.mark.parametrize("window", [248, 252])
def test_the_ring_off_by_one_codec_frame(window):
    assert_rejected(STREAMS, config=replace(MIMI_TINY, window=window))


def test_the_ring_as_wide_for_a_codec_frames_first_step_as_for_its_second(monkeypatch):
    """What the whole pass does, and a stream of moshi's does not."""

    def attend_each(q, k, v, keys, values, places):
        out = []
        for row, (slot, position) in enumerate(places):
            for step in (0, 1):
                at, held = (position + step) % keys.shape[2], min(position + step + 1, keys.shape[2])
                keys[slot, :, at], values[slot, :, at] = k[row, :, step], v[row, :, step]
                scores = q[row, :, step : step + 1] @ keys[slot, :, :held].transpose(1, 2)
                out.append(scores.softmax(2) @ values[slot, :, :held])
        return torch.cat(out, 1).unflatten(1, (len(places), 2)).transpose(0, 1)

    monkeypatch.setattr(transformer, "_attend_each", attend_each)
    assert_rejected(STREAMS)


def test_a_codec_frames_first_step_sees_its_second(monkeypatch):
    true = transformer._attend_each

    def sees_ahead(q, k, v, keys, values, places):
        out = true(q, k, v, keys, values, places)
        for row, (slot, position) in enumerate(places):
            held = min(position + 2, keys.shape[2])
            scores = q[row] @ keys[slot, :, :held].transpose(1, 2)
            out[row] = scores.softmax(2) @ values[slot, :, :held]
        return out

    monkeypatch.setattr(transformer, "_attend_each", sees_ahead)
    assert_rejected(STREAMS)


def test_positions_that_do_not_advance(monkeypatch):
    true = transformer.Transformer._rotation
    monkeypatch.setattr(
        transformer.Transformer, "_rotation", lambda self, steps: true(self, steps - steps[:, :1])
    )
    assert_rejected(STREAMS)


@pytest.mark.parametrize(
    ("inputs", "kernel", "expected"),
    [
        (32, 7, SOUND),  # the decoder's first
        (16, 3, ALL),  # a residual, of the decoder and of the encoder
        (4, 3, ALL),  # the decoder's last, and the encoder's first residual
        (1, 7, CODES),  # the encoder's first
        (32, 16, CODES),  # the encoder's last stride
    ],
)
def test_a_convolutions_past_dropped(monkeypatch, inputs, kernel, expected):
    true = convolution.Convolution.__call__

    def forgetful(self, x, past):
        if self.inputs == inputs and self._kernel == kernel:
            past = [torch.zeros_like(tensor) for tensor in past]
        return true(self, x, past)

    monkeypatch.setattr(convolution.Convolution, "__call__", forgetful)
    assert_rejected({what for what in expected if what in STREAMS})


def test_the_overlap_dropped(monkeypatch):
    true = convolution.Transposed.__call__
    monkeypatch.setattr(
        convolution.Transposed,
        "__call__",
        lambda self, x, past: true(self, x, [torch.zeros_like(tensor) for tensor in past]),
    )
    assert_rejected({"stream"})


def test_downsampling_that_begins_with_zeros(monkeypatch):
    monkeypatch.setattr(
        convolution.Downsampling, "__call__", lambda self, x, past: (self._inner(x, past[:1])[0], past)
    )
    assert_rejected(CODES)


def test_another_activation_between_convolutions(monkeypatch):
    monkeypatch.setattr(convolution.functional, "elu_", torch.relu_)
    assert_rejected(ALL)


def test_the_approximate_gelu(monkeypatch):
    """Its 5e-4 stay under the limit of the samples, but choose other centroids."""
    monkeypatch.setattr(transformer.functional, "gelu", lambda x: torch.ops.aten.gelu(x, approximate="tanh"))
    assert_rejected(CODES)
