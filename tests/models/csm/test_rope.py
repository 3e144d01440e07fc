import math

import torch

from models.csm.rope import rope_table
from models.csm.shapes import CSM_1B, RopeScaling


def frequencies(table):
    """Of each pair, from the first row's angle."""
    return torch.atan2(table[1, :, 1].double(), table[1, :, 0].double())


def test_row_0_turns_nothing():
    table = rope_table(64, 3, RopeScaling())
    assert table.shape == (3, 32, 2) and table.dtype == torch.float32
    assert torch.equal(table[0, :, 0], torch.ones(32)) and not table[0, :, 1].any()


def test_short_wavelengths_stay_and_long_ones_are_stretched():
    """Of the backbone's 32 pairs 15 stay, 14 are divided by 32, 3 blended; of the decoder's 64: 29, 29, 6."""
    for part, kept, stretched in ((CSM_1B.backbone, 15, 14), (CSM_1B.decoder, 29, 29)):
        plain = 500_000.0 ** -(torch.arange(0, part.head_dim, 2).double() / part.head_dim)
        ratio = plain / frequencies(rope_table(part.head_dim, 2, CSM_1B.rope))
        assert int((ratio - 1).abs().lt(1e-4).sum()) == kept
        assert int((ratio - 32).abs().lt(0.02).sum()) == stretched
        assert torch.all(ratio.diff() > -1e-3)


def test_every_row_is_its_number_times_the_frequency():
    table = rope_table(128, 2048, RopeScaling()).double()
    steps = torch.view_as_complex(table[1].contiguous())
    for row in (2, 100, 2047):
        turned = torch.view_as_complex(table[row].contiguous())
        assert (turned - steps**row).abs().max() < row * 2e-7


def test_the_blend_is_continuous():
    scaling = RopeScaling(base=10_000.0, factor=8.0, original_rows=1024)
    found = frequencies(rope_table(512, 2, scaling))
    assert torch.all(found.diff() < 1e-7), "frequencies fall from pair to pair"
    assert math.isclose(found[-1] * 8, 10_000 ** -(510 / 512), rel_tol=1e-3)
