from collections import Counter

import pytest
import torch

from models.csm.building import Builder
from models.csm.model import CsmModel
from models.csm.names import tensor_shapes
from models.csm.random_weights import RandomTensors
from models.csm.shapes import AUDIO_VOCABULARY, CODEBOOKS, CSM_TINY

CPU = torch.device("cpu")


class Counted:
    def __init__(self):
        self.reads = Counter()
        self._source = RandomTensors(CSM_TINY)

    def __contains__(self, name):
        return name in self._source

    def __getitem__(self, name):
        self.reads[name] += 1
        return self._source[name]


@pytest.mark.parametrize("weights", ["full", "w8a8", "int8"])
def test_every_tensor_is_read_once(weights):
    source = Counted()
    CsmModel(CSM_TINY, source, weights=weights)
    assert source.reads == Counter(dict.fromkeys(tensor_shapes(CSM_TINY), 1))


def test_heads_in_eight_bits_lie_as_the_product_wants_them():
    """A checkpoint has them inputs first; turned round, they must not be copied at each call."""
    builder = Builder("int8", torch.bfloat16, CPU)
    heads = builder.audio_heads(RandomTensors(CSM_TINY)["audio_head"].bfloat16())
    assert len(heads) == CODEBOOKS - 1
    for head in heads:
        assert head._weight.is_contiguous() and head._has_kernel
        assert head._weight.shape == (AUDIO_VOCABULARY, CSM_TINY.decoder.dim)


def test_the_input_table_is_the_projected_embeddings():
    source = RandomTensors(CSM_TINY)
    embeddings, projection = source["audio_embeddings.weight"], source["projection.weight"]
    expected = embeddings[: (CODEBOOKS - 1) * AUDIO_VOCABULARY].float() @ projection.float().T
    whole = Builder("full", torch.float32, CPU).input_table(embeddings, projection)
    torch.testing.assert_close(whole, expected, rtol=1e-5, atol=1e-5)
    for builder in (Builder("w8a8", torch.float32, CPU), Builder("full", torch.bfloat16, CPU)):
        table = builder.input_table(embeddings, projection)
        assert table.dtype == torch.bfloat16
        torch.testing.assert_close(table.float(), expected, rtol=1e-2, atol=1e-2)


def test_tables_are_copies_no_wider_than_what_was_read():
    tensor = torch.randn(5, 4)
    whole = Builder("full", torch.float32, CPU).table(tensor)
    assert torch.equal(whole, tensor) and whole.data_ptr() != tensor.data_ptr()
    assert Builder("full", torch.float32, CPU).table(tensor.bfloat16()).dtype == torch.bfloat16
    assert Builder("w8a8", torch.float32, CPU).table(tensor).dtype == torch.bfloat16


def test_a_head_multiplies_from_its_input_side():
    heads = RandomTensors(CSM_TINY)["audio_head"]
    products = Builder("full", torch.float32, CPU).audio_heads(heads)
    x = torch.randn(2, CSM_TINY.decoder.dim)
    assert len(products) == CODEBOOKS - 1
    torch.testing.assert_close(products[6](x), x @ heads[6].float(), rtol=1e-5, atol=1e-5)
