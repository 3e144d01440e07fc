import torch

from models.mimi.config import MIMI_TINY
from models.mimi.quantizer import Codebooks, Dequantizer, Quantizer
from models.mimi.random_mimi import RandomSource


class Unused(RandomSource):
    """Some entries of the second codebook were never used in training."""

    def __getitem__(self, name):
        tensor = super().__getitem__(name)
        if name == "quantizer.rvq_rest.vq.layers.0._codebook.cluster_usage":
            tensor = tensor.clone()
            tensor[:3] = torch.tensor([0.0, 1e-7, 2e-5])
        return tensor


def test_entries_that_were_hardly_used_are_divided_by_moshis_epsilon():
    source = Unused(0, MIMI_TINY)
    total = source["quantizer.rvq_rest.vq.layers.0._codebook.embedding_sum"]
    found = Codebooks(source).of(1)[:3]
    torch.testing.assert_close(found, total[:3] / torch.tensor([[1e-5], [1e-5], [2e-5]]))


def test_codes_come_back_from_what_they_stand_for():
    """Each stage is the nearest entry to what the stages before have left."""
    source = RandomSource(0, MIMI_TINY)
    books = Codebooks(source)
    latents = torch.randn(2, 3, MIMI_TINY.dim, generator=torch.Generator().manual_seed(0))
    codes = Quantizer(source, books)(latents)
    project = source["quantizer.rvq_rest.input_proj.weight"][:, :, 0]
    left = (latents @ project.T).double()
    for codebook in range(1, 32):
        distances = torch.cdist(left, books.of(codebook).double().expand(2, -1, -1))
        chosen = distances.gather(2, codes[:, :, codebook, None])[..., 0]
        assert (chosen - distances.amin(2)).max() < 1e-4
        left = left - books.of(codebook).double()[codes[:, :, codebook]]
    assert Dequantizer(source, books)(codes).shape == latents.shape
